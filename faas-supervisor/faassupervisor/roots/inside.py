"""What a path means to a process whose `/` is a folder of ours: links are followed within it, as chroot(2) would have it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

_LINKS_FOLLOWED: Final = 40  # Linux: path_resolution(7)


class Inside:
    """A root folder. What lies below one of `shared` is the machine's own, as if it were mounted there. `barred` says of programs, by
    their real path, why they were made unreadable.
    """

    def __init__(self, root: str, shared: Sequence[str], barred: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.shared = tuple(shared)
        self.barred = dict(barred or {})

    def real(self, path: str) -> str | None:
        """The machine's name of the file that an absolute path leads to; None when nothing is there."""
        found = self.place(path)
        return found if found is not None and os.path.lexists(found) else None

    def place(self, path: str) -> str | None:
        """The same, whether or not its last part exists. None when the way leads nowhere."""
        done: list[str] = []
        left = _steps(path)
        followed = 0
        while left:
            step = left.pop()
            if step == "..":
                done = done[:-1]
                continue
            guest = "/".join(("", *done, step))
            if guest in self.shared:
                return "/".join((guest, *reversed(left)))
            try:
                mode = os.lstat(self.root + guest).st_mode
            except FileNotFoundError:
                return None if left else self.root + guest
            except OSError:
                return None
            if stat.S_ISLNK(mode):
                followed += 1
                if followed > _LINKS_FOLLOWED:
                    return None
                link = os.readlink(self.root + guest)
                if link.startswith("/"):
                    done = []
                left += _steps(link)
            elif left and not stat.S_ISDIR(mode):
                return None
            else:
                done.append(step)
        return "/".join((self.root, *done))


def _steps(path: str) -> list[str]:
    """The parts of a path, last one first."""
    return [step for step in reversed(path.split("/")) if step not in {"", "."}]
