"""A little of the disk is kept back, so that a full one can still be emptied: whoever only takes away, or starts, may use it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from scar.limits import MIB

RESERVE_BYTES: Final = 1 * MIB
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """A file that is nothing but room. One process uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def spend(self) -> bool:
        """Give the room back to the disk; whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def fill(self) -> None:
        """Take it again, as soon as the disk has it."""
        if self._path.exists():
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
        finally:
            os.close(fd)
