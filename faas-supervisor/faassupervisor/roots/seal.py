"""A folder that nothing may change: closed for ordinary writes, and asked afterwards whether it is as it was.

A process of our own user can open again what we closed. But whatever it does (write, chmod, rename, link, a new file in a folder)
sets the inode's ctime, which no process can set itself. So the folder is untouched exactly when every ctime in it, and the
number of entries, is what it was when it was sealed. Times are compared for being equal, not for being older: a clock that was
set back hides nothing.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Iterator
from typing import Final

_COARSE_CLOCK: Final = 5  # CLOCK_REALTIME_COARSE, by which file systems date changes
_WRITABLE: Final = 0o222


class Seal:
    """The state of a folder that was sealed now."""

    def __init__(self, folder: str) -> None:
        _close(folder)
        self._folder = folder
        self._times = array("q", _times(folder))
        # A change in the same tick of the file system's clock would have the same time.
        last = max(self._times)
        while time.clock_gettime_ns(_COARSE_CLOCK) <= last < time.time_ns():
            time.sleep(0.001)

    def __len__(self) -> int:
        return len(self._times)

    def holds(self) -> bool:
        """Whether nothing was changed since. Work ends with the first difference, however much there is."""
        known = iter(self._times)
        try:
            for found in _times(self._folder):
                if found != next(known, None):
                    return False
        except OSError:
            return False
        return next(known, None) is None


def _close(folder: str) -> None:
    """Take away the right to write from everything."""
    os.chmod(folder, 0o555)  # noqa: S103  # less than it had
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o555)  # noqa: S103
                    pending.append(entry.path)
                elif mode & _WRITABLE:
                    os.chmod(entry.path, mode & ~_WRITABLE)


def _times(folder: str) -> Iterator[int]:
    """The ctime of the folder and of all that is in it, in the order in which the file system lists it."""
    yield os.lstat(folder).st_ctime_ns
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry.stat(follow_symlinks=False).st_ctime_ns
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
