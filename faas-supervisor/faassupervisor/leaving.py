"""SIGTERM for every door: unwind whatever runs, so that processes are stopped and files removed, then go."""

from __future__ import annotations

import signal
from types import FrameType


class Leave(BaseException):
    """We were asked to go. Not an Exception, so that nothing on the way takes it for a failure."""


def raise_on_sigterm() -> None:
    """From now on the first SIGTERM raises Leave in the main thread; later ones change nothing."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Leave
