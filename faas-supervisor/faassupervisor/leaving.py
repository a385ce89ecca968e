"""Signals for every door: SIGTERM unwinds whatever runs, so that processes are stopped and files removed, then we go."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

LAMBDA_GRACE_S: Final = 0.1  # Lambda gives a runtime 300 ms at shutdown


class Leave(BaseException):
    """We were asked to go. Not an Exception, so that nothing on the way takes it for a failure.

    `grace_s` is how long what runs may take to obey before it is killed.
    """

    def __init__(self, grace_s: float = LAMBDA_GRACE_S) -> None:
        super().__init__()
        self.grace_s = grace_s


def raise_on_sigterm(grace_s: float = LAMBDA_GRACE_S) -> None:
    """From now on the first SIGTERM raises Leave in the main thread; later ones change nothing."""

    def leave(number: int, frame: FrameType | None) -> None:  # as signal calls it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Leave(grace_s)

    signal.signal(signal.SIGTERM, leave)


def ignore_nothing() -> None:
    """What whoever started us ignores (`nohup` SIGHUP, a shell's background SIGINT) counts again, here and in all that we start.

    A child inherits what is ignored, and nothing could then hang up on it. What Python itself ignores it gives back to children.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def stay() -> None:
    """From now on SIGTERM changes nothing: what is left to do is shorter than to undo it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
