"""Debian's package files (`.deb`) taken apart without Debian's tools: an `ar` archive that holds a compressed tar of the files.

The files go through the same unpacking as the layers of strangers' images, so a package cannot write outside its folder.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final, cast

from faassupervisor.layers.tarstream import LayerError
from faassupervisor.layers.unpack import Unpacking, UnpackLimits
from scar.errors import ScarError

LIMITS: Final = UnpackLimits(total_bytes=256 << 20, entries=20_000)

_MAGIC: Final = b"!<arch>\n"
_HEADER_BYTES: Final = 60  # ar(5): name 16, date 12, owner 6, group 6, mode 8, size 10, end mark 2
_END_MARK: Final = b"`\n"
_OPENERS: Final[dict[str, Callable[[IO[bytes]], Any]]] = {
    "data.tar.xz": lzma.LZMAFile,
    "data.tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    "data.tar.bz2": bz2.BZ2File,
}


def unpack_packages(packages: Sequence[Path], root: Path, limits: UnpackLimits = LIMITS) -> None:
    """Unpack the files of several packages into one empty folder. Raises ScarError naming the package that cannot be unpacked."""
    unpacking = Unpacking(root, limits)
    for package in packages:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with package.open("rb") as file, closing(_Part(file, *_find_files(file))) as part:
                with _OPENERS[part.name](cast("IO[bytes]", part)) as plain:
                    unpacking.apply(package.name, plain)
        except (LayerError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise ScarError(f"the Debian package cannot be unpacked: {error}", where=str(package)) from error


class _Part:
    """A part of a file as a file: what the decompressors need of one, and no byte beyond."""

    def __init__(self, file: IO[bytes], name: str, size_bytes: int) -> None:
        self.name = name
        self._file, self._left = file, size_bytes

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """The file is another's to close."""


def _find_files(file: IO[bytes]) -> tuple[str, int]:
    """Name and size of the member that holds the package's files; `file` stands at its first byte."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is not a package file")
    while True:
        header = file.read(_HEADER_BYTES)
        if len(header) != _HEADER_BYTES or header[58:] != _END_MARK or not header[48:58].strip().isdigit():
            raise ValueError("it is damaged or cut short")
        name, size_bytes = header[:16].decode("latin-1").strip().rstrip("/"), int(header[48:58])
        if name in _OPENERS:
            return name, size_bytes
        if name.startswith("data.tar"):
            raise ValueError(f"its files are compressed in a way that is not read here ({name})")
        file.seek(size_bytes + size_bytes % 2, 1)
