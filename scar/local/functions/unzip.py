"""Unpacking a deployment package, which may be hostile: nothing lands outside its folder, and no more than Lambda takes.

Lambda's words for what it refuses; sources: lambda/latest/dg/gettingstarted-limits (250 MB unzipped) and its messages as quoted in
github.com/serverless/serverless/issues/6792, boto/boto3/issues/488 and adieuadieu/serverless-chrome/issues/331.
"""

from __future__ import annotations

import calendar
import errno
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeVar

from scar.limits import LAMBDA_UNZIPPED_BYTES, MIB

UNZIPPED_BYTES: Final = LAMBDA_UNZIPPED_BYTES
_DIRECTORY_BYTES: Final = 32 * MIB  # of the zip's own directory: it is read into memory whole
_ENTRIES: Final = 200_000
_DEPTH: Final = 200
_LINK_BYTES: Final = 4095
_CHUNK: Final = 1 << 20
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_NO_ZIP: Final = "Could not unzip uploaded file. Please check your file, then try to upload again."
_EMPTY: Final = "Uploaded file must be a non-empty zip"
_Done = TypeVar("_Done")
TOO_LARGE: Final = f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes"


class BadCodeError(Exception):
    """A package that Lambda would refuse, in its words; what is behind them follows in brackets."""


def unzip(archive: Path, folder: Path) -> int:
    """Unpack into `folder`, which is there and empty, and answer how many bytes that took. Raises BadCodeError.

    Modes, times and symbolic links are kept; links are made last, so that no file is written through one.
    """
    if archive.stat().st_size == 0:
        raise BadCodeError(_EMPTY)
    try:
        with archive.open("rb") as file, zipfile.ZipFile(_Guarded(file)) as source:
            return _unpack(source, folder)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadCodeError(f"{_NO_ZIP} ({error})") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise BadCodeError(f"{_NO_ZIP} (damaged: {error})") from error


class _Guarded:
    """The file, but nobody reads a directory of any size into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return self._file.read(size if size >= 0 else _DIRECTORY_BYTES)

    def seekable(self) -> bool:
        return True


def _unpack(source: zipfile.ZipFile, folder: Path) -> int:
    members = source.infolist()
    if not members:
        raise BadCodeError(_EMPTY)
    if len(members) > _ENTRIES:
        raise BadCodeError(f"{_NO_ZIP} (it has more than {_ENTRIES} entries)")
    if sum(member.file_size for member in members) > UNZIPPED_BYTES:
        raise BadCodeError(TOO_LARGE)
    left = UNZIPPED_BYTES
    links: dict[Path, bytes] = {}
    folders: dict[Path, int] = {}
    for member in members:
        path = _path(folder, member.filename)
        kind, mode = _kind(member), member.external_attr >> 16 & 0o777
        match kind:
            case "folder":
                _make_folders(folder, path)
                folders[path] = (mode or 0o755) | 0o700
                links.pop(path, None)
            case "link":
                links[path] = _link(source, member)
            case "file":
                _make_folders(folder, path.parent)
                left -= _write(source, member, path, left, (mode or 0o644) | 0o400)
                links.pop(path, None)
    for path, mode in folders.items():
        path.chmod(mode)
    for path, target in links.items():
        if not links.keys().isdisjoint(path.parents):
            raise BadCodeError(f"{_NO_ZIP} ({path.name!r} lies behind a link)")
        _make_folders(folder, path.parent)
        if path.is_dir():
            raise BadCodeError(f"{_NO_ZIP} ({path.name!r} is a folder and a link)")
        path.unlink(missing_ok=True)
        path.symlink_to(os.fsdecode(target))
    return UNZIPPED_BYTES - left


def _path(folder: Path, name: str) -> Path:
    steps = name.rstrip("/").split("/")
    if name.startswith("/") or ".." in steps or "\0" in name or not name.strip("/"):
        raise BadCodeError(f"{_NO_ZIP} ({name!r} leads out of it)")
    if len(steps) > _DEPTH:
        raise BadCodeError(f"{_NO_ZIP} ({name[:60]!r}… is too deep)")
    return folder.joinpath(*steps)


def _kind(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & _ENCRYPTED:
        raise BadCodeError(f"{_NO_ZIP} ({member.filename!r} is encrypted)")
    if member.compress_type not in _METHODS:
        raise BadCodeError(f"{_NO_ZIP} ({member.filename!r} is compressed by other means than deflate)")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadCodeError(f"{_NO_ZIP} ({member.filename!r} is neither file, folder nor link)")
    return "folder" if member.is_dir() or kind == stat.S_IFDIR else "file"


def _link(source: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with source.open(member) as file:
        target = file.read(_LINK_BYTES + 1)
    if not target or len(target) > _LINK_BYTES or b"\0" in target:
        raise BadCodeError(f"{_NO_ZIP} ({member.filename!r} is a link to nothing)")
    return target


def _make_folders(root: Path, folder: Path) -> None:
    missing = []
    while not _try_to(folder.is_dir, folder):
        missing.append(folder)
        folder = folder.parent
    if not folder.is_relative_to(root):
        raise BadCodeError(f"{_NO_ZIP} (an entry leads out of it)")
    for path in reversed(missing):
        _try_to(path.mkdir, path)
        path.chmod(0o755)


def _write(source: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, room: int, mode: int) -> int:
    """How many bytes were written. A later entry of the same name counts; the earlier one's bytes were counted all the same."""
    _try_to(lambda: path.unlink(missing_ok=True), path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = _try_to(lambda: os.open(path, flags, 0o600), path)
    size = 0
    with os.fdopen(descriptor, "wb", buffering=0) as target, source.open(member) as file:
        while chunk := file.read(min(_CHUNK, room - size + 1)):
            size += len(chunk)
            if size > room:
                raise BadCodeError(TOO_LARGE)
            target.write(chunk)
        os.fchmod(descriptor, mode)
        changed = _seconds(member)
        os.utime(descriptor, (changed, changed))
    return size


def _seconds(member: zipfile.ZipInfo) -> int:
    """Since 1970. Reproducible builds write a month and a day of 0."""
    try:
        return calendar.timegm((*member.date_time, 0, 0, 0))
    except ValueError:
        return calendar.timegm((1980, 1, 1, 0, 0, 0, 0, 0, 0))


def _try_to(action: Callable[[], _Done], path: Path) -> _Done:
    """What a name cannot become on disk (too long, a file where a folder is) is the package's fault."""
    try:
        return action()
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadCodeError(f"{_NO_ZIP} ({path.name[:60]!r} is there twice, and once as a folder)") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise BadCodeError(f"{_NO_ZIP} ({path.name[:60]!r}… is no name)") from error
        raise
