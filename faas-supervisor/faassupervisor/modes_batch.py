"""The two modes that hand records over to Batch: who may do what is the ledger's to say, and every step is written down before it is taken.

lambda-batch   claim ─► run ─┬ in time, exit code 0 ─► publishing ─► outputs ─► done
                             ├ the script's own failure ─► failed
                             └ out of time, or the input does not fit this disk ─► hand over
batch          claim ─► hand over
hand over      delegating ─► one job of the entry's job name ─► delegated
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Literal, assert_never

from faassupervisor import contract, delegate, events, ledger, on_failure, spill, state
from faassupervisor.contract import Reply, Task
from faassupervisor.errors import (
    AgentError,
    AlreadyRunningError,
    HandOverError,
    NoRoomError,
    NotReusableError,
    ScriptFailedError,
    ScriptTimedOutError,
)
from faassupervisor.events import Item, ObjectItem, Refused, Skipped
from faassupervisor.ledger import Busy, Claim, Entry, HandOver, Ledger, Proceed, Settled
from faassupervisor.log import Log
from faassupervisor.modes import answer_caller, passed_on, with_event

if TYPE_CHECKING:
    from faassupervisor.record import Invocation, Record
    from faassupervisor.sandbox import Sandbox

Reason = Literal["mode batch", "out of time", "no room", "killed"]


class Handing:
    """What hands a function's records over: its ledger, its state and its queue, each made when it is first needed."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.spec = sandbox.function.spec

    @cached_property
    def state(self) -> state.State:
        return state.of(self._sandbox.aws)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(state.Entries(self.state), self.spec.name)

    @cached_property
    def batch(self) -> delegate.Batch:
        variables = self._sandbox.surroundings.variables
        queue, definition = variables.get(contract.JOB_QUEUE), variables.get(contract.JOB_DEFINITION)
        if not queue or not definition:
            raise AgentError(
                f"this function was deployed without {contract.JOB_QUEUE} or {contract.JOB_DEFINITION}: run `scar init` again"
            )
        return delegate.Batch(
            self._sandbox.aws.batch(), queue, definition, main_node=variables.get(contract.JOB_NODES) or None
        )

    def claim(self, record: Record, mode: Literal["lambda-batch", "batch"]) -> Proceed | HandOver | Settled:
        """Raises AlreadyRunningError while another invocation works on this record."""
        invocation = record.invocation
        step = self.ledger.claim(
            run_of(self.spec.name, record.item, invocation.request_id, record.index),
            owner=invocation.request_id,
            request_id=invocation.request_id,
            lease_s=invocation.deadline.for_agent_s() + ledger.LAMBDA_LEASE_MARGIN_S,
            key=record.key,
            mode=mode,
            killed=invocation.killed,
        )
        if isinstance(step, Busy):
            raise AlreadyRunningError(
                f"this record is being worked on by request {step.entry.owner}: this attempt leaves it alone and fails, so that "
                "it is tried again if that one dies"
            )
        return step

    def hand_over(self, record: Record, claim: Claim, reason: Reason) -> None:
        """One job for this record; `record.job_id` is its id. Nothing of the record runs or is published here any more."""
        name = claim.delegating()
        deadline = record.invocation.deadline
        task = Task(self.spec.name, claim.entry.request_id, claim.run, claim.epoch, event="")
        try:
            task = delegate.task_that_fits(
                self.batch, task, record.item.event, name, self.state, may_spill=self.spec.spill
            )
            job_id = self.batch.hand_over(task, name, deadline, continued=not claim.fresh)
        except AgentError:
            with suppress(AgentError):
                claim.renew(0)  # nobody works on it now: another delivery need not wait until this one would have died
            raise
        claim.delegated(job_id)
        record.job_id = job_id
        record.log.note("handed over", job_id=job_id, job_name=name, run=claim.run, reason=reason, key=record.key)


class Batch:
    """Mode `batch`. Neither the script nor the input nor the image is touched in Lambda."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._handing = Handing(sandbox)

    def warm(self, log: Log) -> None:
        try:
            _ = (self._handing.ledger, self._handing.batch)
        except AgentError as error:
            log.warning("records cannot be handed over", reason=error.message)

    def received(self, invocation: Invocation, log: Log) -> Invocation | Reply:
        return _received(self._sandbox, self._handing, invocation, log)

    def treat(self, record: Record) -> Skipped | None:
        match self._handing.claim(record, "batch"):
            case Settled(entry=entry):
                return _settled(record, entry)
            case HandOver(claim=claim) | Proceed(claim=claim):
                self._handing.hand_over(record, claim, "mode batch")
                return None
            case step:
                assert_never(step)


class LambdaBatch:
    """Mode `lambda-batch`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._handing = Handing(sandbox)

    def warm(self, log: Log) -> None:
        self._sandbox.warm(log)
        try:
            _ = self._handing.ledger
        except AgentError as error:
            log.warning("records cannot be handed over", reason=error.message)

    def received(self, invocation: Invocation, log: Log) -> Invocation | Reply:
        return _received(self._sandbox, self._handing, invocation, log)

    def treat(self, record: Record) -> Skipped | None:
        if passed_on(record):
            return None
        match self._handing.claim(record, "lambda-batch"):
            case Settled(entry=entry):
                return _settled(record, entry)
            case HandOver(claim=claim):
                self._handing.hand_over(record, claim, "killed")
            case Proceed(claim=claim):
                self._run(record, claim)
            case step:
                assert_never(step)
        return None

    def _run(self, record: Record, claim: Claim) -> None:
        deadline = record.invocation.deadline
        with ExitStack() as left:
            try:
                if deadline.for_process_s() <= 0:
                    raise ScriptTimedOutError("no time was left to start the script")
                place = record.work(left, marks_of(claim))
                answer_caller(record, place)
                claim.publishing()
                record.publish(place)
            except (ledger.Lost, ledger.LedgerUnreachable, HandOverError):
                raise  # the entry is not ours, or stays as it is: the next attempt hands it over
            except (AgentError, OSError) as error:
                reason = _why_elsewhere(error, timed_out=deadline.for_process_s() <= 0)
                if reason is None:
                    _write_down(claim, error)
                    raise
                self._sandbox.reusable = self._sandbox.reusable and not isinstance(error, NotReusableError)
                # Before what the run left is removed: that may take longer than is left of the time.
                self._handing.hand_over(record, claim, reason)
            else:
                claim.done()


