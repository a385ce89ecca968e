"""What are a function's Batch jobs, and how are they? Typed records, listed and described in bulk.

Batch forgets a finished job after a week or so. A job of ours says itself whose it is: in its name (contract.job_name) and in SCAR_TASK.
How the jobs came to be is the agent's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from faassupervisor import contract
from scar.aws import runs
from scar.aws.errors import whole

if TYPE_CHECKING:
    from scar.aws.clients import Aws

STATUSES: Final = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
FINISHED: Final = frozenset({"SUCCEEDED", "FAILED"})
CANCELLABLE: Final = frozenset(
    {"SUBMITTED", "PENDING", "RUNNABLE"}
)  # batch:CancelJob answers OK to all others, and does nothing
DESCRIBED_AT_ONCE: Final = 100  # botocore batch:DescribeJobs
_LISTED_AT_ONCE: Final = 100  # batch:ListJobs with a filter
_JOB_NAME: Final = re.compile(r"scar-([a-zA-Z0-9_-]+)-[0-9a-f]{32}-[0-9]+")
_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?::[0-9]+|#[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `exit_code` is None when no process of it ended by itself (no image, no machine, no memory for the container)."""

    exit_code: int | None
    reason: str
    stream: str | None
    started_ms: int | None
    stopped_ms: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as Batch tells it; times are milliseconds since 1970.

    `reason` says why it is in its status. `attempts`, `stream`, `task`, `queue`, `definition` and `log_group` are known when it was described,
    not when it was listed. `container_reason` is what ECS said of the last container.
    """

    id: str
    name: str
    status: str
    reason: str
    created_ms: int
    started_ms: int | None = None
    stopped_ms: int | None = None
    exit_code: int | None = None
    container_reason: str = ""
    queue: str | None = None
    definition: str | None = None
    image: str | None = None
    stream: str | None = None
    log_group: str | None = None
    attempts: tuple[Attempt, ...] = ()
    task: contract.Task | None = None
    cancelled: bool = False
    terminated: bool = False

    @property
    def function(self) -> str | None:
        """None for a job that is not ours."""
        return self.task.function if self.task else function_of(self.name)

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def since_ms(self) -> int:
        """When it came into its status, as exactly as Batch tells: what waits has waited since it was submitted."""
        match self.status:
            case "SUCCEEDED" | "FAILED":
                return self.stopped_ms or self.started_ms or self.created_ms
            case "RUNNING":
                return self.started_ms or self.created_ms
            case _:
                return self.created_ms

    @property
    def streams(self) -> tuple[str, ...]:
        """The log streams of all attempts, the first attempt's first."""
        found = [attempt.stream for attempt in self.attempts] + [self.stream]
        return tuple(dict.fromkeys(stream for stream in found if stream))

    @property
    def why(self) -> str:
        """Status reason and container reason in one line; '' when Batch gave none."""
        return "; ".join(dict.fromkeys(text for text in (self.reason, self.container_reason) if text))

    @property
    def result(self) -> int:
        """The exit code that a finished job means: its own. One that Batch does not tell is a failure, and so is a failed job with 0."""
        if self.exit_code is None or (self.exit_code == 0 and self.status != "SUCCEEDED"):
            return 1
        return self.exit_code


def function_of(job_name: str) -> str | None:
    """The function whose job is called so; exact, because one function's name may begin with another's."""
    found = _JOB_NAME.fullmatch(job_name)
    return found[1] if found else None


def is_job_id(text: str) -> bool:
    """Whether this can be a job's id at all: Batch refuses a description of anything else."""
    return _JOB_ID.fullmatch(text) is not None


def queues(aws: Aws) -> tuple[str, ...]:
    """The names of all job queues of ours. One call for every 100 queues of the region (batch:DescribeJobQueues)."""
    pages = aws.batch.get_paginator("describe_job_queues").paginate()
    return tuple(
        queue["jobQueueName"]
        for page in pages
        for queue in whole(page, "jobQueues")
        if queue["jobQueueName"].startswith("scar-")
    )


