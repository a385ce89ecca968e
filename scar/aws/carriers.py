"""Who carries files to and from a bucket? Threads that take the short way where there is one, and the ordinary way for all else."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

from scar.aws.digests import crc32_text
from scar.aws.direct import BLOCK_BYTES, Direct, NotDirect, noticing
from scar.aws.downloads import Downloads

if TYPE_CHECKING:
    from types import TracebackType

    from scar.aws.clients import Aws
    from scar.aws.objects import Object
    from scar.aws.ordinary import Ordinary

Heard = Callable[[int], None]
_WHOLE_BYTES: Final = 8 << 20  # what is larger is uploaded in parts
_THREADS: Final = 64  # so many small objects wait for S3 at a time
_READ_TWICE: Final = 16  # files at a time that are too large to be held: read for their digests, then sent


class Carriers:
    """Threads for one bucket, as long as the `with` block runs. When an error leaves it, what is under way is thrown away."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws, self._bucket = aws, bucket
        self._pool = ThreadPoolExecutor(_THREADS, "carry")
        self._direct = Direct.to(aws, bucket)
        self._read_twice = threading.BoundedSemaphore(_READ_TWICE)
        self._looked = self._direct is not None
        self._made: Ordinary | None = None
        self._lock = threading.Lock()
        self._downloads = Downloads(aws, bucket, self._direct, lambda *asked: self._ordinary().get(*asked))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._downloads.stop()
            if self._direct is not None:
                self._direct.close()
            if self._made is not None:
                self._made.close(cancel=True)
        self._pool.shutdown(cancel_futures=True)
        self._downloads.close()
        if self._made is not None and kind is None:
            self._made.close(cancel=False)
        if self._direct is not None:
            self._direct.close()

    def put(self, path: Path, bytes_: int, key: str, kind: str | None, heard: Heard) -> Future[None]:
        """Upload one file of so many bytes. The first that is not large goes alone: its request shows the way to the others."""
        if self._looked or bytes_ > _WHOLE_BYTES:
            return self._pool.submit(self._put, path, key, kind, heard, bytes_)
        self._looked = True
        with noticing(self._aws, self._bucket, key):
            self._put_ordinarily(path, key, kind, heard)
        self._direct = Direct.to(self._aws, self._bucket)
        there: Future[None] = Future()
        there.set_result(None)
        return there

    def get(self, item: Object, path: Path, heard: Heard) -> Future[None]:
        return self._pool.submit(self._downloads.fetch, item, path, heard)

    def _put(self, path: Path, key: str, kind: str | None, heard: Heard, bytes_: int) -> None:
        if bytes_ <= _WHOLE_BYTES and self._direct is not None and self._put_directly(self._direct, path, key, kind):
            heard(bytes_)
        else:
            self._put_ordinarily(path, key, kind, heard)

    def _put_directly(self, direct: Direct, path: Path, key: str, kind: str | None) -> bool:
        """S3 refuses what is not what was read here: by its checksum, and by the digest that the signature covers."""
        headers = {"content-type": kind} if kind else {}
        with path.open("rb", buffering=0) as file:
            first = file.read(BLOCK_BYTES) or b""
            if len(first) < BLOCK_BYTES:
                return _went(direct, key, {**headers, "content-length": str(len(first))}, first, zlib.crc32(first))
            with self._read_twice:
                value = zlib.crc32(first)
                while piece := file.read(BLOCK_BYTES):
                    value = zlib.crc32(piece, value)
                headers["content-length"] = str(file.tell())
                file.seek(0)
                return _went(direct, key, headers, file, value)

    def _put_ordinarily(self, path: Path, key: str, kind: str | None, heard: Heard) -> None:
        self._ordinary().put(path, key, {"ContentType": kind} if kind else {}, heard)

    def _ordinary(self) -> Ordinary:
        with self._lock:
            if self._made is None:
                from scar.aws.ordinary import Ordinary

                self._made = Ordinary(self._aws, self._bucket)
            return self._made


def _went(direct: Direct, key: str, headers: dict[str, str], body: bytes | IO[bytes], crc32: int) -> bool:
    try:
        with direct.answer("PUT", key, {**headers, "x-amz-checksum-crc32": crc32_text(crc32)}, body) as answer:
            answer.drain()
    except NotDirect:
        return False
    return True
