"""Layers made here: the same entries give the same bytes on every machine with the same zlib.

Entries are sorted by path, owned by root, dated 1970; compression is gzip without name or date.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from scar.errors import ScarError
from scar.package.oci import CHUNK, DOCKER_LAYER_GZIP, Blob, Descriptor, Layer

_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class File:
    """`path` has no slash at either end, here and below."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Directory:
    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; `target` is kept as it is."""

    path: str
    target: str


Entry = File | Directory | Link


@dataclass(frozen=True, slots=True)
class Digests:
    """What a compressed layer hashes to, and what it unpacks to."""

    digest: str
    size: int
    diff_id: str


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


class GzipHashing:
    """Compresses what is written to it into `out`, hashing both sides; `finish` ends the stream and tells the digests."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out: _Writer = out
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._plain, self._compressed = hashlib.sha256(), hashlib.sha256()
        self._crc, self._plain_bytes, self._size = 0, 0, 0
        # Magic, deflate, no flags, no date, no extra flags, unknown system: nothing that differs between machines.
        self._emit(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")

    def write(self, data: bytes, /) -> int:
        self._plain.update(data)
        self._crc = zlib.crc32(data, self._crc)
        self._plain_bytes += len(data)
        self._emit(self._deflate.compress(data))
        return len(data)

    def finish(self) -> Digests:
        self._emit(self._deflate.flush())
        self._emit(self._crc.to_bytes(4, "little") + (self._plain_bytes & 0xFFFFFFFF).to_bytes(4, "little"))
        return Digests("sha256:" + self._compressed.hexdigest(), self._size, "sha256:" + self._plain.hexdigest())

    def _emit(self, data: bytes) -> None:
        self._out.write(data)
        self._compressed.update(data)
        self._size += len(data)


def write_layer(entries: Iterable[Entry], out: IO[bytes]) -> Digests:
    """Write the entries as one layer; parents are not made up, so that a base image's own directories keep their modes."""
    stream = GzipHashing(out)
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar:  # type: ignore[call-overload]  # typeshed asks for read() too
        for entry in sorted(entries, key=lambda entry: entry.path):
            _add(tar, entry)
    return stream.finish()


def layer_of(entries: Iterable[Entry]) -> Layer:
    """A small layer, held in memory."""
    out = io.BytesIO()
    digests = write_layer(entries, out)
    return Layer(memory_blob(out.getvalue(), DOCKER_LAYER_GZIP), digests.diff_id)


def file_layer(path: Path, digests: Digests) -> Layer:
    """A layer that lies in a file."""
    descriptor = Descriptor(DOCKER_LAYER_GZIP, digests.digest, digests.size)
    return Layer(file_blob(path, descriptor), digests.diff_id)


def memory_blob(content: bytes, media_type: str) -> Blob:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()

    def chunks(first: int = 0) -> Iterator[bytes]:
        for start in range(first, len(content), CHUNK):
            yield content[start : start + CHUNK]

    return Blob(Descriptor(media_type, digest, len(content)), chunks, open_at=chunks)


def file_blob(path: Path, descriptor: Descriptor, *, offset: int = 0) -> Blob:
    """`descriptor.size` bytes of a file from `offset` on."""

    def chunks(first: int) -> Iterator[bytes]:
        with path.open("rb") as source:
            source.seek(offset + first)
            left = descriptor.size - first
            while left and (chunk := source.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk

    return Blob(descriptor, lambda: verified(chunks(0), descriptor, where=str(path)), open_at=chunks)


def verified(chunks: Iterable[bytes], descriptor: Descriptor, *, where: str) -> Iterator[bytes]:
    """The chunks as they come; raises as soon as they are too many, or at the end when they were cut or changed."""
    hashed, size = hashlib.sha256(), 0
    for chunk in chunks:
        hashed.update(chunk)
        size += len(chunk)
        if size > descriptor.size:
            raise ScarError(f"{descriptor.digest} is longer than the {descriptor.size} bytes announced", where=where)
        yield chunk
    if size != descriptor.size:
        raise ScarError(f"{descriptor.digest} was cut: {size} of {descriptor.size} bytes", where=where)
    actual = "sha256:" + hashed.hexdigest()
    if actual != descriptor.digest:
        raise ScarError(f"content is {actual}, {descriptor.digest} was expected", where=where)


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    match entry:
        case Directory(mode=mode):
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        case Link(target=target):
            member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, target
            tar.addfile(member)
        case File(content=content, mode=mode):
            member.mode, member.size = mode, len(content)
            tar.addfile(member, io.BytesIO(content))
