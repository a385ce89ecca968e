"""Image archives as a set of named files, read by random access: a tar, a compressed tar, or a directory.

What an archive says is not believed: names are only looked up, never written to disk; links stay inside; headers are bounded.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Self

from scar.errors import NotFoundError, ScarError
from scar.package import oci
from scar.package.cache import in_cache, written_whole
from scar.package.compress import GZIP_MAGIC, ZSTD_MAGIC, plain
from scar.package.layer import file_blob
from scar.package.progress import Tell

_MAX_MEMBERS: Final = 10_000
_MAX_HEADER_BYTES: Final = 1 << 20  # a long name or a pax header; what follows is read into memory
_MAX_LINKS: Final = 40
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_BZIP2_MAGIC: Final = b"BZh"
_COMPRESSED: Final = (GZIP_MAGIC, ZSTD_MAGIC, _XZ_MAGIC, _BZIP2_MAGIC)  # what `docker load` takes
_XZ_MEMORY_BYTES: Final = 256 << 20
_EXTENDED: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a member's bytes lie."""

    path: Path
    offset: int
    size: int


class Archive:
    """Named files. `find` answers None for what is not there; it is a Place for OCI layouts too."""

    def __init__(self, where: str, find: Callable[[str], Extent | None]) -> None:
        self.where = where
        self.find = find

    def read(self, name: str) -> bytes:
        """A small file, whole."""
        extent = self._need(name)
        if extent.size > oci.MAX_MANIFEST_BYTES:
            raise ScarError(f"{name} has {extent.size} bytes, {oci.MAX_MANIFEST_BYTES} are read", where=self.where)
        with extent.path.open("rb") as source:
            source.seek(extent.offset)
            return source.read(extent.size)

    def content(self, name: str, media_type: str, digest: str) -> oci.Blob:
        """A file that must hash to `digest`."""
        extent = self._need(name)
        return file_blob(extent.path, oci.Descriptor(media_type, digest, extent.size), offset=extent.offset)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file as it is, unverified."""
        extent = self._need(name)
        with extent.path.open("rb") as source:
            source.seek(extent.offset)
            left = extent.size
            while left and (chunk := source.read(min(oci.CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise ScarError(f"{name} was cut: {left} bytes are missing", where=self.where)

    def size(self, name: str) -> int:
        return self._need(name).size

    def top(self) -> tuple[bytes, str]:
        if self.find("oci-layout") is None or self.find("index.json") is None:
            if self.find("repositories") is not None:
                raise ScarError(
                    "written by a Docker older than 1.10 (there is no manifest.json)",
                    where=self.where,
                    fix="Load it and save it again: docker load -i FILE, docker save -o FILE IMAGE.",
                )
            raise ScarError(
                "neither an archive of `docker save` nor an OCI layout: no manifest.json, no index.json",
                where=self.where,
                fix="Write it with `docker save -o FILE IMAGE`, or `skopeo copy … oci-archive:FILE`.",
            )
        return self.read("index.json"), oci.OCI_INDEX

    def manifest(self, descriptor: oci.Descriptor) -> bytes:
        if descriptor.size > oci.MAX_MANIFEST_BYTES:
            raise ScarError(
                f"a manifest of {descriptor.size} bytes; {oci.MAX_MANIFEST_BYTES} are read", where=self.where
            )
        return b"".join(self.blob(descriptor).open())

    def blob(self, descriptor: oci.Descriptor) -> oci.Blob:
        extent = self._need("blobs/" + descriptor.digest.replace(":", "/"))
        if extent.size != descriptor.size:
            raise ScarError(
                f"{descriptor.digest} has {extent.size} bytes in the archive, {descriptor.size} are announced",
                where=self.where,
            )
        return file_blob(extent.path, descriptor, offset=extent.offset)

    def _need(self, name: str) -> Extent:
        extent = self.find(name)
        if extent is None:
            raise ScarError(f"{name} is missing", where=self.where, fix="The archive is incomplete: save it again.")
        return extent


def open_archive(path: Path, *, cache: Path, tell: Tell) -> Archive:
    """The archive at `path`. A compressed tar is unpacked into `cache` first, because its members are needed in any order."""
    where = str(path)
    try:
        status = path.stat()
    except OSError as error:
        raise NotFoundError(f"the image file cannot be read: {error.strerror}", where=where) from error
    if stat.S_ISDIR(status.st_mode):
        return Archive(where, _directory_finder(path))
    if not stat.S_ISREG(status.st_mode):
        raise ScarError("the image file is neither a file nor a directory", where=where)
    with path.open("rb") as source:
        magic = source.read(6)
    if magic.startswith(_COMPRESSED):
        path = _unpacked(path, cache, tell)
    return Archive(where, _tar_finder(path, where))


def _directory_finder(root: Path) -> Callable[[str], Extent | None]:
    def find(name: str) -> Extent | None:
        inside = posixpath.normpath(name)
        if inside.startswith(("/", "..")):
            return None
        path = root / inside
        try:
            status = path.stat()
        except OSError:
            return None
        return Extent(path, 0, status.st_size) if stat.S_ISREG(status.st_mode) else None

    return find


class _BoundedHeader(tarfile.TarInfo):
    """A header whose extension would be read into memory whole, however long it says it is."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and not 0 <= header.size <= _MAX_HEADER_BYTES:
            raise ScarError(f"a tar header of {header.size} bytes; {_MAX_HEADER_BYTES} are read")
        return header