def queues_of(aws: Aws, function: str) -> tuple[str, ...]:
    """The queues that jobs of a function may be in: the one that its Lambda function names; all of ours when that is gone.

    Empty for a function that has no queue.
    """
    where = runs.place(aws, function)
    if where is None:
        return queues(aws)
    return (where.job_queue,) if where.job_queue else ()


def listed(aws: Aws, queue: str, function: str | None = None) -> Iterator[Job]:
    """Jobs of ours in a queue, in every status, newest first: of one function or of all. One call for every 100 (batch:ListJobs).

    A queue that is gone has none.
    """
    prefix = contract.job_names_of(function) if function else "scar-"
    pages = aws.batch.get_paginator("list_jobs").paginate(
        jobQueue=queue,
        filters=[{"name": "JOB_NAME", "values": [f"{prefix}*"]}],
        PaginationConfig={"PageSize": _LISTED_AT_ONCE},
    )
    try:
        for page in pages:
            for raw in whole(page, "jobSummaryList"):
                whose = function_of(raw["jobName"])
                if whose is not None and function in {None, whose}:
                    yield _job(raw)
    except ClientError as error:
        if not _is_no_queue(error):
            raise


def described(aws: Aws, ids: Iterable[str]) -> Mapping[str, Job]:
    """Jobs by their ids. One call for every 100; ids that Batch does not know are left out (batch:DescribeJobs)."""
    asked = [one for one in dict.fromkeys(ids) if is_job_id(one)]
    found: dict[str, Job] = {}
    for start in range(0, len(asked), DESCRIBED_AT_ONCE):
        answer = aws.batch.describe_jobs(jobs=asked[start : start + DESCRIBED_AT_ONCE])
        found |= {raw["jobId"]: _job(raw) for raw in whole(answer, "jobs")}
    return found


def _is_no_queue(error: ClientError) -> bool:
    """Batch says ClientException for everything; the words tell."""
    told = error.response["Error"]
    return told.get("Code") == "ClientException" and "does not exist" in told.get("Message", "")


def _job(raw: Mapping[str, Any]) -> Job:
    """One job of a list or of a description: what a list does not tell is absent."""
    container: Mapping[str, Any] = raw.get("container") or {}
    return Job(
        id=raw["jobId"],
        name=raw["jobName"],
        status=raw["status"],
        reason=raw.get("statusReason") or "",
        created_ms=raw.get("createdAt") or 0,
        started_ms=raw.get("startedAt"),
        stopped_ms=raw.get("stoppedAt"),
        exit_code=container.get("exitCode"),
        container_reason=container.get("reason") or "",
        queue=_last(raw.get("jobQueue")),
        definition=_last(raw.get("jobDefinition")),
        image=container.get("image"),
        stream=container.get("logStreamName"),
        log_group=_log_group(container),
        attempts=tuple(_attempt(one) for one in raw.get("attempts") or ()),
        task=_task(container),
        cancelled=bool(raw.get("isCancelled")),
        terminated=bool(raw.get("isTerminated")),
    )


def _attempt(raw: Mapping[str, Any]) -> Attempt:
    container: Mapping[str, Any] = raw.get("container") or {}
    reasons = (raw.get("statusReason"), container.get("reason"))
    return Attempt(
        exit_code=container.get("exitCode"),
        reason="; ".join(dict.fromkeys(text for text in reasons if text)),
        stream=container.get("logStreamName"),
        started_ms=raw.get("startedAt"),
        stopped_ms=raw.get("stoppedAt"),
    )


def _task(container: Mapping[str, Any]) -> contract.Task | None:
    """None for a job that nobody's agent submitted, or a newer agent did."""
    for variable in container.get("environment") or ():
        if variable.get("name") == contract.TASK:
            try:
                return contract.Task.from_json(variable.get("value") or "")
            except contract.ContractError:
                return None
    return None


def _log_group(container: Mapping[str, Any]) -> str | None:
    configuration: Mapping[str, Any] = container.get("logConfiguration") or {}
    options: Mapping[str, str] = configuration.get("options") or {}
    return options.get("awslogs-group")


def _last(arn: str | None) -> str | None:
    """The name in an ARN, or the name itself."""
    return arn.rpartition("/")[2] if arn else None
