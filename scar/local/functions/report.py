"""What does a function's log look like? Its own lines, and Lambda's START, END and REPORT, in batches and never much late."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scar.limits import LAMBDA_TAIL_LOG_BYTES
from scar.local.functions.configuration import Configuration, LogSink

LINE_BYTES: Final = 256 * 1024  # CloudWatch Logs' bound on one event; a longer line is cut into several
_BATCH_BYTES: Final = 256 * 1024
_BATCH_LINES: Final = 2000
_LATE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a REPORT line. `init_s` only for the first invocation of a sandbox."""

    duration_s: float
    memory_mib: int
    used_mib: int
    init_s: float | None = None
    status: str | None = None  # "timeout" or "error"
    error_type: str | None = None


def start_line(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def report_line(request_id: str, report: Report) -> str:
    """Lambda's REPORT line. Initialisation is billed too, since August 2025."""
    duration_ms, init_ms = report.duration_s * 1000, (report.init_s or 0.0) * 1000
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_ms:.2f} ms",
        f"Billed Duration: {max(1, math.ceil(duration_ms + init_ms))} ms",
        f"Memory Size: {report.memory_mib} MB",
        f"Max Memory Used: {report.used_mib} MB",
    ]
    if report.init_s is not None:
        parts.append(f"Init Duration: {init_ms:.2f} ms")
    if report.status is not None:
        parts.append(f"Status: {report.status}")
    if report.error_type is not None:
        parts.append(f"Error Type: {report.error_type}")
    return "\t".join(parts)


def timeout_line(request_id: str, timeout_s: float, now: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{stamp}.{int(now * 1000) % 1000:03d}Z {request_id} Task timed out after {timeout_s:.2f} seconds"


def stream_name(version: str, now: float) -> str:
    return time.strftime("%Y/%m/%d/", time.gmtime(now)) + f"[{version}]{uuid.uuid4().hex}"


class Tail:
    """The last 4 KB of one invocation's log, as LogType=Tail answers it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        raw = line[-LAMBDA_TAIL_LOG_BYTES:].encode(errors="replace") + b"\n"
        with self._lock:
            self._lines.append(raw)
            self._size += len(raw)
            while self._size - len(self._lines[0]) >= LAMBDA_TAIL_LOG_BYTES:
                self._size -= len(self._lines.popleft())

    def content(self) -> bytes:
        with self._lock:
            return b"".join(self._lines)[-LAMBDA_TAIL_LOG_BYTES:]


class LogStream:
    """The log stream of one sandbox. Holds at most one batch: who writes faster than the sink takes, waits."""

    def __init__(
        self, sink: LogSink, configuration: Configuration, flusher: Flusher, clock: Callable[[], float]
    ) -> None:
        self._sink, self._flusher, self._clock = sink, flusher, clock
        self._at = configuration
        self.name = stream_name(configuration.version, clock())
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
                self._at.log_group, self.name, lines, account=self._at.account, region=self._at.region, make=not lines
            )
        except Exception as error:  # noqa: BLE001  # a door: a broken log group must not stop functions or other streams
            self._flusher.tell(f"{len(lines)} log lines of {self._at.log_group} {self.name} were lost: {error}")


class Flusher:
    """One thread that brings every stream's lines to the sink within a fraction of a second."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._waiting: set[LogStream] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="function-logs", daemon=True)
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
