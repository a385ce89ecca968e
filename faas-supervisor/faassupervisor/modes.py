"""What a function's execution mode means to the agent in Lambda. `MODES` has one line for each; what only Batch needs is imported then.

lambda          run here, fail when time is over
lambda-batch    run here; what does not end in time goes to Batch
batch           nothing runs here: every record goes to Batch

What every mode promises:

1. `warm` makes what the first event will need, while nobody waits yet. It never fails.
2. `received` sees each invocation first. It answers one whose payload is the event itself, or the reply when there is nothing to do.
3. `treat` settles one record: a run with its outputs published, a job (`record.job_id`), or Skipped. AgentError tells that it did not,
   and then nothing of it is published, but what StageOutError names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from faassupervisor import contract
from faassupervisor.events import HttpItem, Skipped
from faassupervisor.log import Log

if TYPE_CHECKING:
    from faassupervisor.contract import Reply
    from faassupervisor.record import Invocation, Record
    from faassupervisor.sandbox import Sandbox
    from faassupervisor.workspace import Workspace


_REFERENCE: Final = f'"{contract.REFERENCE_KEY}"'.encode()
_LONGEST_REFERENCE_BYTES: Final = 8 * 1024  # a key of S3 has 1024 bytes, each at most six characters of JSON


class Mode(Protocol):
    def warm(self, log: Log) -> None: ...

    def received(self, invocation: Invocation, log: Log) -> Invocation | Reply: ...

    def treat(self, record: Record) -> Skipped | None: ...


def with_event(sandbox: Sandbox, invocation: Invocation) -> Invocation:
    """What the payload refers to in its place, when it is a reference (`contract.Reference`)."""
    if _REFERENCE not in invocation.payload[:_LONGEST_REFERENCE_BYTES]:
        return invocation
    from faassupervisor import spill, state

    event = spill.resolved(invocation.payload, lambda: state.of(sandbox.aws))
    return dataclasses.replace(invocation, payload=event)


class Here:
    """Mode `lambda`, and every run outside Lambda."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def warm(self, log: Log) -> None:
        self._sandbox.warm(log)

    def received(self, invocation: Invocation, log: Log) -> Invocation:  # the protocol's
        return with_event(self._sandbox, invocation)

    def treat(self, record: Record) -> None:
        if passed_on(record):
            return
        with ExitStack() as left:
            place = record.work(left, {})
            answer_caller(record, place)
            record.publish(place)


def passed_on(record: Record) -> bool:
    """Whether the request is in Lambda's own queue now, for a caller who does not wait. Raises HandOverError when it could not be put there."""
    item, invocation = record.item, record.invocation
    if not isinstance(item, HttpItem) or not item.asynchronous or item.forwarded or invocation.function_arn is None:
        return False
    from faassupervisor import http_answer, http_forward

    try:
        record.http = http_answer.accepted(http_forward.forward(record.sandbox, item, invocation))
    except http_forward.TooLargeError as error:
        record.http = http_answer.too_large(str(error), invocation.request_id)
    return True


def answer_caller(record: Record, place: Workspace) -> None:
    """Keep what the caller of the endpoint is to get, when one waits: the place is gone when the answer is sent."""
    if isinstance(record.item, HttpItem) and not record.item.forwarded:
        from faassupervisor import http_answer

        record.http = http_answer.result(place.outbox, record.output)


def _lambda_batch(sandbox: Sandbox) -> Mode:
    from faassupervisor.modes_batch import LambdaBatch

    return LambdaBatch(sandbox)


def _batch(sandbox: Sandbox) -> Mode:
    from faassupervisor.modes_batch import Batch

    return Batch(sandbox)


MODES: Final[Mapping[contract.Mode, Callable[[Sandbox], Mode]]] = {
    "lambda": Here,
    "lambda-batch": _lambda_batch,
    "batch": _batch,
}
