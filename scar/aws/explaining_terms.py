"""What is known of a run, a job or a function, and what a rule answers: the terms that the rules of `scar explain` speak in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar.aws.jobs import Job


@dataclass(frozen=True, slots=True)
class Environment:
    """A compute environment of the job's queue. `max_vcpus` None: it sets no limit (UNMANAGED)."""

    name: str
    state: str = "ENABLED"
    status: str = "VALID"
    reason: str = ""
    fargate: bool = False
    max_vcpus: int | None = None
    subnets: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    state: str = "ENABLED"
    status: str = "VALID"
    reason: str = ""
    environments: tuple[Environment, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What one container of a job asks for."""

    vcpus: float = 0
    memory_mib: int = 0
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine with the most memory among those that the environments may start."""

    name: str
    vcpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class LambdaFunction:
    """What Lambda says of a function. `concurrency` is what was reserved for it, None when nothing was."""

    name: str
    state: str = "Active"
    reason: str = ""
    update: str = "Successful"
    memory_mib: int = 0
    timeout_s: int = 0
    concurrency: int | None = None
    job_queue: str | None = None
    throttled: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One request in Lambda, as its log tells. `status` and `error_type` are those of the last REPORT; `failures` are the agent's (kind, message)."""

    request_id: str
    ended: bool = True
    status: str = ""
    error_type: str = ""
    exit_code: int = 0
    memory_mib: int = 0
    used_mib: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """What stands between a bucket and a function. `key` None: no object was named. `entries` are (prefix, suffix) of its notifications."""

    bucket: str
    function: str
    key: str | None = None
    bucket_there: bool = True
    object_there: bool = True
    entries: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()
    permitted: bool = True
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one thing. `messages` are the last words of the agent and of AWS, whatever wrote them."""

    job: Job | None = None
    queue: Queue | None = None
    need: Need | None = None
    machine: Machine | None = None
    function: LambdaFunction | None = None
    run: Run | None = None
    arrival: Arrival | None = None
    lines: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def waits(self) -> bool:
        """Whether the job waits for a place."""
        return self.job is not None and self.job.status in {"SUBMITTED", "PENDING", "RUNNABLE"}

    @property
    def failed(self) -> bool:
        return self.job is not None and self.job.status == "FAILED"

    @property
    def said(self) -> str:
        """Everything that was said about a failure, in one text."""
        told = [message for _, message in (*self.failures, *(self.run.failures if self.run else ()))]
        return "\n".join([*told, self.job.why if self.job else ""])

    @property
    def id(self) -> str:
        return self.job.id if self.job else "ID"

    @property
    def name(self) -> str:
        if self.function is not None:
            return self.function.name
        if self.arrival is not None:
            return self.arrival.function
        return (self.job.function if self.job else None) or "NAME"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is so, because of `why`; `next` are things to do, most of them commands."""

    rule: str
    what: str
    why: str
    next: tuple[str, ...] = ()


# What is so, why, and what to do next; None: the rule has nothing to say.
Answer = tuple[str, str, Sequence[str]] | None


def failures_of(facts: Facts) -> tuple[tuple[str, str], ...]:
    """The agent's (kind, message), in Batch and in Lambda."""
    return (*facts.failures, *(facts.run.failures if facts.run else ()))


def failed_as(facts: Facts, kind: str) -> bool:
    return any(found == kind for found, _ in failures_of(facts))


def line_with(text: str, word: str) -> str:
    return next((line.strip() for line in text.splitlines() if word in line), "")
