"""Reading a tar that may be hostile: one entry after the other, in bounded memory, every fault a LayerError.

The standard library's reader takes headers of any size into memory and forgives much; a layer is written by strangers.
Covers what image builders write: ustar, pax (path, linkpath, size) and GNU long names. Sparse files are refused.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Final, Literal, cast

Kind = Literal["file", "folder", "symlink", "hardlink", "special"]

TOO_LARGE: Final = "it unpacks to more than an image may hold"
_BLOCK: Final = 512
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "special",
    b"4": "special",
    b"5": "folder",
    b"6": "special",
}


class LayerError(Exception):
    """The archive is not one that can be unpacked. `layer` is filled in where it is known; `fix` is the next move or None."""

    def __init__(self, what: str, *, layer: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.layer, self.fix = what, layer, fix


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `name` and `link` are as written, not yet contained; `size` bytes of content follow for a file."""

    name: str
    kind: Kind
    mode: int
    size: int
    mtime: int
    link: str


class CountedStream:
    """Exact reads from a decompressed layer, counted against a budget that several layers share."""

    def __init__(self, source: IO[bytes], budget: list[int]) -> None:
        self._source, self._budget = source, budget

    def read_some(self, size: int) -> bytes:
        try:
            chunk = self._source.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise LayerError(f"its compressed data is damaged or cut short: {error}") from error
        self._budget[0] -= len(chunk)
        if self._budget[0] < 0:
            raise LayerError(TOO_LARGE)
        return chunk

    def read_exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            chunk = self.read_some(left)
            if not chunk:
                raise LayerError("it ends in the middle of an entry")
            parts.append(chunk)
            left -= len(chunk)
        return b"".join(parts)


@contextmanager
def open_layer(path: Path) -> Iterator[IO[bytes]]:
    """The layer's plain tar."""
    with path.open("rb") as file, plain_tar(file) as tar:
        yield tar


@contextmanager
def plain_tar(file: BufferedReader) -> Iterator[IO[bytes]]:
    """What a layer's file holds: gzip and zstd are undone, told by their first bytes. The file need not be seekable."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast("IO[bytes]", unpacked)
    elif start == _ZSTD:
        yield cast("IO[bytes]", _Unzstd(file))
    else:
        yield file


class _Unzstd:
    """A zstd stream, plain; its faults are those of the standard library's streams."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import zstandard  # type: ignore[import-not-found, unused-ignore]  # optional: few images need it
        except ImportError as error:
            fix = "Run `pip install zstandard`, or push the image with gzip layers, which Lambda needs as well."
            what = "it is compressed with zstd, which needs a package that is not installed"
            raise LayerError(what, fix=fix) from error
        self._fault: type[Exception] = zstandard.ZstdError
        self._reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

    def read(self, size: int) -> bytes:
        try:
            chunk: bytes = self._reader.read(size)
        except self._fault as error:
            raise EOFError(str(error)) from error
        return chunk


def entries(stream: CountedStream, *, header_bytes_limit: int) -> Iterator[Entry]:
    """Every entry up to the end mark. The caller reads exactly `size` bytes and `padding` after each before asking for the next."""
    extended: dict[str, str] = {}
    while True:
        block = stream.read_exactly(_BLOCK)
        if not block.strip(b"\0"):
            _expect_nothing_more(stream)
            return
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind in {b"x", b"g", b"L", b"K"}:
            if size > header_bytes_limit:
                raise LayerError(f"it has a header of {size} bytes")
            content = stream.read_exactly(size + padding(size))[:size]
            extended |= _extension(kind, content)
            continue
        yield _entry(block, kind, size, extended)
        extended = {}


def padding(size: int) -> int:
    return -size % _BLOCK


def _expect_nothing_more(stream: CountedStream) -> None:
    while chunk := stream.read_some(1 << 16):
        if chunk.strip(b"\0"):
            raise LayerError("something follows its end mark")


def _check_sum(block: bytes) -> None:
    summed = sum(block[:148]) + 8 * 32 + sum(block[156:])
    if _number(block[148:156]) != summed:
        raise LayerError("it is not a tar archive, or is damaged")


def _number(field: bytes) -> int:
    """Octal text, or big-endian with the top bit set (GNU, for sizes of 8 GiB and more)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0")[0].strip()
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        if field[0] == 0xFF or text.startswith(b"-"):
            return 0  # a time before 1970
        raise LayerError("it has a header with a number that is none")
    return int(text, 8)


def _extension(kind: bytes, content: bytes) -> dict[str, str]:
    if kind == b"L":
        return {"path": os.fsdecode(content.rstrip(b"\0"))}
    if kind == b"K":
        return {"linkpath": os.fsdecode(content.rstrip(b"\0"))}
    if kind == b"g":
        return {}  # a comment of `git archive`; global names or sizes would make no sense
    found: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or not len(length) < int(length[:10]) <= len(content):
            raise LayerError("it has a damaged pax header")
        record, content = content[: int(length)], content[int(length) :]
        key, _, value = record[len(length) + 1 :].removesuffix(b"\n").partition(b"=")
        found[os.fsdecode(key)] = os.fsdecode(value)
    return found


def _entry(block: bytes, kind: bytes, size: int, extended: dict[str, str]) -> Entry:
    if kind == b"S" or any(key.startswith("GNU.sparse") for key in extended):
        raise LayerError("it holds a sparse file")
    if kind not in _KINDS:
        raise LayerError(f"it holds an entry of the unknown type {kind!r}")
    name = os.fsdecode(block[:100].split(b"\0")[0])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{os.fsdecode(block[345:500].split(bytes(1))[0])}/{name}"
    name = extended.get("path", name)
    link = extended.get("linkpath", os.fsdecode(block[157:257].split(b"\0")[0]))
    told = extended.get("size", str(size))
    if not told.isdigit():
        raise LayerError("it has a damaged pax header")
    what = _KINDS[kind]
    if what == "file" and name.endswith("/"):
        what = "folder"
    if what != "file" and int(told):
        raise LayerError(f"{name!r} has content and is no file")
    if "\0" in name or "\0" in link:
        raise LayerError("it has a name with a zero byte")
    return Entry(name, what, _number(block[100:108]) & 0o7777, int(told), _number(block[136:148]), link)
