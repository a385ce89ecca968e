"""What an invocation and a job do with one ledger entry, as programs that stop at each question to the world.

The programs are the real ones: `Ledger`, `Claim` and `delegate.Batch`; only the store, Batch and the clock are asked for through `Port`.
A program goes on by being run again with one more answer, so what it is at any moment is the list of the answers it has got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError

from faassupervisor.contract import Task
from faassupervisor.deadline import Deadline
from faassupervisor.delegate import Batch
from faassupervisor.errors import AgentError
from faassupervisor.ledger import (
    Ambiguous,
    Busy,
    Claim,
    HandOver,
    Ledger,
    LedgerUnreachable,
    Lost,
    Proceed,
    Settled,
    Taken,
)

RUN = "ab" * 32
LEASE_S = 100.0  # an invocation's: over with the tick that no invocation survives
JOB_LEASE_S = 150.0
Answer = tuple[Any, ...]
T = TypeVar("T")


class Paused(BaseException):
    """The program asks `question`, and nobody has answered yet."""

    def __init__(self, question: Answer) -> None:
        self.question = question


class Leg(NamedTuple):
    """One life of one program: an invocation (of request `owner`) or an attempt of a job (`owner` is its id)."""

    name: str
    owner: str
    mode: Literal["lambda-batch", "batch", "job"]
    killed: bool = False
    gives_up: bool = False
    epoch: int = 0
    attempt: int = 0


class Port:
    """A program's world: answers from the log, and `Paused` at its end. The client, store and clock of the real code, all at once."""

    def __init__(self, leg: Leg, log: tuple[tuple[Answer, float], ...]) -> None:
        self.leg, self._log, self._at, self._nonces, self._patience = leg, log, 0, 0, 0.0
        self.now = log[0][1]

    def ask(self, *question: Any) -> Any:
        self._at += 1
        if self._at == len(self._log):
            raise Paused(question)
        (kind, *value), self.now = self._log[self._at]
        match kind:
            case "taken":
                raise Taken
            case "ambiguous":
                raise Ambiguous
            case "timeout":
                raise ReadTimeoutError(endpoint_url="batch")
            case "500":
                raise ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "SubmitJob")
        return value[0]

    def ledger(self) -> Ledger:
        return Ledger(self, "f", clock=lambda: self.now, nonce=self.nonce, sleep=self.sleep, pauses_s=(0.1,))

    def nonce(self) -> str:
        self._nonces += 1
        return f"{self.leg.name}/{self._nonces}"

    def sleep(self, seconds: float) -> None:
        if seconds >= 1:  # else a pause between two tries
            self.ask("sleep", self.now + seconds)

    def read(self, run: str) -> tuple[bytes, str] | None:
        return self.ask("read")

    def create(self, run: str, body: bytes) -> str:
        return self.ask("write", None, body)

    def replace(self, run: str, body: bytes, etag: str) -> str:
        return self.ask("write", etag, body)

    def batch(self) -> tuple[Batch, Deadline]:
        def pause(seconds: float) -> None:
            self._patience += 25  # so that a doubt ends after two looks

        return Batch(self, "queue", "definition", pause=pause), Deadline(90, 0, clock=lambda: self._patience)  # type: ignore[arg-type]

    def submit_job(self, *, jobName: str, containerOverrides: dict[str, Any], **more: str) -> dict[str, str]:
        task = Task.from_json(containerOverrides["environment"][0]["value"])
        return {"jobId": self.ask("submit", jobName, task.epoch)}

    def close(self) -> None:
        pass

    def get_paginator(self, name: str) -> Port:
        return self

    def paginate(self, *, filters: list[dict[str, Any]], **more: str) -> list[dict[str, Any]]:
        found = self.ask("list", filters[0]["values"][0])
        return [{"jobSummaryList": [{"jobName": filters[0]["values"][0], "jobId": job} for job in found]}]


def invocation(port: Port) -> str:
    """One leg in Lambda, as the agent goes through it. Answers `success`, `failure` or `script failed`."""
    leg = port.leg
    try:
        got = port.ledger().claim(
            RUN, owner=leg.owner, request_id=leg.owner, lease_s=LEASE_S, key="k", mode=leg.mode, killed=leg.killed
        )
        match got:
            case Settled():
                return "success"
            case Busy():
                return "failure"
            case HandOver(claim) if leg.gives_up:
                claim.failed(1, "it could not be handed over")
                return "success"
            case HandOver(claim):
                return hand_over(port, claim)
            case Proceed(claim):
                return run_here(port, claim)
    except AgentError:
        return "failure"


def run_here(port: Port, claim: Claim) -> str:
    outcome = port.ask("script")
    while outcome == "alarm":
        patiently(port, lambda: claim.renew(JOB_LEASE_S))
        outcome = port.ask("script")
    if outcome == "slow":
        return hand_over(port, claim)
    if outcome == "fails":
        claim.failed(3, "exit code 3")
        return "script failed"
    patiently(port, claim.publishing)
    port.ask("put", 0)
    port.ask("put", 1)
    patiently(port, claim.done)
    return "success"


def patiently(port: Port, step: Callable[[], T]) -> T:
    """A job asks again when the ledger does not answer; nobody else would."""
    try:
        return step()
    except LedgerUnreachable:
        if port.leg.mode != "job":
            raise
        return step()


def hand_over(port: Port, claim: Claim) -> str:
    name = claim.delegating()
    batch, deadline = port.batch()
    task = Task("f", "r", RUN, claim.epoch, event="{}")
    try:
        job_id = batch.hand_over(task, name, deadline, continued=not claim.fresh)
    except AgentError:
        claim.renew(0)  # nobody need wait for us
        raise
    claim.delegated(job_id)
    return "success"


def job(port: Port) -> str:
    """One attempt of a job. A job that has lost its claim, or never got it, ends with 0 and without output."""
    leg = port.leg
    try:
        ledger = port.ledger()
        got = patiently(
            port,
            lambda: ledger.claim_job(RUN, epoch=leg.epoch, job_id=leg.owner, attempt=leg.attempt, lease_s=JOB_LEASE_S),
        )
        return run_here(port, got.claim) if isinstance(got, Proceed) else "success"
    except Lost:
        return "success"
    except AgentError:
        return "failure"


class Programs:
    """What a program does next, remembered: the same answers always lead to the same question."""

    def __init__(self) -> None:
        self._next: dict[tuple[Leg, int], tuple[str, Any]] = {}
        self._logs: list[tuple[tuple[Answer, float], ...]] = []
        self._ids: dict[tuple[tuple[Answer, float], ...], int] = {}

    def begin(self, now: float) -> int:
        return self._id(((("start",), now),))

    def answered(self, log: int, answer: Answer, now: float) -> int:
        return self._id((*self._logs[log], (answer, now)))

    def next(self, leg: Leg, log: int) -> tuple[str, Any]:
        """("asks", question) or ("ends", result)."""
        if (leg, log) not in self._next:
            port = Port(leg, self._logs[log])
            try:
                self._next[leg, log] = ("ends", job(port) if leg.mode == "job" else invocation(port))
            except Paused as paused:
                self._next[leg, log] = ("asks", paused.question)
        return self._next[leg, log]

    def heard_s(self, log: int) -> float:
        """When the last answer came."""
        return self._logs[log][-1][1]

    def _id(self, log: tuple[tuple[Answer, float], ...]) -> int:
        if log not in self._ids:
            self._ids[log] = len(self._logs)
            self._logs.append(log)
        return self._ids[log]