def _tar_finder(path: Path, where: str) -> Callable[[str], Extent | None]:
    files, links = _members(path, where)

    def find(name: str) -> Extent | None:
        inside = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            if inside in files:
                return files[inside]
            if inside not in links:
                return None
            inside = links[inside]
        raise ScarError(f"{name}: links lead to links without end", where=where)

    return find


def _members(path: Path, where: str) -> tuple[Mapping[str, Extent], Mapping[str, str]]:
    """Files, and links with their targets, by normalised name."""
    files: dict[str, Extent] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:", tarinfo=_BoundedHeader) as tar:
            for count, member in enumerate(tar):
                if count == _MAX_MEMBERS:
                    raise ScarError(f"more than {_MAX_MEMBERS} files: not an image archive", where=where)
                name = posixpath.normpath(member.name)
                files.pop(name, None)
                links.pop(name, None)
                if member.isreg():
                    files[name] = Extent(path, member.offset_data, member.size)
                elif member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise ScarError(f"not a readable tar archive: {error}", where=where) from error
    return files, links


def _unpacked(path: Path, cache: Path, tell: Tell) -> Path:
    """The tar inside a compressed file, kept in the cache under the digest of that file."""
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    directory = cache / "archives" / digest
    target = directory / "image.tar"
    size = path.stat().st_size
    with in_cache(directory):
        if not target.exists():
            with written_whole(target) as out, path.open("rb") as source:
                done = 0
                for chunk in _decompressed(iter(lambda: source.read(oci.CHUNK), b""), str(path)):
                    out.write(chunk)
                    done += len(chunk)
                    tell(min(source.tell(), size), size, "unpack")
    return target


def _decompressed(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """What the chunks unpack to, told by their first bytes; at most as much as an image may hold."""
    first = next(chunks, b"")
    chunks = chain((first,), chunks)
    if first.startswith(_XZ_MAGIC):
        chunks = _members_of(chunks, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES), where)
    elif first.startswith(_BZIP2_MAGIC):
        chunks = _members_of(chunks, bz2.BZ2Decompressor, where)
    return plain(chunks, where)


def _members_of(
    chunks: Iterator[bytes], begin: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor], where: str
) -> Iterator[bytes]:
    """Members one after another; memory stays bounded however well they are compressed."""
    member = begin()
    try:
        for chunk in chunks:
            data = chunk
            while data or not (member.needs_input or member.eof):
                if member.eof:
                    member = begin()
                yield member.decompress(data, oci.CHUNK)
                data = member.unused_data
        while not (member.eof or member.needs_input):
            yield member.decompress(b"", oci.CHUNK)
    except (lzma.LZMAError, OSError, ValueError) as error:
        raise ScarError(f"damaged compressed data: {error}", where=where) from error
    if not member.eof:
        raise ScarError("the compressed data ends in the middle", where=where)
