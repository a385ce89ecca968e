"""Clocks for what must not depend on whether somebody sets the clock: times that never go back, and durations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def steady() -> float:
    """Seconds since the machine was started, also those it was asleep: of durations, in one process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Onward:
    """The time of day, but it never goes back: while the clock says less than before, time goes on from what was said last."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = steady) -> None:
        self._wall, self._elapsed, self._lock = wall, elapsed, threading.Lock()
        self._said, self._said_at = wall(), elapsed()

    def __call__(self) -> float:
        with self._lock:
            wall, elapsed = self._wall(), self._elapsed()
            self._said = wall if wall >= self._said else self._said + (elapsed - self._said_at)
            self._said_at = elapsed
            return self._said
