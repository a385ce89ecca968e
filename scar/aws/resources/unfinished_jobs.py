"""Jobs that have not finished: they hold the queue they are in, until they end or are ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from scar.aws import names
from scar.aws.clients import Aws
from scar.aws.errors import is_absent
from scar.aws.wait import until
from scar.errors import ConflictError

if TYPE_CHECKING:
    from mypy_boto3_batch.literals import JobStatusType

# In the order in which a job passes through them, so that one that moves on while they are listed is seen all the same; and once more
# where a job that is retried goes back to.
_STATUSES: Final[tuple[JobStatusType, ...]] = (
    "SUBMITTED",
    "PENDING",
    "RUNNABLE",
    "STARTING",
    "RUNNING",
    "RUNNABLE",
)
_FINAL: Final = ("SUCCEEDED", "FAILED")
_NAMED: Final = 5  # as many are named to the user
_THREADS: Final = 8  # TerminateJob takes one job


@dataclass(frozen=True, slots=True)
class Unfinished:
    id: str
    name: str
    status: str


def unfinished(aws: Aws, queue: str, function: str | None) -> tuple[Unfinished, ...]:
    """The jobs in a queue that have not finished: all of them, or one function's; none when it is gone. An array job counts as one."""
    try:
        found = {job.id: job for status in _STATUSES for job in _listed(aws, queue, status, function)}
    except ClientError as error:
        if is_absent(error):
            return ()
        raise
    return tuple(found.values())


def at_a_glance(aws: Aws, queue: str, function: str | None) -> tuple[Unfinished, ...]:
    """The same with one call, where the queue holds a page of jobs or less. Enough to refuse early; what then goes asks `unfinished` again.

    A filter lists jobs of every status, those that ended in the last days too: with more than a page of them six questions are the shorter way.
    Source: botocore batch:ListJobsRequest.filters; Batch user guide, job_states (jobs are kept for seven days).
    """
    try:
        page = aws.batch.list_jobs(jobQueue=queue, filters=[{"name": "AFTER_CREATED_AT", "values": ["0"]}])
    except ClientError as error:
        if is_absent(error):
            return ()
        raise
    if page.get("nextToken"):
        return unfinished(aws, queue, function)
    return tuple(
        Unfinished(job["jobId"], job["jobName"], job.get("status", ""))
        for job in page["jobSummaryList"]
        if job.get("status") not in _FINAL and (function is None or _is_of(function, job.get("jobDefinition", "")))
    )


def refuse(jobs: Sequence[Unfinished], function: str, *, scar: str = "scar") -> None:
    """ConflictError if there are any. `scar` is how the user calls us."""
    if not jobs:
        return
    some = ", ".join(f"{job.name} ({job.status})" for job in jobs[:_NAMED])
    more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
    count = "1 job has" if len(jobs) == 1 else f"{len(jobs)} jobs have"
    raise ConflictError(
        f"{function}: {count} not finished: {some}{more}",
        fix=f"See them with `{scar} jobs -n {function}` and wait, or end them, too: `{scar} rm -n {function} --stop-jobs`",
    )


def stop(aws: Aws, ask: Callable[[], Sequence[Unfinished]], reason: str) -> None:
    """End the jobs that `ask` finds, those that come meanwhile as well, and wait until none is left."""
    ended: set[str] = set()

    def none_left() -> bool | None:
        left = ask()
        fresh = [job.id for job in left if job.id not in ended]
        if fresh:
            with ThreadPoolExecutor(min(_THREADS, len(fresh)), "terminate") as pool:
                list(pool.map(lambda job: _terminate(aws, job, reason), fresh))
            ended.update(fresh)
        return None if left else True

    until(none_left, deadline_s=aws.patience_s, what="jobs to end that were terminated", clock=aws.clock)


def _terminate(aws: Aws, job: str, reason: str) -> None:
    try:
        aws.batch.terminate_job(jobId=job, reason=reason)
    except ClientError as error:
        if not is_absent(error):
            raise


def _listed(aws: Aws, queue: str, status: JobStatusType, function: str | None) -> Iterator[Unfinished]:
    pages = aws.batch.get_paginator("list_jobs").paginate(jobQueue=queue, jobStatus=status)
    for page in pages:
        for job in page["jobSummaryList"]:
            if function is None or _is_of(function, job.get("jobDefinition", "")):
                yield Unfinished(job["jobId"], job["jobName"], job.get("status", status))


def _is_of(function: str, definition: str) -> bool:
    """`arn:…:job-definition/<name>:<revision>`."""
    return names.is_job_definition_of(function, definition.rpartition("/")[2].partition(":")[0])
