"""What Batch does in its own time: CREATING → VALID, UPDATING → VALID, DELETING → gone.

Without a thread nothing happens by itself: whoever handles a request runs what is due first, so that tests own the clock.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger("scar.local")
_AGAIN_S: Final = 0.2  # at least, until something that waits for others is looked at again
_FAILED_S: Final = 5.0  # until something that failed (a full disk, most likely) is tried again

Step = Callable[[], bool]  # whether it is finished; runs without any lock held


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    step: Step = field(compare=False)


class Settling:
    """Steps that are due `after_s` after they were begun, in their order."""

    def __init__(self, clock: Callable[[], float], after_s: float) -> None:
        self._clock, self._after_s = clock, after_s
        self._numbers = itertools.count()
        self._due: list[_Due] = []
        self._changed = threading.Condition()
        self._running = threading.RLock()  # one step at a time
        self._thread: threading.Thread | None = None
        self._stopping = False

    def later(self, step: Step, *, after_s: float | None = None) -> None:
        """Run `step` once the time has come; again and again while it answers that it is not finished."""
        with self._changed:
            at = self._clock() + (self._after_s if after_s is None else after_s)
            heapq.heappush(self._due, _Due(at, next(self._numbers), step))
            self._changed.notify_all()

    def run_due(self) -> None:
        """Run what is due now, on this thread."""
        with self._running:
            while (due := self._next()) is not None:
                again_s = self._run(due.step)
                if again_s is not None:
                    self.later(due.step, after_s=again_s)

    def _run(self, step: Step) -> float | None:
        """After how long to run it again; None when it is finished."""
        try:
            return None if step() else max(self._after_s, _AGAIN_S)
        except Exception:  # noqa: BLE001 - whoever's turn it is (a request, our thread) is not to blame
            _log.exception("something of Batch could not be settled")
            return _FAILED_S

    def _next(self) -> _Due | None:
        with self._changed:
            if self._due and self._due[0].at <= self._clock():
                return heapq.heappop(self._due)
            return None

    def start(self) -> None:
        """Let a thread run them from now on; it sleeps while nothing is due."""
        self._thread = threading.Thread(target=self._work, name="batch settling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What is not finished begins anew at the next start: its record says that it was under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(10.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (not self._due or self._due[0].at > self._clock()):
                    self._changed.wait(None if not self._due else max(0.001, self._due[0].at - self._clock()))
                if self._stopping:
                    return
            self.run_due()
