"""How much an image unpacks to: Lambda counts that, and nobody writes it down.

Neither a manifest nor a configuration tells it, so large images are counted while their layers are sent: a second reading would
cost more than it is worth. What is at the registry already is taken by the last four bytes of its gzip file, which hold the size
modulo 4 GiB: never too much. Images below a tenth of the limit are not counted: no image of files is compressed that well.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from scar.errors import ScarError
from scar.limits import LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.compress import GZIP_MAGIC

COUNTED_FROM: Final = 10  # the limit divided by this
_PIECE: Final = 64 << 10
SIZE_BYTES: Final = 4  # RFC 1952, ISIZE


class Budget:
    """What the layers of one image may unpack to together. For any number of threads."""

    def __init__(self, layers: tuple[oci.Blob, ...], *, limit: int = LAMBDA_IMAGE_BYTES) -> None:
        self._limit = limit
        self._known = {blob.descriptor.digest: blob.descriptor.size for blob in layers}
        self._times = {digest: sum(blob.descriptor.digest == digest for blob in layers) for digest in self._known}
        self.is_counting = sum(blob.descriptor.size for blob in layers) > limit // COUNTED_FROM
        self._lock = threading.Lock()

    def watched(self, blob: oci.Blob) -> oci.Blob:
        """The same blob, which raises ScarError while it is read when it is no gzip file, or the sum passes the limit."""
        count = _Count(blob.descriptor.digest, self.at_least) if self.is_counting else None

        def watch(chunks: Iterator[bytes], position: int) -> Iterator[bytes]:
            is_gzip = position > 0
            for chunk in chunks:
                is_gzip = is_gzip or chunk.startswith(GZIP_MAGIC)
                if count is not None and is_gzip:
                    count.feed(position, chunk)
                position += len(chunk)
                yield chunk
            if not is_gzip:  # told when its digest has been found right: a damaged blob is another matter
                raise ScarError(
                    "a layer is said to be gzip-compressed and is not; Lambda would refuse the image",
                    where=blob.descriptor.digest,
                    fix="Push the image again with a current tool.",
                )

        open_at = blob.open_at
        return replace(
            blob,
            open=lambda: watch(blob.open(), 0),
            open_at=None if open_at is None else lambda start: watch(open_at(start), start),
        )

    def arrived(self, blob: oci.Blob, tail: bytes | None) -> None:
        """A layer that is there without having been read; `tail` is its last four bytes, where they could be had."""
        if tail is not None and len(tail) == SIZE_BYTES:
            self.at_least(blob.descriptor.digest, int.from_bytes(tail, "little"))

    def at_least(self, digest: str, unpacked_bytes: int) -> None:
        with self._lock:
            self._known[digest] = max(self._known[digest], unpacked_bytes)
            total = sum(size * self._times[known] for known, size in self._known.items())
        if total > self._limit:
            raise ScarError(
                f"the image unpacks to more than the {self._limit / 2**30:.0f} GiB that Lambda takes",
                fix="Make the image smaller. What was sent stays unused in the repository, under no name.",
            )


class _Count:
    """What a gzip file unpacks to, counted once however often a cut upload makes it be read again."""

    def __init__(self, digest: str, at_least: Callable[[str, int], None]) -> None:
        self._digest, self._at_least = digest, at_least
        self._read = self._unpacked = 0
        self._member = zlib.decompressobj(31)

    def feed(self, position: int, chunk: bytes) -> None:
        fresh = chunk[max(self._read - position, 0) :]
        self._read = max(self._read, position + len(chunk))
        before = self._unpacked
        try:
            for first in range(0, len(fresh), _PIECE):
                self._inflate(fresh[first : first + _PIECE])
        except zlib.error as error:
            raise ScarError(f"damaged gzip data: {error}", where=self._digest) from error
        if self._unpacked > before:
            self._at_least(self._digest, self._unpacked)

    def _inflate(self, data: bytes) -> None:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding between members and at the end
                if not data:
                    return
                self._member = zlib.decompressobj(31)
            self._unpacked += len(self._member.decompress(data, oci.CHUNK))
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
