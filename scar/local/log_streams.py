"""How do a sandbox's lines reach CloudWatch Logs? In batches and never much late, whatever runs in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scar.local.functions.configuration import LogSink

LINE_BYTES: Final = 256 * 1024  # CloudWatch Logs' bound on one event; a longer line is cut into several
_BATCH_BYTES: Final = 256 * 1024
_BATCH_LINES: Final = 2000
_LATE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group, wherever CloudWatch Logs has it."""

    account: str
    region: str
    name: str


class LogStream:
    """The log stream of one sandbox. Holds at most one batch: who writes faster than the sink takes, waits."""

    def __init__(
        self, sink: LogSink, group: LogGroup, name: str, flusher: Flusher, clock: Callable[[], float] = time.time
    ) -> None:
        self._sink, self._flusher, self._clock = sink, flusher, clock
        self._at = group
        self.name = name
        self._lock = threading.Lock()
        self._lines: list[tuple[int, str]] = []
        self._size = 0
        self._tell_sink([])  # makes group and stream, so that whoever invokes finds them there

    def write(self, *lines: str) -> None:
        with self._lock:
            now_ms = int(self._clock() * 1000)
            was_empty = not self._lines
            self._lines.extend((now_ms, line) for line in lines)
            self._size += sum(map(len, lines))
            full = self._size >= _BATCH_BYTES or len(self._lines) >= _BATCH_LINES
            if full:
                self._put()
        if was_empty and not full:
            self._flusher.wake(self)

    def flush(self) -> None:
        with self._lock:
            self._put()

    def _put(self) -> None:
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        self._tell_sink(lines)

    def _tell_sink(self, lines: list[tuple[int, str]]) -> None:
        try:
            self._sink.put(
                self._at.name, self.name, lines, account=self._at.account, region=self._at.region, make=not lines
            )
        except Exception as error:  # noqa: BLE001  # a door: a broken log group must not stop functions or other streams
            self._flusher.tell(f"{len(lines)} log lines of {self._at.name} {self.name} were lost: {error}")


class Flusher:
    """One thread that brings every stream's lines to the sink within a fraction of a second."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._waiting: set[LogStream] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sandbox-logs", daemon=True)
        self._thread.start()

    def wake(self, stream: LogStream) -> None:
        with self._changed:
            self._waiting.add(stream)
            self._changed.notify()

    def stop(self) -> None:
        """Write what is left and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                stopping = self._stopped
            if not stopping:
                time.sleep(_LATE_S)
            with self._changed:
                due, self._waiting = self._waiting, set()
            for stream in due:
                stream.flush()
            if stopping and not self._waiting:
                return
