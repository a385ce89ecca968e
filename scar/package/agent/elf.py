"""What ELF files say about themselves, read without tools: interpreter, name, needed libraries (64-bit, either byte order).

Also makes copies that depend on nothing but `--library-path`: search paths of the build machine and debug sections removed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from scar.errors import ScarError

_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_DT_NULL: Final = 0
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_DT_SONAME: Final = 14
_DT_RPATH: Final = 15
_DT_RUNPATH: Final = 29
_DT_VERNEED: Final = 0x6FFFFFFE
_DT_VERNEEDNUM: Final = 0x6FFFFFFF


@dataclass(frozen=True, slots=True)
class Elf:
    """`interpreter` is None for libraries and static programs; `soname` is None where the file does not name itself."""

    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str  # struct's byte order mark
    segments: tuple[_Segment, ...]
    dynamic: tuple[tuple[int, int], ...]  # (tag, value) up to and without DT_NULL
    dynamic_offset: int


def read(content: bytes, name: str) -> Elf:
    """Raises ScarError when `content` is not a 64-bit ELF file."""
    layout = _layout(content, name)
    interpreter = next((segment for segment in layout.segments if segment.kind == _PT_INTERP), None)
    strings = _strings_offset(layout)

    return Elf(
        interpreter=(
            content[interpreter.offset : interpreter.offset + interpreter.file_bytes].rstrip(b"\0").decode()
            if interpreter
            else None
        ),
        soname=next((_text(content, strings + value) for tag, value in layout.dynamic if tag == _DT_SONAME), None),
        needed=tuple(_text(content, strings + value) for tag, value in layout.dynamic if tag == _DT_NEEDED),
    )


def needed_versions(content: bytes, name: str) -> dict[str, tuple[str, ...]]:
    """What a program wants of its libraries: library → version names (`GLIBC_2.34`), sorted. Raises ScarError as `read` does."""
    layout = _layout(content, name)
    dynamic, strings = dict(layout.dynamic), _strings_offset(layout)
    found: dict[str, tuple[str, ...]] = {}
    try:
        place = _file_offset(layout, dynamic.get(_DT_VERNEED))
        for _ in range(dynamic.get(_DT_VERNEEDNUM, 0)):
            # Elf64_Verneed and Elf64_Vernaux, each with the distance to its next one.
            _, count, library, first, following = struct.unpack_from(layout.order + "HHIII", content, place)
            versions, at = [], place + first
            for _ in range(count):
                _, _, _, version, further = struct.unpack_from(layout.order + "IHHII", content, at)
                versions.append(_text(content, strings + version))
                at += further
            found[_text(content, strings + library)] = tuple(sorted(versions))
            place += following
    except (struct.error, ValueError) as error:
        raise ScarError(f"a damaged ELF file: {error}", where=name) from error
    return found


def portable(content: bytes, name: str) -> bytes:
    """The same program without RPATH and RUNPATH, and without what the loader never reads (symbols, debug sections).

    An old-style RPATH is searched before `--library-path`, so a directory of the build machine that also exists in a
    user's image would otherwise win over the bundled libraries.
    """
    layout = _layout(content, name)
    end = max(segment.offset + segment.file_bytes for segment in layout.segments)
    copy = bytearray(content[:end])
    kept = [entry for entry in layout.dynamic if entry[0] not in (_DT_RPATH, _DT_RUNPATH)]
    padded = kept + [(_DT_NULL, 0)] * (len(layout.dynamic) - len(kept))
    for index, (tag, value) in enumerate(padded):
        struct.pack_into(layout.order + "qQ", copy, layout.dynamic_offset + 16 * index, tag, value)
    struct.pack_into(layout.order + "Q", copy, 0x28, 0)  # e_shoff: there are no sections any more
    struct.pack_into(layout.order + "HHH", copy, 0x3A, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    return bytes(copy)


def _layout(content: bytes, name: str) -> _Layout:
    if content[:4] != b"\x7fELF" or content[4:5] != b"\x02":
        raise ScarError("not a 64-bit ELF file", where=name)
    order = "<" if content[5] == 1 else ">"
    try:
        segments = tuple(_segments(content, order))
        dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
        entries = tuple(_dynamic(content, order, dynamic)) if dynamic else ()
    except struct.error as error:
        raise ScarError(f"a damaged ELF file: {error}", where=name) from error
    return _Layout(order, segments, entries, dynamic.offset if dynamic else 0)


def _segments(content: bytes, order: str) -> list[_Segment]:
    (table,) = struct.unpack_from(order + "Q", content, 0x20)
    entry_bytes, count = struct.unpack_from(order + "HH", content, 0x36)
    segments = []
    for index in range(count):
        kind, _flags, offset, address, _physical, file_bytes = struct.unpack_from(
            order + "IIQQQQ", content, table + entry_bytes * index
        )
        segments.append(_Segment(kind, offset, address, file_bytes))
    return segments


def _dynamic(content: bytes, order: str, segment: _Segment) -> list[tuple[int, int]]:
    entries = []
    for offset in range(segment.offset, segment.offset + segment.file_bytes, 16):
        tag, value = struct.unpack_from(order + "qQ", content, offset)
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    return entries


def _strings_offset(layout: _Layout) -> int:
    """Where the dynamic string table lies in the file; 0 for a program without one."""
    return _file_offset(layout, dict(layout.dynamic).get(_DT_STRTAB))


def _file_offset(layout: _Layout, address: int | None) -> int:
    """Where what is loaded at `address` lies in the file; 0 when it is not loaded from the file."""
    if address is None:
        return 0
    for segment in layout.segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.file_bytes:
            return segment.offset + address - segment.address
    return 0


def _text(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode()
