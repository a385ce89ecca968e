"""A folder that nothing may change: closed for ordinary writes, and asked afterwards whether it is as it was.

A process of our own user can open again what we closed. But whatever it does (write, chmod, rename, link, a new file in a folder)
sets the inode's ctime, which no process can set itself. So the folder is untouched exactly when every ctime in it is what it was
when it was sealed. Times are compared for being equal, not for being older: a clock that was
set back hides nothing.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from typing import Final

_COARSE_CLOCK: Final = 5  # CLOCK_REALTIME_COARSE, by which file systems date changes
_WRITABLE: Final = 0o222


class Seal:
    """The state of a folder that was sealed now. Its paths are kept: listing a folder again would cost as much as asking every file."""

    def __init__(self, folder: str) -> None:
        self._paths = [folder]
        self._close()
        self._times = array("q", (os.lstat(path).st_ctime_ns for path in self._paths))
        # A change in the same tick of the file system's clock would have the same time.
        last = max(self._times)
        while time.clock_gettime_ns(_COARSE_CLOCK) <= last < time.time_ns():
            time.sleep(0.001)

    def __len__(self) -> int:
        return len(self._paths)

    def holds(self) -> bool:
        """Whether nothing was changed since. A new entry shows in its folder's time."""
        lstat = os.lstat
        try:
            for path, then in zip(self._paths, self._times, strict=True):
                if lstat(path).st_ctime_ns != then:
                    return False
        except OSError:
            return False
        return True

    def _close(self) -> None:
        """Take away the right to write from everything."""
        os.chmod(self._paths[0], 0o555)  # noqa: S103  # less than it had
        pending = list(self._paths)
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    self._paths.append(entry.path)
                    if entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o555)  # noqa: S103
                        pending.append(entry.path)
                        continue
                    mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                    if mode & _WRITABLE:
                        os.chmod(entry.path, mode & ~_WRITABLE)
