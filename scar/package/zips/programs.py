"""What an executable file is, judged while it streams by: how it starts, on which processor, and with whose C library.

Files come out of a tar that is read once, so a file is seen from its beginning to its end and never again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["dynamic", "static", "library", "script", "other"]

_HEAD_BYTES: Final = 64 << 10
_TABLE_BYTES: Final = 64 << 10
_CHUNK: Final = 1 << 20
_ELF: Final = b"\x7fELF"
_ET_EXEC, _ET_DYN = 2, 3
_PT_DYNAMIC, _PT_INTERP = 2, 3
_DT_FLAGS_1: Final = 0x6FFFFFFB
_DF_1_PIE: Final = 0x08000000
# (64-bit, machine) of the gABI → the architecture's name in manifests
_MACHINES: Final = {(True, 62): "amd64", (True, 183): "arm64"}
_BANNER: Final = re.compile(rb"GNU C Library [^\n\0]{0,160}?version (\d+\.\d+)[^\d]")
_SYMBOL_VERSION: Final = re.compile(rb"GLIBC_2\.(\d{1,3})\0")
_LONGEST_MATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Program:
    """`interpreter` is the loader of a dynamic program, or the words after a script's `#!`. `architecture` is '' for what is no ELF file,
    and for ELF files of processors that AWS does not have.
    """

    kind: Kind
    architecture: str = ""
    interpreter: str = ""


class Streaming:
    """A file of `size` bytes as it streams by. `at` goes forward only, but for the first 64 KiB, which are kept."""

    def __init__(
        self, read: Callable[[int], bytes], size: int, *, watch: Callable[[bytes], None] | None = None
    ) -> None:
        self._read, self._size, self._watch = read, size, watch
        self._position = 0
        self.head = b""
        self.head = self._take(min(size, _HEAD_BYTES))

    def at(self, offset: int, size: int) -> bytes:
        """The bytes there; fewer at the end of the file, and none when they have passed by."""
        if offset + size <= len(self.head):
            return self.head[offset : offset + size]
        if offset < self._position:
            return b""
        self._skip(offset - self._position)
        return self._take(min(size, self._size - self._position))

    def finish(self) -> None:
        self._skip(self._size - self._position)

    def _skip(self, size: int) -> None:
        left = min(size, self._size - self._position)
        while left > 0:
            left -= len(self._take(min(left, _CHUNK)))

    def _take(self, size: int) -> bytes:
        content = self._read(size) if size > 0 else b""
        self._position += len(content)
        if self._watch is not None:
            self._watch(content)
        return content


def judge(file: Streaming) -> Program:
    """What an executable file is. One that is damaged is `other`: it cannot be started at all."""
    head = file.head
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0][:4096].decode("utf-8", "replace").strip()
        return Program("script", interpreter=line)
    if not head.startswith(_ELF):
        return Program("other")
    try:
        return _elf(file)
    except (struct.error, IndexError, KeyError):
        return Program("other")


def _elf(file: Streaming) -> Program:
    wide, order = file.head[4] == 2, {1: "<", 2: ">"}[file.head[5]]
    kind, machine = struct.unpack_from(order + "HH", file.head, 16)
    table, entry, count = _program_headers(file.head, order, wide=wide)
    segments = _segments(file.at(table, min(entry * count, _TABLE_BYTES)), order, entry, wide=wide)
    architecture = _MACHINES.get((wide, machine), "")
    found = {}
    for offset, size, segment in sorted((offset, size, segment) for segment, offset, size in segments):
        found[segment] = file.at(offset, min(size, _TABLE_BYTES))
    if _PT_INTERP in found:
        name = found[_PT_INTERP].split(b"\0", 1)[0].decode("utf-8", "replace")
        return Program("dynamic", architecture, name)
    if kind == _ET_EXEC or (kind == _ET_DYN and _is_program(found.get(_PT_DYNAMIC, b""), order, wide=wide)):
        return Program("static", architecture)
    return Program("library" if kind == _ET_DYN else "other", architecture)


def _program_headers(head: bytes, order: str, *, wide: bool) -> tuple[int, int, int]:
    """(offset, bytes of an entry, entries) of the table of segments."""
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    entry, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    return table, entry, count


def _segments(table: bytes, order: str, entry: int, *, wide: bool) -> list[tuple[int, int, int]]:
    """(kind, offset, bytes in the file) of those segments that tell how a program starts."""
    found = []
    for start in range(0, len(table) - entry + 1, entry) if entry else ():
        if wide:
            kind, _flags, offset, _address, _physical, size = struct.unpack_from(order + "IIQQQQ", table, start)
        else:
            kind, offset, _address, _physical, size = struct.unpack_from(order + "IIIII", table, start)
        if kind in (_PT_DYNAMIC, _PT_INTERP):
            found.append((kind, offset, size))
    return found


def _is_program(dynamic: bytes, order: str, *, wide: bool) -> bool:
    """Whether the linker marked it as a program that can lie anywhere; a library has no such mark."""
    form = order + ("QQ" if wide else "II")
    step = struct.calcsize(form)
    entries = (struct.unpack_from(form, dynamic, start) for start in range(0, len(dynamic) - step + 1, step))
    return any(tag == _DT_FLAGS_1 and value & _DF_1_PIE for tag, value in entries)


class GlibcVersion:
    """Finds the version in the bytes of libc.so.6: the sentence that it prints when it is run, else its newest symbols' version."""

    def __init__(self) -> None:
        self._told: str | None = None
        self._newest = -1
        self._rest = b""

    def see(self, content: bytes) -> None:
        text = self._rest + content
        if self._told is None and (found := _BANNER.search(text)):
            self._told = found[1].decode()
        self._newest = max([self._newest, *(int(minor) for minor in _SYMBOL_VERSION.findall(text))])
        self._rest = text[-_LONGEST_MATCH:]

    @property
    def version(self) -> str | None:
        if self._told is not None:
            return self._told
        return f"2.{self._newest}" if self._newest >= 0 else None
