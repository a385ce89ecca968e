"""How long the user's process may still run. The clock on the wall is read once; from then on time only goes forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MOST_KEPT_BACK: Final = 0.25  # of the time left at the start: a 3 s function keeps 0.75 s back, not 10
_GRACE_S: Final = 2.0


class Deadline:
    """Two moments of one invocation: when the user's process is stopped, and when Lambda stops us.

    `kept_back_s` lies between them, for stopping the process, for uploads and for the reply: the function's
    `timeout_threshold_s`, but never more than a quarter of the time that there was at the start. With `exact` it is all of it,
    as long as that leaves any time: there the threshold says when a run goes on elsewhere.
    """

    def __init__(
        self, total_s: float, threshold_s: float, *, exact: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        most = 1.0 if exact and threshold_s < total_s else MOST_KEPT_BACK
        self.kept_back_s = min(max(threshold_s, 0.0), max(total_s, 0.0) * most)
        self._end = clock() + max(total_s, 0.0)

    @classmethod
    def at(cls, deadline_ms: int, threshold_s: float, *, exact: bool = False) -> Deadline:
        """From Lambda-Runtime-Deadline-Ms, milliseconds since 1970."""
        return cls(deadline_ms / 1000 - time.time(), threshold_s, exact=exact)

    def for_process_s(self) -> float:
        """Seconds the user's process may still run, never negative."""
        return max(0.0, self._end - self.kept_back_s - self._clock())

    def for_agent_s(self) -> float:
        """Seconds until Lambda stops everything, never negative."""
        return max(0.0, self._end - self._clock())

    def grace_s(self) -> float:
        """Seconds between asking a process to stop and killing it: at most two, and a third of what is kept back."""
        return min(_GRACE_S, self.kept_back_s / 3)
