"""The agent's own log: one JSON line per fact, for operators. What the user's process writes passes beside it, as it is.

A line is plain ASCII, so nothing that an object key or a server's answer contains can end the line or steer a terminal.
Callers pass facts, never payloads and never credentials.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Final

Write = Callable[[bytes], None]
Fact = str | int | float | bool | None

_LEVELS: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


def to_descriptor(descriptor: int) -> Write:
    """A writer that hands every byte to a file descriptor at once: nothing waits in a buffer when the sandbox is frozen."""

    def write(text: bytes) -> None:
        view = memoryview(text)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


class Log:
    """Facts about one invocation. `level` is a name of Python's logging; an unknown name means INFO."""

    def __init__(self, write: Write, *, level: str = "INFO", request_id: str = "") -> None:
        self.write = write
        self._level = level
        self._least = _LEVELS.get(level.upper(), _LEVELS["INFO"])
        self._request_id = request_id

    def of(self, request_id: str) -> Log:
        """The same log, for another request."""
        return Log(self.write, level=self._level, request_id=request_id)

    def debug(self, fact: str, **facts: Fact) -> None:
        self._tell("DEBUG", fact, facts)

    def info(self, fact: str, **facts: Fact) -> None:
        self._tell("INFO", fact, facts)

    def note(self, fact: str, **facts: Fact) -> None:
        """Like `info`, whatever the level: what `scar` looks for in a function's log."""
        self._tell("INFO", fact, facts, always=True)

    def warning(self, fact: str, **facts: Fact) -> None:
        self._tell("WARNING", fact, facts)

    def error(self, fact: str, **facts: Fact) -> None:
        self._tell("ERROR", fact, facts)

    def _tell(self, level: str, fact: str, facts: dict[str, Fact], *, always: bool = False) -> None:
        if _LEVELS[level] < self._least and not always:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = {"time": stamp, "level": level, "request_id": self._request_id, "fact": fact, **facts}
        # ASCII only: json.dumps escapes control characters; DEL is the one that it leaves.
        self.write(json.dumps(line).replace("\x7f", "\\u007f").encode("ascii") + b"\n")
