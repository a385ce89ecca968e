"""`scar put`, `scar get`: files to and from a bucket, trees kept, nothing half-written, hostile names refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scar.commands.common import connect
from scar.errors import NotFoundError, ScarError, UsageError
from scar.limits import OBJECT_KEY_BYTES
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.objects import Object, Upload
    from scar.cli import Context


def put(context: Context, args: Namespace) -> int:
    """Upload a file as `folder/name`, or a folder's whole tree below `folder/`."""
    from scar.aws.objects import upload

    bucket, folder = split(args.bucket)
    uploads = [item for path in args.path for item in _uploads(path, folder)]
    total = sum(item.path.stat().st_size for item in uploads)
    aws, _ = connect(context)
    with context.report.progress(f"uploading {plural(len(uploads), 'file')}") as progress:
        upload(aws, bucket, uploads, progress)
    if context.report.json:
        context.report.document({"bucket": bucket, "uploaded": [item.key for item in uploads], "bytes": total})
    elif len(uploads) == 1:
        context.report.line(f"{args.path[0]} → s3://{bucket}/{uploads[0].key}  ({size(total)})")
    else:
        context.report.line(f"{args.path[0]} → s3://{bucket}/{folder}  ({plural(len(uploads), 'file')}, {size(total)})")
    return 0


def get(context: Context, args: Namespace) -> int:
    """Download an object, or all below a folder, to PATH/key."""
    from scar.aws.objects import Download, download, objects_below

    bucket, path = split(args.bucket)
    aws, _ = connect(context)
    found = list(objects_below(aws, bucket, path))
    if not found:
        raise NotFoundError(
            f"s3://{bucket}/{path} holds no object",
            fix=f"See what is there: scar ls -b {args.bucket.partition('/')[0]}",
        )
    root = args.path.absolute()
    downloads = [Download(item, root / item.key) for item in found if _safe(root, item.key)]
    refused = [item.key for item in found if not _safe(root, item.key)]
    total = sum(item.object.size for item in downloads)
    with context.report.progress(f"downloading {plural(len(downloads), 'object')}") as progress:
        download(aws, bucket, downloads, progress)
    if context.report.json:
        context.report.document(
            {"bucket": bucket, "downloaded": [str(item.path) for item in downloads], "refused": refused, "bytes": total}
        )
    elif len(downloads) == 1:
        context.report.line(f"s3://{bucket}/{downloads[0].object.key} → {_shown(downloads[0].path)}  ({size(total)})")
    else:
        context.report.line(
            f"s3://{bucket}/{path} → {_shown(root)}{os.sep}  ({plural(len(downloads), 'object')}, {size(total)})"
        )
    if refused:
        raise ScarError(
            f"{plural(len(refused), 'object')} not downloaded, because the key would leave {_shown(root)} "
            f"or pass through a link: {', '.join(repr(key) for key in refused[:5])}",
        )
    return 0


def list_objects(context: Context, bucket_path: str) -> int:
    """`scar ls -b`: the objects of a bucket or folder."""
    from scar.aws.objects import objects_below

    bucket, path = split(bucket_path)
    aws, _ = connect(context)
    found = list(objects_below(aws, bucket, path))
    if context.report.json:
        context.report.document([_row(item) for item in found])
        return 0
    rows = [_row(item) | {"size": size(item.size)} for item in found]
    context.report.table(rows, ("key", "size", "modified"), empty=f"s3://{bucket}/{path} holds no object.")
    return 0


def _row(item: Object) -> dict[str, object]:
    return {"key": item.key, "size": item.size, "modified": item.modified.strftime("%Y-%m-%dT%H:%M:%SZ")}


def split(text: str) -> tuple[str, str]:
    """`bucket/folder/` or `s3://bucket/folder` → (bucket, folder without slashes at its ends)."""
    bucket, _, folder = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"{text!r} names no bucket", fix="Write it as bucket or bucket/folder.")
    return bucket, folder.strip("/")


def _uploads(path: Path, folder: str) -> Iterator[Upload]:
    from scar.aws.objects import Upload

    start = f"{folder}/" if folder else ""
    if path.is_file():
        yield Upload(path, _key(start + path.name))
    elif path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        if not files:
            raise NotFoundError(f"{path} holds no file")
        for item in files:
            yield Upload(item, _key(start + item.relative_to(path).as_posix()))
    else:
        raise NotFoundError(f"{path}: no such file or folder")


def _key(name: str) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{name!r}: the file name is not UTF-8, so no object key can hold it") from error
    if length > OBJECT_KEY_BYTES:
        raise UsageError(f"the key {name[:60]!r}… is {length} bytes long, S3 allows {OBJECT_KEY_BYTES}")
    return name


def _safe(root: Path, key: str) -> bool:
    """Whether `key` stays below `root`: no `..`, no absolute part, no NUL, and no link on the way or at the end."""
    parts = key.split("/")
    if key.startswith("/") or "\0" in key or any(part in {"", ".", ".."} for part in parts):
        return False
    place = root
    for part in parts:
        place /= part
        if place.is_symlink():
            return False
    return True


def _shown(path: Path) -> str:
    """A path as the user would type it: relative when it lies here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
