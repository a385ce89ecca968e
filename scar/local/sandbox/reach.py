"""May another user enter a folder? Engines without a mount namespace need it before they give up being root."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def may_switch_user(uid: int, *folders: Path) -> bool:
    """Whether root can become `uid` and still use every folder.

    The state of root's local AWS is usually below /root, which is closed to everybody else: there a program that only its path confines
    has to stay root.
    """
    return (
        os.geteuid() == 0 and uid != 0 and all(_is_open(parent, uid) for folder in folders for parent in _way(folder))
    )


def _way(folder: Path) -> tuple[Path, ...]:
    real = folder.resolve()
    return (real, *real.parents)


def _is_open(folder: Path, uid: int) -> bool:
    found = folder.stat()
    return bool(found.st_mode & (stat.S_IXUSR if found.st_uid == uid else stat.S_IXOTH))
