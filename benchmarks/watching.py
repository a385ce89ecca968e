"""What happens in a folder, and when? The kernel tells (inotify), so that who writes there is not slowed down."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

# <sys/inotify.h>
_MODIFY: Final = 0x2
_CLOSE_WRITE: Final = 0x8
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_IS_DIR: Final = 0x40000000
_WHAT: Final = {
    _MODIFY: "modified",
    _CLOSE_WRITE: "closed",
    _MOVED_TO: "moved to",
    _CREATE: "created",
    _DELETE: "deleted",
}
_HEAD: Final = struct.Struct("iIII")


@dataclass(frozen=True)
class Change:
    """`at_s` is seconds since 1970; the path is relative to what is watched."""

    at_s: float
    what: str
    path: str


class Watch:
    """All changes below a folder, in order, for as long as the block runs; folders that are made meanwhile are watched too."""

    def __init__(self, root: Path) -> None:
        self._root, self._folders = root, dict[int, Path]()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._end, self._tell_end = os.pipe()
        self.changes: list[Change] = []

    def __enter__(self) -> Watch:
        self._fd = self._libc.inotify_init()
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        self._add(self._root)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._tell_end)
        self._thread.join()
        os.close(self._fd)
        os.close(self._end)

    def _add(self, folder: Path) -> None:
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), sum(_WHAT))
        if number >= 0:  # else it is gone again
            self._folders[number] = folder
            for one in list(folder.iterdir()):
                if one.is_dir() and not one.is_symlink():
                    self._add(one)

    def _read(self) -> None:
        while self._end not in select.select([self._fd, self._end], [], [])[0]:
            read, now_s = os.read(self._fd, 64 << 10), time.time()
            place = 0
            while place < len(read):
                number, mask, _, length = _HEAD.unpack_from(read, place)
                name = read[place + _HEAD.size : place + _HEAD.size + length].rstrip(b"\0")
                place += _HEAD.size + length
                path = self._folders.get(number, self._root) / os.fsdecode(name)
                if mask & _IS_DIR and mask & (_CREATE | _MOVED_TO) and path.is_dir():
                    self._add(path)
                what = next((word for bit, word in _WHAT.items() if mask & bit), "")
                self.changes.append(Change(now_s, what, str(path.relative_to(self._root))))
