"""Objects of a bucket: list, upload, download. Streams through s3transfer, so memory follows part size and not file size."""

from __future__ import annotations

import functools
import hashlib
import mimetypes
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from scar.aws.errors import is_absent, told
from scar.errors import ScarError

if TYPE_CHECKING:
    from scar.aws.clients import Aws

Tell = Callable[[int, int, str], None]

# The queue to the disk holds 256 KiB pieces: s3transfer's default of 1000 would let 256 MiB wait for a slow disk.
_TRANSFER = TransferConfig(max_request_concurrency=16, max_submission_concurrency=8, max_io_queue_size=64)
_AHEAD: Final = 1000


@dataclass(frozen=True, slots=True)
class Object:
    """One object as a listing tells it. `etag` is quoted, as S3 gives it."""

    key: str
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Download:
    object: Object
    path: Path


def objects_below(aws: Aws, bucket: str, path: str) -> Iterator[Object]:
    """Objects at or below `path`: the key itself, or all in the folder `path/` (so `in` never means `input2/…`).

    Folder markers are left out. One call for every 1000 keys (s3:ListObjectsV2).
    """
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=path)
    for page in pages:
        for item in page.get("Contents", ()):
            key = item["Key"]
            inside = not path or path.endswith("/") or key == path or key[len(path)] == "/"
            if inside and not key.endswith("/"):
                yield Object(key, item["Size"], item["LastModified"], item["ETag"])


def one(aws: Aws, bucket: str, key: str) -> Object | None:
    """The object of exactly this key (s3:HeadObject); None when there is none."""
    try:
        found = aws.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    return Object(key, found["ContentLength"], found["LastModified"], found["ETag"])


def content(aws: Aws, bucket: str, item: Object) -> Iterator[bytes]:
    """What is in an object, piece by piece; of the version that was listed, or an error."""
    answer = aws.s3.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag)
    yield from answer["Body"].iter_chunks(1 << 20)


def upload(aws: Aws, bucket: str, uploads: Iterable[Upload], tell: Tell) -> int:
    """Upload all, in parallel; answers how many. An object appears whole or not at all: interrupted parts are thrown away.

    Raises ScarError naming each file that did not arrive.
    """
    with TransferManager(aws.s3, _TRANSFER) as manager:

        def start(item: Upload) -> TransferFuture:
            return manager.upload(
                str(item.path),
                bucket,
                item.key,
                extra_args=_content_type(item.key),
                subscribers=[_Counted(tell, item.key, item.path.stat().st_size)],
            )

        return _all(((str(item.path), start, item) for item in uploads), "not uploaded")


def download(aws: Aws, bucket: str, downloads: Iterable[Download], tell: Tell) -> int:
    """Download all, in parallel. A file appears whole or not at all, and is the version that was listed."""
    with TransferManager(aws.s3, _TRANSFER) as manager:

        def start(item: Download) -> TransferFuture:
            item.path.parent.mkdir(parents=True, exist_ok=True)
            return manager.download(
                bucket,
                item.object.key,
                str(item.path),
                subscribers=[_Known(item.object), _Counted(tell, item.object.key, item.object.size)],
            )

        return _all(((item.object.key, start, item) for item in downloads), "not downloaded")


T = TypeVar("T")


def _all(items: Iterable[tuple[str, Callable[[T], TransferFuture], T]], what: str) -> int:
    """Start each, a bounded number ahead of the oldest that is under way, so that a million take no more memory than a thousand."""
    failed: list[str] = []
    first: Exception | None = None
    count = 0
    ahead: deque[tuple[str, TransferFuture]] = deque()

    def settle(name: str, result: Callable[[], object]) -> object:
        nonlocal first
        try:
            return result()
        except Exception as error:  # noqa: BLE001 - one bad file must not hide the fate of the others
            first = first or error
            failed.append(f"{name}: {error}")
            return None

    for count, (name, start, item) in enumerate(items, 1):  # noqa: B007 - the last count is the answer
        future = settle(name, functools.partial(start, item))
        if isinstance(future, TransferFuture):
            ahead.append((name, future))
        if len(ahead) >= _AHEAD:
            oldest, under_way = ahead.popleft()
            settle(oldest, under_way.result)
    for name, future in ahead:
        settle(name, future.result)
    if first is not None and count == 1:
        raise first
    if failed:
        shown = "\n  ".join(failed[:10]) + (f"\n  … and {len(failed) - 10} more" if len(failed) > 10 else "")
        kind = type(told(first, "")) if isinstance(first, ClientError | BotoCoreError) else ScarError
        raise kind(f"{len(failed)} of {count} {what}:\n  {shown}") from first
    return count


def same(path: Path, item: Object) -> bool:
    """Whether a file is what the object is, as far as size and ETag can tell: encrypted with KMS an object's ETag tells nothing.

    The ETag of what came in parts is the digest of the parts' digests; the size of a part is one that tools use.
    Source: AmazonS3/latest/userguide/checking-object-integrity-upload, "Using Content-MD5 and the ETag".
    """
    if path.stat().st_size != item.size:
        return False
    digest, _, parts = item.etag.strip('"').partition("-")
    if not parts:
        return _md5_of_parts(path, None) == digest
    count = int(parts) if parts.isdecimal() else 0
    sizes = (size for size in _PART_SIZES if count and -(-item.size // size) == count)
    return any(_md5_of_parts(path, size) == digest for size in sizes)


_PART_SIZES: Final = tuple(size << 20 for size in (8, 5, 16, 15, 10, 20, 32, 50, 64, 100, 128, 256, 512))


def _md5_of_parts(path: Path, part_bytes: int | None) -> str:
    whole, parts = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        left = part_bytes or 0
        while piece := file.read(min(1 << 20, left) if part_bytes else 1 << 20):
            whole.update(piece)
            left -= len(piece)
            if part_bytes and left == 0:
                parts.update(whole.digest())
                whole, left = hashlib.md5(usedforsecurity=False), part_bytes
    if part_bytes is None:
        return whole.hexdigest()
    if left != part_bytes:
        parts.update(whole.digest())
    return parts.hexdigest()


def _content_type(key: str) -> dict[str, str]:
    kind, encoding = mimetypes.guess_type(key)
    return {"ContentType": kind} if kind and not encoding else {}


class _Known(BaseSubscriber):
    """Spares s3transfer the HeadObject per file: the listing already said size and ETag."""

    def __init__(self, item: Object) -> None:
        self._item = item

    def on_queued(self, future: TransferFuture, **_: Any) -> None:
        future.meta.provide_transfer_size(self._item.size)
        future.meta.provide_object_etag(self._item.etag)


class _Counted(BaseSubscriber):
    """Adds up the bytes of one transfer; s3transfer calls from many threads."""

    def __init__(self, tell: Tell, name: str, total: int) -> None:
        self._tell, self._name, self._total = tell, name, total
        self._done = 0
        self._lock = threading.Lock()

    def on_progress(self, future: TransferFuture, bytes_transferred: int, **_: Any) -> None:
        with self._lock:
            self._done += bytes_transferred
            done = self._done
        self._tell(done, self._total, self._name)
