"""Where the local AWS keeps what it must not forget: the folder, who may touch it, and who holds it now.

Shared by the daemon and by the commands that start it, so nothing here imports moto or botocore.

    daemon.json   where the running daemon listens      lock        held (flock) for as long as a daemon lives
    daemon.log    its own log, bounded                  services/   one snapshot for each service's control plane
    objects/      bodies of objects and parts           s3/         snapshot and journal of what keys exist
    logs/         CloudWatch log events                 functions/, registry/, batch/   belong to whom they are named after
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from scar.errors import ConflictError, ScarError

SCHEMA: Final = 1  # of everything written below the folder; a newer one is refused
LAYOUT: Final = 2  # what the mark says; 1: journals began with nothing
ALREADY_RUNNING: Final = 3  # exit code of a daemon that finds another one on its state
_MARK: Final = "scar-local-state"  # the file that says "this folder is ours to remove"


@dataclass(frozen=True, slots=True)
class State:
    """One folder that holds one local AWS."""

    folder: Path

    @property
    def address_file(self) -> Path:
        return self.folder / "daemon.json"

    @property
    def lock_file(self) -> Path:
        return self.folder / "lock"

    @property
    def log_file(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def port_file(self) -> Path:
        return self.folder / "port"

    @property
    def iam_file(self) -> Path:
        return self.folder / "iam"

    @property
    def services(self) -> Path:
        return self.folder / "services"

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    @property
    def keys(self) -> Path:
        return self.folder / "s3"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def prepare(self) -> None:
        """Make the folder (0700) when it is absent. Refuses one that another user owns or can write to, or that holds foreign files."""
        if not self.folder.exists():
            make_folder(self.folder)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConflictError(f"{self.folder} is not a directory.", fix="Name another with SCAR_LOCAL_STATE.")
        if found.st_uid != os.geteuid():
            raise ConflictError(
                f"{self.folder} belongs to user {found.st_uid}.", fix="Name a folder of your own with SCAR_LOCAL_STATE."
            )
        mark = self.folder / _MARK
        if not mark.exists():
            # The mark is the first file written: where there is another one but no mark, even now, nobody of ours was here.
            foreign = [entry for entry in self.folder.iterdir() if _MARK not in entry.name]
            if foreign and not mark.exists():
                raise ConflictError(
                    f"{self.folder} holds files that are not the local AWS's.",
                    fix="Name an empty folder with SCAR_LOCAL_STATE.",
                )
            self.mark()
        self._check_schema(mark)
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.folder.chmod(0o700)

    def mark(self) -> None:
        """Say that the folder is ours, and how things lie in it."""
        write_atomically(self.folder / _MARK, f"{LAYOUT}\n".encode())

    @property
    def layout(self) -> int:
        return int((self.folder / _MARK).read_text())

    def is_ours(self) -> bool:
        return (self.folder / _MARK).is_file() and self.folder.stat().st_uid == os.geteuid()

    def _check_schema(self, mark: Path) -> None:
        text = mark.read_text(errors="replace").strip()
        if not (text.isascii() and text.isdigit()):
            raise StateDamagedError(mark, "The file does not say how the state is laid out.")
        if int(text) > LAYOUT:
            raise ConflictError(
                f"The state was written by a newer SCAR (schema {text!r}, this one reads {LAYOUT}).",
                where=str(mark),
                fix="Use that version, or start afresh with `scar local reset`.",
            )

    def remove(self) -> None:
        """Delete the folder and everything below it, the mark last, so that a killed removal can be repeated."""
        for entry in sorted(self.folder.iterdir(), key=lambda path: path.name == _MARK):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self.folder.rmdir()


@dataclass(slots=True)
class Lock:
    """The right to write below a state folder; the kernel takes it back when the process dies, however it dies."""

    fd: int

    @classmethod
    def take(cls, state: State) -> Self | None:
        """Answers None when another process holds it."""
        fd = os.open(state.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    def release(self) -> None:
        os.close(self.fd)


def is_locked(state: State) -> bool:
    """Whether a daemon lives on this state now. Asks the kernel, so a stale pid or address file cannot mislead."""
    if not state.lock_file.exists():
        return False
    lock = Lock.take(state)
    if lock is None:
        return True
    lock.release()
    return False


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` whole: after a crash it holds the old content or the new, never a mix. On disk when this returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        with _create(temporary, mode) as fd:
            _write_all(fd, content)
            os.fsync(fd)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sweep_unfinished(folder: Path) -> None:
    """Remove what a killed `write_atomically` left. Only for whoever holds the lock."""
    for path in folder.glob(".*.new"):
        path.unlink()


@contextlib.contextmanager
def _create(path: Path, mode: int) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def make_folder(folder: Path) -> None:
    """The folder and those above it, as far as they are absent, only for us. Their names survive a power cut when this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_json(path: Path) -> Any:
    """The file's document, or None when it is absent or cut."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


class StateDamagedError(ScarError):
    """A file of the state is cut, changed or of another version. Nothing was overwritten."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            what,
            where=str(path),
            fix="Nothing was changed. Put a good copy back, or start afresh with `scar local reset` (removes all local buckets and functions).",
        )
