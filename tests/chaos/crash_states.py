"""What lies on the disk when a program is killed, or the power fails, at a given moment: folders to start the next one on.

Killed, everything that any call has done is there. Without power only that is sure to be there which was brought to the disk: of a file what
it held at its last fsync, of a folder the names it had at its own (fsync(2): that of a file does not bring its name to the disk). A disk may
keep more than that, so this is the worst case.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import threading
from contextlib import suppress
from pathlib import Path

from tests.support.system_calls import Call

_SYNCS = ("fsync", "fdatasync")


def copied(folder: Path, to: Path) -> Path:
    """The folder as it is now. A file that goes meanwhile was going."""

    def each(source: str, target: str) -> str:
        with suppress(FileNotFoundError):
            shutil.copy2(source, target, follow_symlinks=False)
        return target

    shutil.copytree(
        folder, to, symlinks=True, copy_function=each, ignore=_no_special_files, ignore_dangling_symlinks=True
    )
    return to


def _no_special_files(folder: str, names: list[str]) -> set[str]:
    """Sockets and the like are nothing of a disk."""
    found = set()
    for name in names:
        with suppress(FileNotFoundError):
            mode = Path(folder, name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                found.add(name)
    return found


class Powerless:
    """Follows a program's calls (`saw` is told of each before it happens) and knows what of a folder is sure to be on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._lives = itertools.count()
        self._life: dict[int, int] = {}  # inode → which of the files that have had this number one after another
        self._content: dict[int, bytes] = {}  # life → what is on the disk
        self._names: dict[
            str, dict[str, tuple[int, int | None]]
        ] = {}  # folder → name → mode; life of a file, None for a folder
        for parent, folders, files in os.walk(folder):
            self._note_names(parent, [*folders, *files])
            for name in files:
                self._note_content(f"{parent}/{name}")

    def saw(self, call: Call) -> None:
        with self._lock:
            self._see(call)

    def _see(self, call: Call) -> None:
        if not call.target.startswith(f"{self._folder}"):
            return
        if call.name in _SYNCS:
            if Path(call.target).is_dir():
                self._note_names(call.target, [path.name for path in Path(call.target).iterdir()])
            else:
                self._note_content(call.target)
        elif call.name in ("unlink", "unlinkat", "rename", "renameat", "renameat2"):
            self._lose(call.target.rpartition(" -> ")[2])

    def materialise(self, to: Path) -> Path:
        """The folder as the next start finds it when the power fails now."""
        with self._lock:
            self._fill(str(self._folder), to)
        return to

    def _fill(self, source: str, to: Path) -> None:
        to.mkdir()
        for name, (mode, life) in self._names.get(source, {}).items():
            if life is None:
                self._fill(f"{source}/{name}", to / name)
            else:
                (to / name).write_bytes(self._content.get(life, b""))
            (to / name).chmod(mode)

    def _note_names(self, folder: str, names: list[str]) -> None:
        known: dict[str, tuple[int, int | None]] = {}
        for name in names:
            with suppress(FileNotFoundError):
                found = Path(folder, name).lstat()
                if stat.S_ISDIR(found.st_mode):
                    known[name] = (stat.S_IMODE(found.st_mode), None)
                elif stat.S_ISREG(found.st_mode):
                    known[name] = (stat.S_IMODE(found.st_mode), self._life_of(found.st_ino))
        self._names[folder] = known

    def _note_content(self, path: str) -> None:
        with suppress(FileNotFoundError), Path(path).open("rb") as file:
            self._content[self._life_of(os.fstat(file.fileno()).st_ino)] = file.read()

    def _life_of(self, inode: int) -> int:
        if inode not in self._life:
            self._life[inode] = next(self._lives)
        return self._life[inode]

    def _lose(self, path: str) -> None:
        """The last name of a file goes: its number may be another file's next."""
        with suppress(FileNotFoundError):
            found = Path(path).lstat()
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                self._life.pop(found.st_ino, None)
