"""As much of an ELF program as tells whether a loader can start it here."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF"
_64_BIT, _LITTLE_ENDIAN = 2, 1
_INTERPRETER: Final = 3  # PT_INTERP
_MOST_BYTES: Final = 4096
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}  # e_machine
_NAMES: Final = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86_64", 183: "arm64"}


def why_not(head: bytes, file: str, machine: str) -> str | None:
    """Why a program with this beginning cannot be loaded on `machine` (as uname(2) calls it), or None."""
    if not head.startswith(_MAGIC) or len(head) < 64:
        return "it is no program (a script without a first line '#!'?)"
    if head[4] != _64_BIT or head[5] != _LITTLE_ENDIAN:
        return "it is not a 64-bit program"
    (kind,) = struct.unpack_from("<H", head, 18)
    if kind != _MACHINES.get(machine, kind):
        return f"it is made for another processor ({_NAMES.get(kind, kind)})"
    if interpreter(file) is None:
        return "it is a static program"
    return None


def interpreter(file: str) -> str | None:
    """The loader that a 64-bit program asks for; None for a static one."""
    with Path(file).open("rb") as opened:
        head = opened.read(64)
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        opened.seek(offset)
        table = opened.read(size * count)
        for start in range(0, len(table) - 55, max(size, 1)):
            (kind,) = struct.unpack_from("<I", table, start)
            if kind == _INTERPRETER:
                (where,) = struct.unpack_from("<Q", table, start + 8)
                (length,) = struct.unpack_from("<Q", table, start + 32)
                opened.seek(where)
                return opened.read(min(length, _MOST_BYTES)).rstrip(b"\0").decode("utf-8", "surrogateescape")
    return None
