"""`scar put`, `scar get`: files to and from a bucket, trees kept, nothing half-written, hostile names refused.

`put` always uploads: an object that is made anew starts its function anew. `get` leaves a file alone that is the object already, so that the same
command continues one that was interrupted, and one that differs, unless told to overwrite it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scar.commands.common import connect
from scar.errors import ConflictError, NotFoundError, ScarError, UsageError
from scar.limits import OBJECT_KEY_BYTES
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.objects import Download, Object, Upload
    from scar.cli import Context

NAME_BYTES = 255  # of one file in a folder, on every file system that matters


def put(context: Context, args: Namespace) -> int:
    """Upload files as `folder/name`, and folders' whole trees below `folder/`; with `--wait` also see what they start."""
    from scar.aws.objects import upload

    bucket, folder = split(args.bucket)
    if args.timeout is not None and not args.wait:
        raise UsageError("--timeout is of --wait", fix="Say --wait too, or leave --timeout out.")
    uploads = _checked(context, args.path, folder)
    total = sum(item.path.stat().st_size for item in uploads)
    aws, _ = connect(context)
    if args.wait:
        from scar.commands import landing  # which is half of this command's own start

        expected = landing.expected_runs(aws, bucket, [item.key for item in uploads])
    if args.dry_run:
        return _would_put(context, bucket, uploads, total)
    landed = landing.watch(aws, bucket, expected) if args.wait else None
    with context.report.progress(f"uploading {plural(len(uploads), 'file')}", total) as progress:
        upload(aws, bucket, uploads, progress)
    done = {"bucket": bucket, "uploaded": [item.key for item in uploads], "bytes": total}
    if not context.report.json:
        context.report.line(_put_text(args.path, bucket, folder, uploads, total))
    if landed is not None:
        return landing.wait_for_runs(context, aws, bucket, expected, done, landed=landed, timeout_s=args.timeout)
    if context.report.json:
        context.report.document(done)
    return 0


def _would_put(context: Context, bucket: str, uploads: Iterable[Upload], total: int) -> int:
    if context.report.json:
        keys = [item.key for item in uploads]
        context.report.document({"bucket": bucket, "would_upload": keys, "bytes": total})
        return 0
    for item in uploads:
        context.report.line(f"would upload {item.path} → s3://{bucket}/{item.key}")
    return 0


