"""Where do the log lines of local functions go? Into moto's CloudWatch Logs, and into one file per group that outlives us.

moto keeps events in lists; this file makes them durable and leaves reading (GetLogEvents, FilterLogEvents) to moto.
Lines are written to the kernel before `put` returns, so they survive a killed daemon; once a second they reach the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

DEFAULT_ACCOUNT: Final = "123456789012"  # moto's
DEFAULT_REGION: Final = "us-east-1"


class LogSink:
    """CloudWatch Logs for whoever runs inside the daemon. Safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(
        self,
        group: str,
        stream: str,
        lines: Sequence[tuple[int, str]],
        *,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
    ) -> None:
        """Append (milliseconds since 1970, text) lines. Group and stream are made when they are absent."""
        raise RuntimeError("not attached")
