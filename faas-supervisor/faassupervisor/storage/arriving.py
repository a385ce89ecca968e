"""A file that arrives: under a temporary name until it is whole, and only if there is room for it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from faassupervisor.errors import NoRoomError, StageInError

_ROOM_BYTES: Final = 1024 * 1024  # left for the script's first steps


@contextmanager
def whole(target: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is `target` once the block has ended well, and is gone otherwise."""
    partial = target.with_name(f".scar-{secrets.token_hex(8)}.part")
    try:
        with partial.open("xb") as sink:
            yield sink
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def expect_room(sink: BinaryIO, size: int, uri: str) -> None:
    """Raises NoRoomError when `size` more bytes would not leave enough of the disk."""
    status = os.statvfs(sink.fileno())
    free = status.f_bavail * status.f_frsize
    if size + _ROOM_BYTES > free:
        raise NoRoomError(
            f"{uri} has {size} bytes and only {free} are free for it: raise the function's ephemeral storage"
        )


def not_stored(uri: str, error: OSError) -> StageInError:
    """The disk's own refusal. One that is full in the middle, when others have taken the room, is as much a lack of room as one seen before."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return (NoRoomError if full else StageInError)(f"{uri} could not be stored: {error.strerror or error}")
