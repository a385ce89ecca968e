"""Who was turned away at the main node's port? Each once, by address and reason, and no more than a few lines a minute."""

from __future__ import annotations

import threading
import time
from typing import Final

from faassupervisor.log import Log

_LINES: Final = 5
_PER_S: Final = 60.0
_REMEMBERED: Final = 1000


class Strangers:
    """`refused` may be called from any thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] = set()
        self._since = time.monotonic()
        self._lines = self._untold = 0

    def refused(self, address: str, reason: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._since > _PER_S:
                self._since, self._lines = now, 0
            who = (address, reason)
            if who in self._known or self._lines >= _LINES:
                self._untold += 1
                return
            if len(self._known) < _REMEMBERED:
                self._known.add(who)
            self._lines += 1
            untold, self._untold = self._untold, 0
        self._log.warning("a stranger was refused", address=address, reason=reason, others=untold)

    def summed_up(self) -> None:
        with self._lock:
            untold, self._untold = self._untold, 0
        if untold:
            self._log.warning("more strangers were refused", others=untold)
