"""Waiting, bounded: the one loop that polls AWS."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from scar.errors import TimedOutError

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock; changes of the time of day do not move it. `interrupt` ends every sleep, now and later."""

    def __init__(self) -> None:
        self._interrupted = threading.Event()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._interrupted.wait(seconds):
            raise TimedOutError("interrupted while waiting")

    def interrupt(self) -> None:
        self._interrupted.set()


SYSTEM_CLOCK: Final = SystemClock()


def until(
    check: Callable[[], T | None],
    *,
    deadline_s: float,
    what: str | Callable[[], str],
    clock: Clock,
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> T:
    """Ask `check` until it answers something other than None, and hand that back.

    The first question is asked at once; pauses grow from 0.25 s to `longest_pause_s`, each shortened at random by up to a quarter so that
    parallel waiters spread. Raises TimedOutError, which says `what` was awaited (a callable is asked then), once `deadline_s`
    seconds have gone by.
    """
    started = clock.monotonic()
    pause_s = FIRST_PAUSE_S
    while True:
        answer = check()
        if answer is not None:
            return answer
        left_s = deadline_s - (clock.monotonic() - started)
        if left_s <= 0:
            awaited = what if isinstance(what, str) else what()
            fix = "Run the same command again: it goes on where this one stopped."
            raise TimedOutError(f"waited {deadline_s:g} s for {awaited}", fix=fix)
        jitter = 1 - random.random() / 4  # noqa: S311  # spreads load, guards nothing
        clock.sleep(min(pause_s * jitter, left_s))
        pause_s = min(pause_s * 1.6, longest_pause_s)
