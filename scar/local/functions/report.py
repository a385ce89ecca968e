"""What does Lambda say in a function's log? START, END and REPORT, and the tail that an invocation may ask for."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass

from scar.limits import LAMBDA_TAIL_LOG_BYTES


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