def _put_text(paths: list[Path], bucket: str, folder: str, uploads: list[Upload], total: int) -> str:
    if len(uploads) == 1:
        return f"{uploads[0].path} → s3://{bucket}/{uploads[0].key}  ({size(total)})"
    names = str(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"
    return f"{names} → s3://{bucket}/{folder}  ({plural(len(uploads), 'file')}, {size(total)})"


def get(context: Context, args: Namespace) -> int:
    """Download an object, or all below a folder, to PATH/key."""
    from scar.aws.objects import download, objects_below

    bucket, path = split(args.bucket)
    if str(args.path) == "-":
        return _to_standard_output(context, bucket, path)
    if args.path.exists() and not args.path.is_dir():
        raise UsageError(
            f"{args.path} is a file", fix="Name the folder to write to; each object keeps its key below it."
        )
    aws, _ = connect(context)
    root = args.path.absolute()
    plan = _Plan(root, force=args.force)
    for item in objects_below(aws, bucket, path):
        plan.add(item)
    if plan.empty:
        raise _nothing(bucket, path)
    total = sum(item.object.size for item in plan.downloads)
    if not args.dry_run and plan.downloads:
        with context.report.progress(f"downloading {plural(len(plan.downloads), 'object')}", total) as progress:
            download(aws, bucket, plan.downloads, progress)
    _tell_get(context, bucket, path, plan, total, dry_run=args.dry_run)
    plan.complain()
    return 0


@dataclass(slots=True)
class _Plan:
    """Where each object is to lie, and why some are not to."""

    root: Path
    force: bool
    downloads: list[Download] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # key → why
    _files: set[Path] = field(default_factory=set)
    _folders: set[Path] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        return not (self.downloads or self.same or self.differ or self.refused)

    def add(self, item: Object) -> None:
        from scar.aws.objects import Download, same

        why = refusal(self.root, item.key) or self._clash(item.key)
        if why is not None:
            self.refused[item.key] = why
            return
        place = self.root / item.key
        self._files.add(place)
        self._folders.update(place.relative_to(self.root).parents)
        if place.exists() and same(place, item):
            self.same.append(item.key)
        elif place.exists() and not self.force:
            self.differ.append(item.key)
        else:
            self.downloads.append(Download(item, place))

    def _clash(self, key: str) -> str | None:
        """`a` and `a/b` are two objects, and cannot be two files."""
        place = self.root / key
        if Path(key) in self._folders or any(parent in self._files for parent in place.parents):
            return "another object needs this name for a folder, or is the file that this one's folder would be"
        return None

    def complain(self) -> None:
        """Raises ScarError for what hostile keys would have done, else ConflictError for files that would have been overwritten."""
        if self.refused:
            why = "; ".join(f"{key!r}: {reason}" for key, reason in list(self.refused.items())[:5])
            more = f"; … and {len(self.refused) - 5} more" if len(self.refused) > 5 else ""
            raise ScarError(f"{plural(len(self.refused), 'object')} not downloaded: {why}{more}")
        if self.differ:
            raise ConflictError(
                f"{plural(len(self.differ), 'file')} there already and different, left as they are: "
                f"{', '.join(repr(key) for key in self.differ[:5])}{' …' if len(self.differ) > 5 else ''}",
                fix="Overwrite them with --force, or name another folder with -p.",
            )


def _tell_get(context: Context, bucket: str, path: str, plan: _Plan, total: int, *, dry_run: bool) -> None:
    report = context.report
    if report.json:
        done = {
            "bucket": bucket,
            "would_download" if dry_run else "downloaded": [str(item.path) for item in plan.downloads],
            "refused": list(plan.refused),
            "unchanged": plan.same,
            "kept": plan.differ,
            "bytes": total,
        }
        report.document(done)
        return
    if dry_run:
        for item in plan.downloads:
            report.line(
                f"would download s3://{bucket}/{item.object.key} → {_shown(item.path)}  ({size(item.object.size)})"
            )
    elif len(plan.downloads) == 1:
        [item] = plan.downloads
        report.line(f"s3://{bucket}/{item.object.key} → {_shown(item.path)}  ({size(total)})")
    elif plan.downloads:
        count = plural(len(plan.downloads), "object")
        report.line(f"s3://{bucket}/{path} → {_shown(plan.root)}{os.sep}  ({count}, {size(total)})")
    if plan.same:
        report.say(f"{plural(len(plan.same), 'file')} there already and the same")


def _to_standard_output(context: Context, bucket: str, key: str) -> int:
    from scar.aws.objects import content, one

    if context.report.json:
        raise UsageError("-p - writes the object itself to standard output", fix="Leave -o json out.")
    aws, _ = connect(context)
    found = one(aws, bucket, key) if key else None
    if found is None:
        raise NotFoundError(
            f"s3://{bucket}/{key} is no object", fix=f"-p - takes one object. See what is there: scar ls -b {bucket}"
        )
    for piece in content(aws, bucket, found):
        context.report.raw(piece)
    return 0


def _nothing(bucket: str, path: str) -> NotFoundError:
    return NotFoundError(f"s3://{bucket}/{path} holds no object", fix=f"See what is there: scar ls -b {bucket}")


def list_objects(context: Context, bucket_path: str) -> int:
    """`scar ls -b`: the objects of a bucket or folder."""
    from scar.aws.objects import objects_below

    bucket, path = split(bucket_path)
    aws, _ = connect(context)
    if context.report.json:
        context.report.documents(map(_row, objects_below(aws, bucket, path)))
        return 0
    rows = [_row(item) | {"size": size(item.size)} for item in objects_below(aws, bucket, path)]
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


def _checked(context: Context, paths: Iterable[Path], folder: str) -> list[Upload]:
    """What is to be uploaded. Raises UsageError when two files would become one object."""
    uploads = [item for path in paths for item in _uploads(context, path, folder)]
    twice = [key for key, count in Counter(item.key for item in uploads).items() if count > 1]
    if twice:
        raise UsageError(
            f"several files would become the object {twice[0]!r}",
            fix="Put them into different folders, one command for each; a folder's own tree is kept.",
        )
    return uploads


def _uploads(context: Context, path: Path, folder: str) -> Iterator[Upload]:
    from scar.aws.objects import Upload

    start = f"{folder}/" if folder else ""
    if path.is_file():
        yield Upload(path, _key(start + path.name))
    elif path.is_dir():
        count = 0
        for item in _tree(context, path):
            count += 1
            yield Upload(item, _key(start + item.relative_to(path).as_posix()))
        if not count:
            raise NotFoundError(f"{path} holds no file")
    elif path.exists():
        raise UsageError(f"{path} is neither a file nor a folder")
    else:
        raise NotFoundError(f"{path}: no such file or folder")


def _tree(context: Context, path: Path) -> Iterator[Path]:
    """The files below, in the order of their names. What is no file, and a link to a folder, is told and left out."""

    def unreadable(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(path, onerror=unreadable):
        folders.sort()
        here = Path(folder)
        for name in [name for name in folders if (here / name).is_symlink()]:
            context.report.complain(f"left out: {here / name} is a link to a folder")
        for name in sorted(names):
            item = here / name
            try:
                regular = stat.S_ISREG(item.stat().st_mode)
            except FileNotFoundError:
                regular = False  # a link to nothing
            if regular:
                yield item
            else:
                context.report.complain(f"left out: {item} is no regular file")


def _key(name: str) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{name!r}: the file name is not UTF-8, so no object key can hold it") from error
    if length > OBJECT_KEY_BYTES:
        raise UsageError(f"the key {name[:60]!r}… is {length} bytes long, S3 allows {OBJECT_KEY_BYTES}")
    return name


def refusal(root: Path, key: str) -> str | None:
    """Why no file below `root` can be this object's: it must stay there, pass through no link, and be a path that can be."""
    parts = key.split("/")
    if key.startswith("/") or "\0" in key or any(part in {"", ".", ".."} for part in parts):
        return f"the key would leave {_shown(root)}, or is no path"
    if any(len(part.encode()) > NAME_BYTES for part in parts):
        return f"a part of the key is longer than {NAME_BYTES} bytes, as no file's name can be"
    place = root
    for index, part in enumerate(parts):
        place /= part
        if place.is_symlink():
            return f"{_shown(place)} is a link"
        if index < len(parts) - 1 and place.exists() and not place.is_dir():
            return f"{_shown(place)} is a file"
    return f"{_shown(place)} is a folder" if place.is_dir() else None


def _shown(path: Path) -> str:
    """A path as the user would type it: relative when it lies here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def existing(aws: Aws, bucket: str, path: str) -> Iterator[Object]:
    """The objects of a folder, or the one object. Raises NotFoundError."""
    from scar.aws.objects import objects_below

    found = False
    for item in objects_below(aws, bucket, path):
        found = True
        yield item
    if not found:
        raise _nothing(bucket, path)
