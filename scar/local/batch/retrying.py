"""Is a failed attempt tried again? retryStrategy as AWS evaluates it. Pure.

Source: batch/latest/userguide/job_retries and botocore batch:EvaluateOnExit: the first entry decides whose every condition matches; what no
entry matches is tried again; patterns ignore case and may end in `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_retried(
    strategy: Mapping[str, Any], *, attempts: int, exit_code: int | None, reason: str, status_reason: str
) -> bool:
    """Whether a job that failed `attempts` times, the last time so, is given one more."""
    if attempts >= int(strategy.get("attempts") or 1):
        return False
    told = {
        "onExitCode": "" if exit_code is None else str(exit_code),
        "onReason": reason,
        "onStatusReason": status_reason,
    }
    for entry in strategy.get("evaluateOnExit") or ():
        conditions = [(told[name], entry[name]) for name in told if entry.get(name)]
        if all(_matches(text, pattern) for text, pattern in conditions):
            return str(entry["action"]).upper() == "RETRY"
    return True


def _matches(text: str, pattern: str) -> bool:
    text, pattern = text.lower(), pattern.lower()
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
