"""One write serves all who changed something at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Saver:
    """Writes one thing whole. Whoever asks while a write runs waits for the next one, which serves all who asked."""

    def __init__(self, write: Callable[[], None]) -> None:
        """`write` puts the present state on disk; it is never called twice at once."""
        self._write = write
        self._asked = self._written = 0
        self._counter, self._writer = threading.Lock(), threading.Lock()

    def save(self) -> None:
        """Return when everything that was changed before the call is on disk. What `write` raises reaches whom it was done for."""
        with self._counter:
            self._asked += 1
            mine = self._asked
        with self._writer:
            if self._written >= mine:
                return
            with self._counter:
                serves = self._asked
            self._write()
            self._written = serves
