"""As much of an ELF program as tells whether the image's own loader can start it, and libfakechroot so hold it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = b"\x7fELF"
MAGIC64: Final = MAGIC + b"\2\1"
_64_BIT, _LITTLE_ENDIAN = 2, 1
_EXECUTABLE: Final = 2  # e_type: ET_EXEC
_DYNAMIC, _INTERPRETER = 2, 3  # p_type
_FLAGS_1, _PIE = 0x6FFFFFFB, 0x08000000  # a dynamic entry's tag, and its bit for "a program, not a library"
_MOST_BYTES: Final = 1 << 16
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}  # e_machine, by uname(2)'s name
_NAMES: Final = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86_64", 183: "arm64"}


def why_not(file: str, machine: str) -> str | None:
    """Why a file cannot be started on `machine` by a loader of its image, or None."""
    with Path(file).open("rb") as opened:
        head = opened.read(64)
        if not head.startswith(MAGIC) or len(head) < 64:
            return "it is no program (a script without a first line '#!'?)"
        if head[4] != _64_BIT or head[5] != _LITTLE_ENDIAN:
            return "it is not a 64-bit program"
        (kind,) = struct.unpack_from("<H", head, 18)
        if kind != _MACHINES.get(machine, kind):
            return f"it is made for another processor ({_NAMES.get(kind, kind)})"
        return why_not_held(opened, head, library=False)


def why_not_held(opened: BinaryIO, head: bytes, *, library: bool = True) -> str | None:
    """Why libfakechroot would not hold a 64-bit program whose first 64 bytes are given, or None. `library` says that it may be a
    shared library as well, which looks much like a static program.
    """
    parts = dict(_parts(opened, head))
    asked = parts.get(_INTERPRETER)
    if asked is not None:
        name = _text(opened, *asked)
        return "it is linked against musl" if Path(name).name.startswith("ld-musl") else None
    (kind,) = struct.unpack_from("<H", head, 16)
    if not library or kind == _EXECUTABLE or (_DYNAMIC in parts and _is_program(opened, *parts[_DYNAMIC])):
        return "it is a static program"
    return None


def interpreter(file: str) -> str | None:
    """The loader that a 64-bit program asks for; None for a static one."""
    with Path(file).open("rb") as opened:
        asked = dict(_parts(opened, opened.read(64))).get(_INTERPRETER)
        return None if asked is None else _text(opened, *asked)


def _parts(opened: BinaryIO, head: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """The kind of every part that is loaded, and where it lies in the file: offset and size."""
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    table = _read(opened, offset, size * count)
    for start in range(0, len(table) - 55, max(size, 1)):
        (kind,) = struct.unpack_from("<I", table, start)
        (where,) = struct.unpack_from("<Q", table, start + 8)
        (length,) = struct.unpack_from("<Q", table, start + 32)
        yield kind, (where, length)


def _text(opened: BinaryIO, where: int, length: int) -> str:
    return _read(opened, where, length).rstrip(b"\0").decode("utf-8", "surrogateescape")


def _is_program(opened: BinaryIO, where: int, length: int) -> bool:
    table = _read(opened, where, length)
    return any(
        tag == _FLAGS_1 and value & _PIE for tag, value in struct.iter_unpack("<QQ", table[: len(table) // 16 * 16])
    )


def _read(opened: BinaryIO, where: int, length: int) -> bytes:
    """What lies there, as far as it exists: nothing in the file is to be believed."""
    if where >= 1 << 62:
        return b""
    opened.seek(where)
    return opened.read(min(length, _MOST_BYTES))
