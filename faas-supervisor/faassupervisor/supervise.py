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
from faassupervisor.events import Message, ObjectItem, Outcome, Refused, Skipped
from faassupervisor.log import Log
from faassupervisor.queue_answer import Messages
from faassupervisor.record import Invocation, Record
from faassupervisor.sandbox import Sandbox

LAST_LINES: Final = 20
# These speak first for an event of several records: its on-failure document is not looked into when the script's own failure speaks.
_UNDONE: Final = frozenset({HandOverError.kind, AlreadyRunningError.kind})


def supervise(sandbox: Sandbox, invocation: Invocation, log: Log) -> Reply | Failure:
    """Run everything an event asks for. Failures are answers; only a defect of the agent raises."""
    return settle(sandbox, invocation, log).answer


class Settled:
    """What has become of an event. `messages` are those of a queue, `record` the one that was treated last; both are for who is answered."""

    def __init__(self, log: Log, request_id: str) -> None:
        self.request_id = request_id
        self.outcomes: tuple[Outcome, ...] = ()
        self.messages = Messages()
        self.record: Record | None = None
        self.reply: Reply | None = None  # of a mode that knew without looking into the event
        self._log = log
        self._runs: list[Run] = []
        self._skipped: list[str] = []
        self._failures: list[tuple[AgentError, Run | None]] = []

    @property
    def answer(self) -> Reply | Failure:
        if self.reply is not None:
            return self.reply
        if self._failures:
            return _failure(self._failures, tuple(self._runs), self.request_id)
        return Reply(self.request_id, tuple(self._runs), tuple(self._skipped))

    def skip(self, reason: str) -> None:
        self._log.info("skipped a record", reason=reason)
        self._skipped.append(reason)

    def refuse(self, refused: Refused) -> None:
        self._log.error("refused a record", reason=refused.reason, **_named(refused.message))
        self._runs.append(Run(refused.key, 1))
        self._fail(BadEventError(f"event: {refused.reason}"), None, refused.message)

    def leave(self, message: Message | None) -> None:
        """For the next delivery, with the message that it follows in its group."""
        self._log.warning("a message waits for one that failed before it", **_named(message))
        self.messages.failed(message)

    def ran(self, record: Record, run: Run, failed: AgentError | None) -> None:
        self.record = record
        self._runs.append(run)
        if failed is not None:
            message = record.item.message
            self._log.error("a record failed", kind=failed.kind, message=failed.message, key=run.key, **_named(message))
            self._fail(failed, run, message)

    def fail(self, error: AgentError) -> None:
        """The event as a whole."""
        self._fail(error, None, None)

    def _fail(self, error: AgentError, run: Run | None, message: Message | None) -> None:
        self._failures.append((error, run))
        self.messages.failed(message)


def settle(sandbox: Sandbox, invocation: Invocation, log: Log) -> Settled:
    """The same, with what is known besides the answer."""
    settled = Settled(log, invocation.request_id)
    try:
        sandbox.sweep(log)
        received = sandbox.mode.received(invocation, log)
        if isinstance(received, Reply):
            settled.reply = received
            return settled
        if received.request_id != invocation.request_id:
            log = log.of(received.request_id)
            settled = Settled(log, received.request_id)
        settled.outcomes = events.parse(received.payload, events.Known.of(sandbox.function.spec))
    except AgentError as error:
        settled.fail(error)
        return settled
    for outcome in settled.outcomes:
        settled.messages.saw(outcome.message)
    for index, outcome in enumerate(settled.outcomes):
        if settled.messages.waits(outcome.message):
            settled.leave(outcome.message)
        elif isinstance(outcome, Skipped):
            settled.skip(outcome.reason)
        elif isinstance(outcome, Refused):
            settled.refuse(outcome)
        else:
            _treat(settled, Record(sandbox, outcome, index, received, log))
    return settled


def _treat(settled: Settled, record: Record) -> None:
    """One record, in a workspace of its own if it runs here."""
    if isinstance(record.item, ObjectItem):  # said first, so that whoever put the object finds its run
        record.log.note("took a record", bucket=record.item.bucket, key=record.item.key)
    sandbox, started = record.sandbox, time.monotonic()
    failure: AgentError | None = None
    skipped: Skipped | None = None
    try:
        skipped = sandbox.mode.treat(record)
    except AgentError as error:
        failure = error
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename!a}"
        failure = AgentError(f"this record could not be served: {error.strerror or error}{where}")
    if isinstance(failure, NotReusableError):
        sandbox.reusable = False
    try:
        sandbox.sweep(record.log)
    except NotReusableError as error:
        failure = failure or error
    if skipped is not None and failure is None:
        settled.skip(skipped.reason)
        return
    code = failure.exit_code if failure else 0
    published = failure.published if isinstance(failure, StageOutError) else record.published
    seconds = round(time.monotonic() - started, 3)
    settled.ran(record, Run(record.key, code, published, record.output, seconds, record.job_id), failure)


def _named(message: Message | None) -> dict[str, str]:
    return {"message_id": message.id} if message is not None else {}


def _failure(failures: list[tuple[AgentError, Run | None]], runs: tuple[Run, ...], request_id: str) -> Failure:
    """The first failure speaks for all, one that leaves a record undone before the others; it says how many there were."""
    error, run = next((failure for failure in failures if failure[0].kind in _UNDONE), failures[0])
    message = error.message if len(runs) <= 1 else f"{error.message} ({len(failures)} of {len(runs)} records failed)"
    lines = tuple(run.output.splitlines()[-LAST_LINES:]) if run is not None else ()
    return Failure(error.kind, message, error.exit_code, lines, runs, request_id)
