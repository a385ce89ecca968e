"""How does an object become a file? Into a file beside it first, held against S3's checksum, then to its name in one step.

Small objects come in one request each, large ones in ranges side by side; where the short cut does not lead, s3transfer fetches.
Which version is meant is said with every request: an object that changes meanwhile is an error and no mixture.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scar.aws import digests
from scar.aws.direct import NotDirect
from scar.errors import ScarError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.direct import Answer, Direct
    from scar.aws.objects import Object

Heard = Callable[[int], None]
WHOLE_BYTES: Final = 16 << 20  # up to here an object comes in one request
_RANGE_BYTES: Final = 8 << 20
# Parts that are larger are not fetched as they are: too few would come side by side.
_LARGEST_RANGE_BYTES: Final = 64 << 20
_SMALL_ROOM_BYTES: Final = 64 << 10
_RANGE_ROOM_BYTES: Final = 1 << 20  # half the processor time of a quarter of it
RANGES: Final = 12  # at a time, of all objects together


class Stopped(Exception):  # noqa: N818 - what an interruption leaves behind in the threads; no user reads it
    """The command ends: nothing more is fetched."""


class Downloads:
    """Fetches objects of one bucket, from any number of threads. `ordinary` fetches one to a path, by the client."""

    def __init__(
        self, aws: Aws, bucket: str, direct: Direct | None, ordinary: Callable[[Object, Path, Heard], None]
    ) -> None:
        self._aws, self._bucket, self._direct, self._ordinary = aws, bucket, direct, ordinary
        self._ranges = ThreadPoolExecutor(RANGES, "ranges")
        self._stopped = threading.Event()
        self._rooms = threading.local()
        self._folders: set[Path] = set()
        # A folder takes one new name at a time. Threads that wait for that in the kernel spin, at three times the processor time.
        self._one = threading.Lock()

    def fetch(self, item: Object, path: Path, heard: Heard) -> None:
        """Raises ScarError when what came is not what S3 holds, twice."""
        with self._beside(path) as partial:
            if not self._fetched(item, partial, heard):
                self._check_stopped()
                for left in (1, 0):
                    heard(0)
                    self._ordinary(item, partial, heard)
                    if self._is(item, partial):
                        break
                    if not left:
                        raise ScarError(
                            f"s3://{self._bucket}/{item.key}: what arrives is not what S3 holds, its checksum differs",
                            fix="Something on the way alters it: a proxy, or memory that fails. Try again, or from elsewhere.",
                        )
            with self._one:
                partial.replace(path)

    def stop(self) -> None:
        """Whoever still fetches ends soon, with an error."""
        self._stopped.set()
        self._ranges.shutdown(wait=False, cancel_futures=True)
        if self._direct is not None:
            self._direct.close()

    def close(self) -> None:
        self._ranges.shutdown()
        if self._direct is not None:
            self._direct.close()

    def _fetched(self, item: Object, partial: Path, heard: Heard) -> bool:
        """Whether it came by the short cut, and is whole."""
        if self._direct is None:
            return False
        try:
            if item.size <= WHOLE_BYTES:
                return self._in_one(self._direct, item, partial, heard)
            return self._in_ranges(self._direct, item, partial, heard)
        except NotDirect:
            return False

    def _in_one(self, direct: Direct, item: Object, partial: Path, heard: Heard) -> bool:
        headers = {"if-match": item.etag, "x-amz-checksum-mode": "ENABLED"}
        with direct.answer("GET", item.key, headers) as answer, self._open(partial) as file:
            _same_version(answer, item)
            crc = digests.crc32_of(answer.headers)
            plain = digests.is_md5(self._bucket, item.etag, _encryption(answer.headers))
            md5 = hashlib.md5(usedforsecurity=False) if crc is None and plain and "-" not in item.etag else None
            came, value = 0, 0
            for piece in self._pieces(answer, _SMALL_ROOM_BYTES):
                file.write(piece)
                came += len(piece)
                if md5 is not None:
                    md5.update(piece)
                elif crc is not None:
                    value = zlib.crc32(piece, value)
                heard(came)
        if came != item.size:
            return False
        if md5 is not None:
            return md5.hexdigest() == item.etag.strip('"')
        if crc is not None:
            return value == crc
        return not plain or self._is(item, partial)

    def _in_ranges(self, direct: Direct, item: Object, partial: Path, heard: Heard) -> bool:
        """The checksum of the whole is put together from those of the ranges: none is read twice."""
        with direct.answer("HEAD", item.key, {"if-match": item.etag, "x-amz-checksum-mode": "ENABLED"}) as answer:
            crc = digests.crc32_of(answer.headers)
            plain = crc is None and digests.is_md5(self._bucket, item.etag, _encryption(answer.headers))
            answer.drain()
        sizes = [size for size in digests.part_sizes(item.size, item.etag) if size <= _LARGEST_RANGE_BYTES]
        in_parts = plain and bool(sizes)
        length = sizes[0] if in_parts else _RANGE_BYTES
        counted = _Counted(heard)
        with self._open(partial) as file:
            file.truncate(item.size)

            def one(start: int) -> tuple[int, bytes, int]:
                span = start, min(start + length, item.size)
                return self._range(direct, item, span, file=file.fileno(), counted=counted, with_md5=in_parts)

            under_way = [self._ranges.submit(one, start) for start in range(0, item.size, length)]
            try:
                got = [each.result() for each in under_way]
            finally:
                for each in under_way:
                    each.cancel()
                for each in under_way:
                    if not each.cancelled():
                        each.exception()  # until the last has left the file
        if crc is not None:
            return digests.crc32_joined((value, bytes_) for value, _, bytes_ in got) == crc
        if in_parts and digests.of_parts(digest for _, digest, _ in got) == item.etag.strip('"').partition("-")[0]:
            return True
        return not plain or self._is(item, partial)

    def _range(
        self, direct: Direct, item: Object, span: tuple[int, int], *, file: int, counted: _Counted, with_md5: bool
    ) -> tuple[int, bytes, int]:
        """Its CRC-32, its MD5 if that is asked for, and its length."""
        start, end = span
        at, value, md5 = start, 0, hashlib.md5(usedforsecurity=False)
        headers = {"if-match": item.etag, "range": f"bytes={start}-{end - 1}"}
        with direct.answer("GET", item.key, headers, expected=206) as answer:
            _same_version(answer, item)
            if answer.headers.get("content-range", "") != f"bytes {start}-{end - 1}/{item.size}":
                raise NotDirect
            for piece in self._pieces(answer, _RANGE_ROOM_BYTES):
                if at + len(piece) > end:
                    raise NotDirect
                os.pwrite(file, piece, at)
                if with_md5:
                    md5.update(piece)
                else:
                    value = zlib.crc32(piece, value)
                at += len(piece)
                counted(len(piece))
        if at != end:
            raise NotDirect
        return value, md5.digest(), end - start

    def _pieces(self, answer: Answer, room_bytes: int) -> Iterator[memoryview]:
        room: memoryview | None = getattr(self._rooms, "room", None)
        if room is None or len(room) < room_bytes:
            room = self._rooms.room = memoryview(bytearray(room_bytes))
        while count := answer.readinto(room):
            self._check_stopped()
            yield room[:count]

    @contextmanager
    def _beside(self, path: Path) -> Iterator[Path]:
        """A name in the same folder for what is not whole yet. Whatever happens, nothing stays there."""
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        partial = path.parent / f".scar-{secrets.token_hex(6)}"
        try:
            yield partial
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _open(self, path: Path) -> FileIO:
        with self._one:
            return path.open("wb", buffering=0)

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _is(self, item: Object, path: Path) -> bool:
        """Whether the file is the object, as far as S3 can say; it is asked only where the listing did not tell enough."""
        if digests.matches(path, item.etag, item.size):
            return True
        if path.stat().st_size != item.size:
            return False
        head = self._aws.s3.head_object
        told = head(Bucket=self._bucket, Key=item.key, IfMatch=item.etag, ChecksumMode="ENABLED")
        headers = told["ResponseMetadata"]["HTTPHeaders"]
        crc = digests.crc32_of(headers)
        if crc is not None:
            return digests.crc32_of_file(path) == crc
        if not digests.is_md5(self._bucket, item.etag, _encryption(headers)):
            return True
        if "-" not in item.etag:
            return False
        first = head(Bucket=self._bucket, Key=item.key, PartNumber=1)
        if "x-amz-mp-parts-count" not in first["ResponseMetadata"]["HTTPHeaders"]:
            return True  # a service that tells nothing of parts need not make its ETags of them either
        return digests.matches(path, item.etag, item.size, [first["ContentLength"]])


def _same_version(answer: Answer, item: Object) -> None:
    """Not every service of S3's language heeds If-Match, and some leave the quotes away in lists."""
    if answer.headers.get("etag", item.etag).strip('"') != item.etag.strip('"'):
        raise NotDirect


def _encryption(headers: Any) -> str:
    """'' when S3 says nothing, which is what other services of the same language do; AES256 keeps the ETag a digest."""
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return "customer"
    return str(headers.get("x-amz-server-side-encryption", ""))


class _Counted:
    """Adds up what comes in several threads."""

    def __init__(self, heard: Heard) -> None:
        self._heard, self._done = heard, 0
        self._lock = threading.Lock()

    def __call__(self, bytes_: int) -> None:
        with self._lock:
            self._done += bytes_
            done = self._done
        self._heard(done)
