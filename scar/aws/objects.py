"""Objects of a bucket: list, upload, download. Streams through s3transfer, so memory follows part size and not file size."""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from scar.errors import ScarError

if TYPE_CHECKING:
    from scar.aws.clients import Aws

Tell = Callable[[int, int, str], None]

# The queue to the disk holds 256 KiB pieces: s3transfer's default of 1000 would let 256 MiB wait for a slow disk.
_TRANSFER = TransferConfig(max_request_concurrency=16, max_submission_concurrency=8, max_io_queue_size=64)


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


def upload(aws: Aws, bucket: str, uploads: Iterable[Upload], tell: Tell) -> int:
    """Upload all, in parallel; answers how many. Raises ScarError naming each file that did not arrive."""
    with TransferManager(aws.s3, _TRANSFER) as manager:
        sent = [
            (
                str(item.path),
                manager.upload(
                    str(item.path),
                    bucket,
                    item.key,
                    extra_args=_content_type(item.key),
                    subscribers=[_Counted(tell, item.key, item.path.stat().st_size)],
                ),
            )
            for item in uploads
        ]
        _finish(sent, "not uploaded")
    return len(sent)


def download(aws: Aws, bucket: str, downloads: Sequence[Download], tell: Tell) -> int:
    """Download all, in parallel. A file appears whole or not at all, and is the version that was listed."""
    for item in downloads:
        item.path.parent.mkdir(parents=True, exist_ok=True)
    with TransferManager(aws.s3, _TRANSFER) as manager:
        sent = [
            (
                item.object.key,
                manager.download(
                    bucket,
                    item.object.key,
                    str(item.path),
                    subscribers=[_Known(item.object), _Counted(tell, item.object.key, item.object.size)],
                ),
            )
            for item in downloads
        ]
        _finish(sent, "not downloaded")
    return len(sent)


def _finish(sent: Sequence[tuple[str, TransferFuture]], what: str) -> None:
    failed: list[str] = []
    first: Exception | None = None
    for name, future in sent:
        try:
            future.result()
        except Exception as error:  # noqa: BLE001 - one bad file must not hide the fate of the others
            first = first or error
            failed.append(f"{name}: {error}")
    if first is not None and len(sent) == 1:
        raise first
    if failed:
        shown = "\n  ".join(failed[:10]) + (f"\n  … and {len(failed) - 10} more" if len(failed) > 10 else "")
        raise ScarError(f"{len(failed)} of {len(sent)} {what}:\n  {shown}") from first


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