def _received(sandbox: Sandbox, handing: Handing, invocation: Invocation, log: Log) -> Invocation | Reply:
    """The invocation that an on-failure document is about, in place of the document."""
    undone = on_failure.unwrapped(invocation.payload, invocation.function_arn)
    if undone is None:
        return with_event(sandbox, invocation)
    log.warning("an invocation has failed for good", of=undone.request_id, kind=undone.kind, nested=undone.nested)
    if undone.is_told:
        return Reply(
            undone.request_id, (), (f"request {undone.request_id} has failed with {undone.kind}; it is recorded",)
        )
    before = dataclasses.replace(invocation, request_id=undone.request_id, payload=undone.payload, killed=True)
    if undone.nested > on_failure.MOST_NESTED:
        return _given_up(sandbox, handing, before, log)
    return with_event(sandbox, before)


def _given_up(sandbox: Sandbox, handing: Handing, invocation: Invocation, log: Log) -> Reply:
    """The end of a request that could not be handed over in many attempts: kept and told, never sent round once more."""
    reason = "it could not be handed over to Batch in any attempt"
    kept = None
    try:
        reference = spill.put(handing.state, invocation.payload)
        kept = reference.uri
        known = events.Known.of(sandbox.function.spec)
        for index, item in enumerate(events.parse(with_event(sandbox, invocation).payload, known)):
            if not isinstance(item, Skipped | Refused):
                _end(handing, item, index, invocation, f"{reason}; its event is {kept}")
    except AgentError as error:
        log.warning("this could not be written down", kind=error.kind, message=error.message)
    log.error("a request is given up", of=invocation.request_id, event=kept, reason=reason)
    return Reply(invocation.request_id, (), (f"request {invocation.request_id} is given up: {reason}",))


def _end(handing: Handing, item: Item, index: int, invocation: Invocation, reason: str) -> None:
    key = item.key if isinstance(item, ObjectItem) else None
    step = handing.ledger.claim(
        run_of(handing.spec.name, item, invocation.request_id, index),
        owner=invocation.request_id,
        request_id=invocation.request_id,
        lease_s=ledger.LAMBDA_LEASE_MARGIN_S,
        key=key,
        mode="batch",
        killed=True,
    )
    if isinstance(step, HandOver | Proceed):
        step.claim.failed(1, reason)


def run_of(function: str, item: Item, request_id: str, index: int) -> str:
    """The identity of a record: of what happened to an object, or of a message, which comes again under the same id in another request.

    When nothing tells that apart it is that of the `index`th record of the request.
    """
    if isinstance(item, ObjectItem) and (item.sequencer or item.version_id):
        version = item.version_id or item.etag or ""
        return ledger.identity(function, item.bucket, item.key, version, item.sequencer or "")
    if item.message is not None:
        return ledger.identity_of_request(function, f"{item.message.kind}:{item.message.id}", item.message.index)
    return ledger.identity_of_request(function, request_id, index)


def marks_of(claim: Claim) -> dict[str, str]:
    return {contract.ATTEMPT: str(claim.entry.attempt), contract.IDEMPOTENCY_KEY: claim.run}


def _why_elsewhere(error: AgentError | OSError, *, timed_out: bool) -> Reason | None:
    """Why Batch may do better, None when it would fail there as well."""
    if isinstance(error, NoRoomError):
        return "no room"
    if isinstance(error, ScriptTimedOutError) or (timed_out and not isinstance(error, ScriptFailedError)):
        return "out of time"
    return None


def _write_down(claim: Claim, error: AgentError | OSError) -> None:
    code = error.exit_code if isinstance(error, AgentError) else 1
    claim.failed(code, error.message if isinstance(error, AgentError) else str(error))


def _settled(record: Record, entry: Entry) -> Skipped | None:
    """Somebody has done it or will: success without a run."""
    if entry.state != "done" and entry.job_id is not None:
        record.log.note("in the hands of Batch already", job_id=entry.job_id, state=entry.state)
        record.job_id = entry.job_id
        return None
    what = "this record" if entry.key is None else ascii(entry.key)
    how = (
        "was processed already"
        if entry.state == "done"
        else f"has failed with exit code {entry.exit_code}; it is recorded"
    )
    return Skipped(f"{what} {how} (request {entry.request_id})")
