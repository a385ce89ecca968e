"""Layers as Lambda takes them: whatever they were, gzip; compressed once, kept in the cache under what they unpack to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, cast

from scar.errors import ScarError
from scar.limits import LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.cache import keep_layer
from scar.package.layer import Digests, GzipHashing
from scar.package.progress import Tell

ZSTD_SUFFIX: Final = "+zstd"
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW_BYTES: Final = 128 << 20


def compressed_layer(blob: oci.Blob, diff_id: str, *, cache: Path, tell: Tell) -> oci.Layer:
    """The layer in gzip, from a tar that is plain, gzip or zstd.

    Raises ScarError when it does not unpack to `diff_id`, or to more than an image may hold.
    """

    def build(out: IO[bytes]) -> tuple[Digests, Mapping[str, Any]]:
        stream = GzipHashing(out)
        done = 0
        for chunk in plain(blob.open(), blob.descriptor.digest):
            stream.write(chunk)
            done += len(chunk)
            tell(done, max(done, blob.descriptor.size), "compress")
        digests = stream.finish()
        if digests.diff_id != diff_id:
            raise ScarError(
                f"a layer unpacks to {digests.diff_id}; the image's configuration says {diff_id}",
                where=blob.descriptor.digest,
                fix="The image is damaged: save or push it again.",
            )
        return digests, {}

    return keep_layer(cache / "layers" / diff_id.replace(":", "-"), build).layer


def plain(chunks: Iterator[bytes], name: str, *, limit: int = LAMBDA_IMAGE_BYTES) -> Iterator[bytes]:
    """What the chunks unpack to, told by their first bytes; at most as much as an image may hold."""
    first = next(chunks, b"")
    chunks = chain((first,), chunks)
    if first.startswith(GZIP_MAGIC):
        unpacked = gunzip(chunks, name)
    elif first.startswith(ZSTD_MAGIC):
        unpacked = _unzstd(chunks, name)
    else:
        unpacked = chunks
    total = 0
    for chunk in unpacked:
        total += len(chunk)
        if total > limit:
            raise ScarError(f"it unpacks to more than {limit / 2**30:g} GiB", where=name)
        yield chunk


def gunzip(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Members one after another, as gzip allows; memory stays bounded however well they are compressed."""
    member = zlib.decompressobj(31)
    fed = False
    for chunk in chunks:
        data = chunk
        while data:
            if member.eof:
                data = data.lstrip(b"\0")  # padding between members and at the end
                if not data:
                    break
                member, fed = zlib.decompressobj(31), False
            try:
                unpacked = member.decompress(data, oci.CHUNK)
            except zlib.error as error:
                raise ScarError(f"damaged gzip data: {error}", where=name) from error
            fed = True
            if unpacked:
                yield unpacked
            data = member.unused_data if member.eof else member.unconsumed_tail
    while fed and not member.eof:  # what is still inside after the last byte went in
        unpacked = member.decompress(b"", oci.CHUNK)
        if not unpacked:
            raise ScarError("the gzip data ends in the middle", where=name)
        yield unpacked


def _unzstd(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    import zstandard

    # A layer chooses how much memory its window takes; 128 MiB is what the zstd program itself accepts without being asked.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    reader = decompressor.stream_reader(cast("IO[bytes]", _Reader(chunks)), read_across_frames=True)
    try:
        while chunk := reader.read(oci.CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise ScarError(f"damaged zstd data: {error}", where=name) from error


class _Reader:
    """The chunks as the file that a decompressor reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken
