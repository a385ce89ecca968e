"""How far is something that takes longer than a second? A bar that is redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

from scar.text import size

_BAR_CHARS: Final = 20


class Voice(Protocol):
    """Where progress is shown. 1: `draw` overwrites what it drew before, and shows nothing where a line cannot be redrawn. 2: `remark` writes a line."""

    @property
    def redraws(self) -> bool: ...

    def draw(self, text: str) -> None: ...

    def remark(self, text: str) -> None: ...


class Progress:
    """Counts bytes (or items) from any thread. Nothing is shown in the first second; plain output gets a line every ten.

    `total` is that of all parts together where it is known beforehand; without it the parts say how long they are when they begin.
    """

    REDRAW_S, PLAIN_S, QUIET_FIRST_S = 0.1, 10.0, 1.0

    def __init__(self, voice: Voice, what: str, total: int | None = None) -> None:
        self._voice, self._what, self._total = voice, what, total
        self._start = self._shown = time.monotonic()
        self._done: dict[str, tuple[int, int]] = {}
        self._sum = 0
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` bytes of the part called `what` are through."""
        part = what.partition(",")[0]  # what follows a comma is detail, not another part
        with self._lock:
            before, _ = self._done.get(part, (0, 0))
            self._done[part] = (done, total)
            self._sum += done - before
            if self._total is not None and done >= total:
                del self._done[part]  # of a million parts only those under way are kept
            now = time.monotonic()
            every = self.REDRAW_S if self._voice.redraws else self.PLAIN_S
            if now - self._start < self.QUIET_FIRST_S or now - self._shown < every:
                return
            self._shown = now
            text = self._text(now, what)
        if self._voice.redraws:
            self._voice.draw(text)
        else:
            self._voice.remark(text)

    def _text(self, now: float, what: str) -> str:
        if self._total is None:
            whole = sum(total for _, total in self._done.values())
            return f"{self._what}  {size(self._sum)} of {size(whole)}  {what}"
        share = min(self._sum / self._total, 1.0) if self._total else 1.0
        filled = int(share * _BAR_CHARS)
        bar = f"[{'#' * filled}{'.' * (_BAR_CHARS - filled)}] " if self._voice.redraws else ""
        speed = size(self._sum / max(now - self._start, 0.001))
        return f"{self._what}  {bar}{share:.0%}  {size(self._sum)} of {size(self._total)}, {speed}/s  {what}"

    def finish(self) -> None:
        self._voice.draw("")


class Counting:
    """Counts things that end one after another, from any thread; shown as `Progress` is."""

    def __init__(self, voice: Voice, what: str, total: int | None) -> None:
        self._voice, self._what, self._total = voice, what, total
        self._start = self._shown = time.monotonic()
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self, what: str) -> None:
        """One more, called `what`, is done."""
        with self._lock:
            self._count += 1
            now = time.monotonic()
            every = Progress.REDRAW_S if self._voice.redraws else Progress.PLAIN_S
            if now - self._start < Progress.QUIET_FIRST_S or now - self._shown < every:
                return
            self._shown = now
            of = "" if self._total is None else f" of {self._total}"
            text = f"{self._what}  {self._count}{of} done  {what}"
        (self._voice.draw if self._voice.redraws else self._voice.remark)(text)

    def finish(self) -> None:
        self._voice.draw("")
