"""A private place on disk for one record, and its complete removal.

    <temporary>/scar-run-<random>/    0700
        in/                           TMP_INPUT_DIR: the input file and nothing else
        out/                      TMP_OUTPUT_DIR
        agent/                    the event and a script that came with it: a place that no object key can name

    <temporary>/scar-root-<random>/   the user's image, where the agent does not run inside it (`faassupervisor.roots`)

Both hold a lock while their agent lives, so that `sweep` can tell a killed predecessor's from a neighbour's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PREFIX: Final = "scar-run-"
_ROOT_PREFIX: Final = "scar-root-"
_OURS: Final = re.compile("scar-(run|root)-[0-9a-f]{16}")  # what may be removed: nobody calls a folder so by chance
_NAME_BYTES: Final = 255  # NAME_MAX of every Linux file system that matters
_EXTENSION_BYTES: Final = 32


class Workspace:
    """Made on entry, removed on exit whatever its modes, depth or names have become."""

    def __init__(self, temporary: Path, name: str | None = None) -> None:
        """`name` is another machine's name for the same record's place, so that paths mean the same on both; ValueError when it is none."""
        if name is not None and not (name.startswith(_PREFIX) and _OURS.fullmatch(name)):
            raise ValueError(f"{name!a} is not the name of a workspace")
        self.root = temporary / (name or f"{_PREFIX}{secrets.token_hex(8)}")
        self.inbox = self.root / "in"
        self.outbox = self.root / "out"
        self.agent = self.root / "agent"
        self._lock = -1

    def __enter__(self) -> Self:
        self.root.mkdir(mode=0o700)
        try:
            self._lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for place in (self.inbox, self.outbox, self.agent):
                place.mkdir(mode=0o700)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        try:
            remove(self.root)
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1


def safe_name(key: str) -> str:
    """The last part of an object's key as a file name: every byte kept, unless the name cannot be one.

    `.` and `..` become `_` and `__`. A name beyond 255 bytes is cut and gets a digest of the whole key, so that two long names stay
    apart; its extension stays.
    """
    name = key.rsplit("/", 1)[-1]
    if name in {"", ".", ".."}:
        return "_" * max(len(name), 1)
    if len(name.encode()) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    stem, dot, extension = name.rpartition(".")
    tail = f"-{digest}"
    if dot and stem and len(extension.encode()) <= _EXTENSION_BYTES:
        tail += f".{extension}"
    else:
        stem = name
    room = _NAME_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail


def new_root(temporary: Path) -> Path:
    """An empty folder for an image. Its name cannot be foreseen, so nothing can lie in wait there."""
    root = temporary / f"{_ROOT_PREFIX}{secrets.token_hex(8)}"
    root.mkdir(mode=0o700)
    return root


def sweep(temporary: Path) -> int:
    """Remove what killed predecessors left; how many there were. What an agent still holds, or another user's, stays."""
    removed = 0
    for entry in _entries(temporary):
        if _OURS.fullmatch(entry.name) and _is_own_directory(entry) and _is_abandoned(Path(entry.path)):
            remove(Path(entry.path))
            removed += 1
    return removed


def names(directory: Path) -> frozenset[str]:
    """What lies in a directory now."""
    return frozenset(entry.name for entry in _entries(directory))


def remove_all_but(directory: Path, kept: Collection[str]) -> int:
    """Remove every entry of our own that is not named; how many there were."""
    strays = [Path(entry.path) for entry in _entries(directory) if entry.name not in kept and _is_own(entry)]
    for path in strays:
        remove(path)
    return len(strays)


def remove(path: Path) -> None:
    """Remove a file or a whole tree, never following a symbolic link. Absent is success.

    Works on trees deeper than any path can be long: each directory's subdirectories are first moved up beside it, so neither
    recursion nor the number of open files grows with the depth.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
                _remove_tree(path.name, parent)
            else:
                os.unlink(path.name, dir_fd=parent)
    finally:
        os.close(parent)


def _remove_tree(name: str, parent: int) -> None:
    os.chmod(name, 0o700, dir_fd=parent)
    top = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        pending = _empty(top, top)
        while pending:
            child = pending.pop()
            inner = os.open(child, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                pending += _empty(inner, top)
            finally:
                os.close(inner)
            os.rmdir(child, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(directory: int, top: int) -> list[str]:
    """Unlink what is no directory; move each directory to `top` under a new name. Answers the new names."""
    moved: list[str] = []
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        os.chmod(
            name, 0o700, dir_fd=directory
        )  # a directory can be moved or emptied by its owner only when it is writable
        new = f".{secrets.token_hex(8)}"
        os.rename(name, new, src_dir_fd=directory, dst_dir_fd=top)
        moved.append(new)
    return moved


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return list(entries)


def _is_own(entry: os.DirEntry[str]) -> bool:
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    return False


def _is_own_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and _is_own(entry)


def _is_abandoned(path: Path) -> bool:
    """Whether no living agent holds the directory's lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except (
        PermissionError
    ):  # our own, but a script took the read bit away: its agent is gone, or it would hold the root
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
