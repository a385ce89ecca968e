"""The ordinary way of files to and from a bucket: s3transfer over botocore's client, with its parts, its patience and its messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError
from s3transfer.exceptions import RetriesExceededError
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from scar.aws import digests
from scar.aws.errors import code_of
from scar.errors import ServiceError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.objects import Object

Heard = Callable[[int], None]

# The queue to the disk holds 256 KiB pieces: s3transfer's default of 1000 would let 256 MiB wait for a slow disk.
_TRANSFER: Final = TransferConfig(max_request_concurrency=16, max_submission_concurrency=8, max_io_queue_size=64)


class Ordinary:
    """Carries one file at a call, from any number of threads; parts of all files share its own threads."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._client, self._bucket = aws.s3, bucket
        self._manager = TransferManager(aws.s3, _TRANSFER)
        # Of the whole object, not of its parts' checksums: only such a one lets whoever reads it in other ranges verify it.
        wanted = getattr(aws.s3.meta.config, "request_checksum_calculation", "") == "when_supported"
        self._checksum = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if wanted else {}

    def put(self, path: Path, key: str, more: Mapping[str, str], heard: Heard) -> None:
        arguments = {**more, **self._checksum}
        future = self._manager.upload(str(path), self._bucket, key, extra_args=arguments, subscribers=[_Counted(heard)])
        try:
            future.result()
        except ClientError as error:
            if code_of(error) != "NoSuchUpload" or not self._is_there(path, key):
                raise

    def _is_there(self, path: Path, key: str) -> bool:
        """An upload that S3 does not know any more may be complete: when the answer was lost that told so, and botocore asked again."""
        try:
            there = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError:
            return False
        return digests.matches(path, there["ETag"], there["ContentLength"])

    def get(self, item: Object, path: Path, heard: Heard) -> None:
        subscribers = [_Known(item), _Counted(heard)]
        try:
            self._manager.download(self._bucket, item.key, str(path), subscribers=subscribers).result()
        except RetriesExceededError as error:
            raise ServiceError(
                f"s3://{self._bucket}/{item.key} does not arrive whole: {error.last_exception}",
                fix="Check the network and the proxy, then run the same command again.",
            ) from error

    def close(self, *, cancel: bool) -> None:
        self._manager.shutdown(cancel=cancel, cancel_msg="interrupted" if cancel else "")


class _Known(BaseSubscriber):
    """Spares s3transfer the HeadObject per file: the listing already said size and ETag."""

    def __init__(self, item: Object) -> None:
        self._item = item

    def on_queued(self, future: TransferFuture, **_: Any) -> None:
        future.meta.provide_transfer_size(self._item.size)
        future.meta.provide_object_etag(self._item.etag)


class _Counted(BaseSubscriber):
    """Adds up the bytes of one transfer; s3transfer calls from many threads."""

    def __init__(self, heard: Heard) -> None:
        self._heard, self._done = heard, 0
        self._lock = threading.Lock()

    def on_progress(self, future: TransferFuture, bytes_transferred: int, **_: Any) -> None:
        with self._lock:
            self._done += bytes_transferred
            done = self._done
        self._heard(done)
