"""Answers that fit. Lambda refuses a reply beyond 6 MiB, and a refused reply would turn a good run into a failed one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from faassupervisor.contract import Failure, Reply, Run

LIMIT_BYTES: Final = 6 * 1024 * 1024 - 4096  # a little below, for what Lambda itself wraps around a reply


def fitted(answer: Reply | Failure, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The answer as JSON, shortened until it fits: first what the runs wrote, to its last part, then lists to their first part."""
    text = answer.to_json()
    kept_chars = 256 * 1024
    while len(text) > limit_bytes and kept_chars:
        kept_chars //= 4
        answer = _with_runs(answer, tuple(replace(run, output=_last(run.output, kept_chars)) for run in answer.runs))
        text = answer.to_json()
    kept_items = max([len(answer.runs), *(len(run.outputs) for run in answer.runs)])
    while len(text) > limit_bytes and kept_items:
        kept_items //= 2
        answer = _with_runs(
            answer, tuple(replace(run, outputs=run.outputs[:kept_items]) for run in answer.runs[:kept_items])
        )
        text = answer.to_json()
    return text


def _with_runs(answer: Reply | Failure, runs: tuple[Run, ...]) -> Reply | Failure:
    if isinstance(answer, Failure):
        return replace(answer, runs=runs, last_lines=tuple(_last(line, 1000) for line in answer.last_lines))
    return replace(answer, runs=runs)


def _last(text: str, chars: int) -> str:
    return text[-chars:] if chars else ""
