"""What is at a path that a definition names: one question, so that everything else can be tested without a disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Found:
    """`size` is in bytes, of a file. `unreadable` is a file or folder that may not be opened, `special` a device, pipe or socket."""

    kind: Literal["file", "folder", "absent", "unreadable", "special"]
    size: int = 0


Look: TypeAlias = Callable[[Path], Found]


def look_at(path: Path) -> Found:
    """Look without opening: a pipe is not read, a device not touched. Links are followed."""
    try:
        status = path.stat()
    except PermissionError:
        return Found("unreadable")
    except (OSError, ValueError):
        return Found("absent")
    if stat.S_ISDIR(status.st_mode):
        return Found("folder" if os.access(path, os.R_OK | os.X_OK) else "unreadable")
    if not stat.S_ISREG(status.st_mode):
        return Found("special")
    return Found("file" if os.access(path, os.R_OK) else "unreadable", status.st_size)
