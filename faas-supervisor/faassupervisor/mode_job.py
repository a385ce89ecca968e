"""What a job does besides running its record: it takes it over in the ledger, says that it lives, and writes down how it ended."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypeVar

from faassupervisor import leaving, spill, state
from faassupervisor.contract import Failure, Reply, Task
from faassupervisor.errors import AgentError, AlreadyRunningError
from faassupervisor.ledger import (
    JOB_LEASE_S,
    JOB_RENEWAL_S,
    Busy,
    Claim,
    Ledger,
    LedgerUnreachable,
    Lost,
    Proceed,
    Settled,
)
from faassupervisor.log import Log
from faassupervisor.modes_batch import marks_of

if TYPE_CHECKING:
    from faassupervisor.nodes.crew import Crew
    from faassupervisor.record import Invocation, Record
    from faassupervisor.sandbox import Sandbox

T = TypeVar("T")

_PAUSES_S: Final = (1.0, 5.0, 15.0, 30.0)  # a job has time, and nobody runs it again for a ledger that does not answer
_AGAIN_S: Final = 30.0
_STOPPING_S: Final = 60.0  # the script is gone before the lease is over


class InJob:
    """The mode of a job that was submitted for `task`; see `modes` for what a mode promises. `crew` is the gang of a multi-node job."""

    def __init__(self, sandbox: Sandbox, task: Task, crew: Crew | None = None) -> None:
        variables = sandbox.surroundings.variables
        self._task, self._crew = task, crew
        self._job_id = variables.get("AWS_BATCH_JOB_ID", "").partition("#")[0]  # without a node's index
        self._attempt = int(variables.get("AWS_BATCH_JOB_ATTEMPT") or 1)
        self._state = state.of(sandbox.aws)
        self._ledger = Ledger(state.Entries(self._state), task.function)
        self._claim: Claim | None = None
        self._alive: Alive | None = None

    def warm(self, log: Log) -> None:
        """There is no time before the first event."""

    def received(self, invocation: Invocation, log: Log) -> Invocation | Reply:
        """The record is ours, or there is nothing to do; then its event."""
        task = self._task
        step = patiently(
            lambda: self._ledger.claim_job(
                task.run, epoch=task.epoch, job_id=self._job_id, attempt=self._attempt, lease_s=JOB_LEASE_S
            )
        )
        match step:
            case Settled(entry=entry):
                reason = f"this job has nothing to do: the record is {entry.state} (job {entry.job_id})"
                log.note(reason, job_id=self._job_id, run=task.run)
                self._open(log)
                return Reply(invocation.request_id, (), (reason,))
            case Busy(entry=entry):
                raise AlreadyRunningError(f"this record is being worked on by {entry.owner}")
            case Proceed(claim=claim):
                self._claim = claim
        self._alive = Alive(lambda: claim.renew(JOB_LEASE_S))
        self._open(log)
        log.note("job started", job_id=self._job_id, run=task.run, attempt=claim.entry.attempt)
        event = task.event.encode() if task.event is not None else self._fetched()
        return dataclasses.replace(invocation, payload=event)

    def treat(self, record: Record) -> None:
        claim = self._claim
        assert claim is not None
        with ExitStack() as left:
            place = record.work(left, marks_of(claim), self._crew)
            patiently(claim.publishing)
            record.publish(place)
        leaving.stay()  # everything is published
        patiently(claim.done)

    def stopped(self) -> Failure | None:
        """Why we stopped ourselves; None when it was SIGTERM from outside."""
        reason = self._alive.lost if self._alive else None
        if reason:
            return Failure(Lost.kind, reason, 1, request_id=self._task.request_id)
        return self._crew.ended(self._task.request_id) if self._crew else None

    def close(self, answer: Reply | Failure, log: Log) -> None:
        """Write down what is not yet: a failure wherever it came from, or a record that came to nothing."""
        if self._alive is not None:
            self._alive.end()
        if self._claim is None or self._claim.entry.state not in {"running", "publishing"}:
            return
        try:
            if isinstance(answer, Failure):
                self._claim.failed(answer.exit_code, answer.message)
            else:
                self._claim.done()
        except AgentError as error:
            log.warning("how this ended could not be written down", message=error.message)

    def _open(self, log: Log) -> None:
        """Workers may come now: not before the record is known to be ours, or to be nobody's."""
        if self._crew is not None:
            self._crew.open(self._state, log)

    def _fetched(self) -> bytes:
        assert self._task.reference is not None
        return spill.fetch(self._state, self._task.reference)


class Alive:
    """Renews a job's lease while it lives. When it is lost, or cannot be renewed until it is over, it stops the script by our own SIGTERM."""

    def __init__(
        self,
        renew: Callable[[], None],
        *,
        every_s: float = JOB_RENEWAL_S,
        again_s: float = _AGAIN_S,
        lasts_s: float = JOB_LEASE_S - _STOPPING_S,
    ) -> None:
        self._renew, self._every_s, self._again_s, self._lasts_s = renew, every_s, again_s, lasts_s
        self._over = threading.Event()
        self.lost: str | None = None
        threading.Thread(target=self._beat, name="alive", daemon=True).start()

    def end(self) -> None:
        self._over.set()

    def _beat(self) -> None:
        pause_s, end = self._every_s, time.monotonic() + self._lasts_s
        while not self._over.wait(pause_s):
            asked = time.monotonic()
            try:
                self._renew()
                pause_s, end = self._every_s, asked + self._lasts_s
            except Lost as error:
                return self._stop(error.message)
            except AgentError as error:
                if time.monotonic() >= end:
                    return self._stop(f"the lease could not be renewed: {error.message}")
                pause_s = self._again_s
        return None

    def _stop(self, reason: str) -> None:
        if not self._over.is_set():
            self.lost = reason
            os.kill(os.getpid(), signal.SIGTERM)


def patiently(step: Callable[[], T]) -> T:
    """The step, tried again while the ledger does not answer."""
    for pause_s in _PAUSES_S:
        try:
            return step()
        except LedgerUnreachable:
            time.sleep(pause_s)
    return step()
