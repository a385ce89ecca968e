"""Folders that are made from content once and then only read: unpacked images, unpacked code. Each is named by a digest.

<hex>/             the folder; `complete.json` in it says that it is whole, how large, and since which start of the machine
<hex>.making/      on its way, or left behind by a process that was killed
<hex>.lock         locked alone by whoever makes or removes the folder, together by all who use it

Nothing is forced to disk, which would cost seconds beside other work: a folder from before the machine's last start may lack what a power cut
took, so it is made anew when it is wanted again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from faassupervisor.layers.unpack import remove_tree

_MARKER: Final = "complete.json"
_AGAIN_S: Final = (0.001, 0.02)
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")  # proc(5)


class Held:
    """A folder that stays until this is closed, or until the last process that was given `descriptor` is gone."""

    def __init__(self, path: Path, size: int, descriptor: int) -> None:
        self.path, self.size, self.descriptor = path, size, descriptor

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DigestFolders:
    """All folders below one. Safe from any thread and any number of processes; names are 64 hexadecimal digits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def use(self, name: str, make: Callable[[Path], int]) -> Held:
        """The folder, made by `make` (given an empty one; answers how many bytes it holds) unless it is there.

        It appears whole or not at all, also when two processes ask at once or one is killed. What `make` raises, this raises.
        """
        home = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as failed:
            lock = self._open(name)
            failed.callback(os.close, lock)
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if (size := self._whole_size(home)) is not None:
                    os.utime(home / _MARKER)
                    failed.pop_all()
                    return Held(home, size, lock)
                # Not a step up but a new lock: somebody else may have made the folder, or removed it, in between. It is not waited for:
                # whoever made the folder meanwhile keeps a lock on it for as long as he uses it.
                fcntl.flock(lock, fcntl.LOCK_UN)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(random.uniform(*_AGAIN_S))  # noqa: S311 - so that two who look at once do not do so for ever
                    continue
                if self._whole_size(home) is None:
                    self._make(home, make)

    def usage(self) -> int:
        """Bytes of content in all folders."""
        return sum(size for _, size, _ in self._whole())

    def names(self) -> tuple[str, ...]:
        """Of every folder that is whole."""
        return tuple(name for name, _, _ in self._whole())

    def prune(self, *, keep: Collection[str] = (), max_bytes: int = 0) -> tuple[str, ...]:
        """Remove the least recently used, but none of `keep` and none that is held, until `max_bytes` are left; their names.

        What killed processes left half made goes too.
        """
        for making in list(self._folder.glob("*.making")):
            self._remove(making)
        left, removed = self.usage(), []
        for name, size, _ in sorted(self._whole(), key=lambda entry: entry[2]):
            if left <= max_bytes and max_bytes:
                break
            if name not in keep and self._remove(self._folder / name):
                left -= size
                removed.append(name)
        return tuple(removed)

    def _remove(self, folder: Path) -> bool:
        """False when it is held, or somebody is making it."""
        lock = self._open(folder.stem)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / _MARKER).unlink(missing_ok=True)
            remove_tree(folder)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _open(self, name: str) -> int:
        return os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _whole(self) -> Iterator[tuple[str, int, int]]:
        """Name, bytes and time of last use of every whole folder."""
        for marker in list(self._folder.glob(f"*/{_MARKER}")):
            if marker.parent.suffix:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):  # another process removes it just now
                yield marker.parent.name, self._size(marker.parent), marker.stat().st_mtime_ns

    @staticmethod
    def _size(home: Path) -> int:
        return int(json.loads((home / _MARKER).read_text())["bytes"])

    @staticmethod
    def _whole_size(home: Path) -> int | None:
        """Bytes of a folder that can be relied on."""
        try:
            record = json.loads((home / _MARKER).read_text())
            return int(record["bytes"]) if record["boot"] == _boot() else None
        except (OSError, ValueError, LookupError, TypeError):  # absent, or written by an earlier release
            return None

    def _make(self, home: Path, make: Callable[[Path], int]) -> None:
        making = home.with_name(f"{home.name}.making")
        for leftover in (making, home):  # of a process that was killed: the lock says that nobody is at it now
            remove_tree(leftover)
        with contextlib.ExitStack() as failed:
            failed.callback(remove_tree, making)
            making.mkdir()
            making.chmod(0o755)
            size = make(making)
            (making / _MARKER).write_text(json.dumps({"bytes": size, "boot": _boot()}))
            making.rename(home)
            failed.pop_all()


def _boot() -> str:
    """Which start of the machine this is; '' where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
