"""What an invocation in Lambda is answered, in the words of whoever waits for it.

a batch of messages of a queue    which of them come back (`queue_answer`)
an HTTP request                   a status, headers and a body (`http_answer`); its failures are answers too
anything else                     the contract's Reply; or its Failure, which fails the invocation
"""

from __future__ import annotations

from dataclasses import dataclass

from faassupervisor import reply
from faassupervisor.contract import Failure, Reply
from faassupervisor.events import HttpItem, Refused, http
from faassupervisor.log import Log
from faassupervisor.record import Invocation
from faassupervisor.sandbox import Sandbox
from faassupervisor.supervise import Settled, settle


@dataclass(frozen=True, slots=True)
class Served:
    """`failed` is the failure's kind when the invocation is to fail."""

    body: bytes
    failed: str | None = None


def serve(sandbox: Sandbox, invocation: Invocation, log: Log) -> Served:
    """Run everything an event asks for and say how it went. Only a defect of the agent raises."""
    settled = settle(sandbox, invocation, log)
    if _caller_waits(settled, invocation):
        return _over_http(settled, log)
    answer = settled.answer
    told = settled.messages.answer()
    if told is not None:
        log.info("answered a queue", messages=len(settled.messages), back=len(settled.messages.back))
        return Served(told)
    return of(answer)


def of(answer: Reply | Failure) -> Served:
    return Served(reply.fitted(answer), answer.kind if isinstance(answer, Failure) else None)


def _caller_waits(settled: Settled, invocation: Invocation) -> bool:
    for outcome in settled.outcomes:
        if isinstance(outcome, HttpItem):
            return not outcome.forwarded
        if isinstance(outcome, Refused) and outcome.of_http:
            return True
    # Nothing is known of an event that failed before it was parsed.
    return not settled.outcomes and settled.reply is None and http.asks(invocation.payload)


def _over_http(settled: Settled, log: Log) -> Served:
    from faassupervisor import http_answer

    answer, record = settled.answer, settled.record
    if isinstance(answer, Failure):
        told = http_answer.failed(answer)
    elif record is not None and record.http is not None:
        told = record.http
    elif record is not None and record.job_id is not None:
        told = http_answer.accepted(answer.request_id, record.job_id)
    else:
        told = http_answer.settled("; ".join(answer.skipped), answer.request_id)
    (log.error if told.status >= 500 else log.info)("answered over HTTP", status=int(told.status))
    return Served(told.to_json(answer.request_id))
