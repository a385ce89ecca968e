"""One invocation from its payload to its answer: the agent's story, in order.

    payload ─mode.received─► event ─events.parse─► items;  for each: mode.treat(Record) ─► Run

A record that fails publishes nothing and stops no other record; at the end the invocation fails with the first failure. What one record
leaves behind (files, processes, variables) is gone before the next one starts. What `treat` does is the mode's (`modes`), with the
steps of `record`.
"""

from __future__ import annotations

import time
from typing import Final

from faassupervisor import events
from faassupervisor.contract import Failure, Reply, Run
from faassupervisor.errors import (
    AgentError,
    AlreadyRunningError,
    BadEventError,
    HandOverError,
    NotReusableError,
    StageOutError,
)
from faassupervisor.events import Refused, Skipped
from faassupervisor.events.items import ObjectItem
from faassupervisor.log import Log
from faassupervisor.record import Invocation, Record
from faassupervisor.sandbox import Sandbox

LAST_LINES: Final = 20
# These speak first for an event of several records: its on-failure document is not looked into when the script's own failure speaks.
_UNDONE: Final = frozenset({HandOverError.kind, AlreadyRunningError.kind})


def supervise(sandbox: Sandbox, invocation: Invocation, log: Log) -> Reply | Failure:
    """Run everything an event asks for. Failures are answers; only a defect of the agent raises."""
    try:
        sandbox.sweep(log)
        received = sandbox.mode.received(invocation, log)
        if isinstance(received, Reply):
            return received
        if received.request_id != invocation.request_id:
            log = log.of(received.request_id)
        invocation = received
        outcomes = events.parse(invocation.payload)
    except AgentError as error:
        return _failure([(error, None)], (), invocation.request_id)

    runs: list[Run] = []
    skipped: list[str] = []
    failures: list[tuple[AgentError, Run | None]] = []
    for index, outcome in enumerate(outcomes):
        treated = (
            outcome
            if isinstance(outcome, Skipped | Refused)
            else _one(Record(sandbox, outcome, index, invocation, log))
        )
        match treated:
            case Skipped(reason=reason):
                log.info("skipped a record", reason=reason)
                skipped.append(reason)
            case Refused(reason=reason, key=key):
                log.error("refused a record", reason=reason)
                failures.append((BadEventError(f"event: {reason}"), None))
                runs.append(Run(key, 1))
            case (run, failed):
                runs.append(run)
                if failed is not None:
                    log.error("a record failed", kind=failed.kind, message=failed.message, key=run.key)
                    failures.append((failed, run))
    if failures:
        return _failure(failures, tuple(runs), invocation.request_id)
    return Reply(invocation.request_id, tuple(runs), tuple(skipped))


def _one(record: Record) -> Skipped | tuple[Run, AgentError | None]:
    """One record, in a workspace of its own if it runs here."""
    if isinstance(record.item, ObjectItem):
        record.log.note("took a record", bucket=record.item.bucket, key=record.item.key)
    sandbox, started = record.sandbox, time.monotonic()
    failure: AgentError | None = None
    skipped: Skipped | None = None
    try:
        skipped = sandbox.mode.treat(record)
    except AgentError as error:
        failure = error
    except OSError as error:
        failure = AgentError(f"this record could not be served: {error.strerror or error}: {error.filename!a}")
    if isinstance(failure, NotReusableError):
        sandbox.reusable = False
    try:
        sandbox.sweep(record.log)
    except NotReusableError as error:
        failure = failure or error
    if skipped is not None and failure is None:
        return skipped
    code = failure.exit_code if failure else 0
    published = failure.published if isinstance(failure, StageOutError) else record.published
    seconds = round(time.monotonic() - started, 3)
    return Run(record.key, code, published, record.output, seconds, record.job_id), failure


def _failure(failures: list[tuple[AgentError, Run | None]], runs: tuple[Run, ...], request_id: str) -> Failure:
    """The first failure speaks for all, one that leaves a record undone before the others; it says how many there were."""
    error, run = next((failure for failure in failures if failure[0].kind in _UNDONE), failures[0])
    message = error.message if len(runs) <= 1 else f"{error.message} ({len(failures)} of {len(runs)} records failed)"
    lines = tuple(run.output.splitlines()[-LAST_LINES:]) if run is not None else ()
    return Failure(error.kind, message, error.exit_code, lines, runs, request_id)
