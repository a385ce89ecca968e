"""What are a function's Batch jobs, and how are they? Typed records, listed and described in bulk.

Batch forgets a finished job after a week or so. A job of ours says itself whose it is: in its name (contract.job_name) and in SCAR_TASK.
How the jobs came to be is the agent's business.

Batch tells of a node of a multi-node parallel job as of a job whose id is `JOB#INDEX`. Of the job itself it tells neither container nor log
stream, nor an exit code before an attempt has ended: here those of its main node are the job's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
class Nodes:
    """The nodes of a multi-node parallel job. `main`, the index of the main node, is known when the job was described."""

    count: int
    main: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """Which node of its job this is. `address` (IPv4) is None until Batch tells it, which may be when the node has ended."""

    index: int
    main: bool
    address: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as Batch tells it, or one node of a job; times are milliseconds since 1970.

    `reason` says why it is in its status. `attempts`, `stream`, `task`, `queue`, `definition` and `log_group` are known when it was described,
    not when it was listed. `container_reason` is what ECS said of the last container. What a container has of all these is the main node's
    in a job of several nodes, which has `nodes`; one of its nodes has `node`.
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
    nodes: Nodes | None = None
    node: Node | None = None

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
    """Whether this can be the id of a job or of a node: Batch refuses a description of anything else."""
    return _JOB_ID.fullmatch(text) is not None


def node_id(job_id: str, index: int) -> str:
    return f"{job_id}#{index}"


def apart(job_or_node_id: str) -> tuple[str, int | None]:
    """The job's own id, and the node's index where one is named."""
    job_id, _, index = job_or_node_id.partition("#")
    return job_id, int(index) if index.isdecimal() else None


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
    """Jobs and nodes by their ids. Those that Batch does not know are left out.

    One call for every 100 (batch:DescribeJobs), and one for the main nodes of every 100 jobs that have nodes and have begun.
    """
    found = _described(aws, ids)
    mains = {
        job.id: node_id(job.id, job.nodes.main)
        for job in found.values()
        if job.nodes and job.nodes.main is not None and job.status not in CANCELLABLE
    }
    of_mains = _described(aws, mains.values())
    return {one: _with_main(job, of_mains.get(mains.get(one, ""))) for one, job in found.items()}


def described_with_nodes(aws: Aws, job_id: str) -> tuple[Job | None, Mapping[int, Job]]:
    """One job, None when Batch does not know it, and its nodes as `nodes_of` tells them: one call, and one for every 100 nodes."""
    job = _described(aws, [job_id]).get(job_id)
    if job is None:
        return None, {}
    nodes = nodes_of(aws, job)
    main = nodes.get(job.nodes.main) if job.nodes and job.nodes.main is not None else None
    return _with_main(job, main), nodes


def nodes_of(aws: Aws, job: Job, indexes: Iterable[int] | None = None) -> Mapping[int, Job]:
    """The nodes of a job by their index, all or those named. A node that was never started is left out: Batch does not know it.

    One call for every 100, none for a job that has never begun.
    """
    if job.nodes is None or (job.status in CANCELLABLE and not job.attempts):
        return {}
    found = _described(aws, [node_id(job.id, one) for one in (range(job.nodes.count) if indexes is None else indexes)])
    return {told.node.index: told for told in found.values() if told.node}


def _described(aws: Aws, ids: Iterable[str]) -> Mapping[str, Job]:
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
    nodes = _nodes(raw)
    container = _container(raw, nodes)
    return Job(
        id=raw["jobId"],
        name=raw["jobName"],
        status=raw["status"],
        reason=raw.get("statusReason") or "",
        created_ms=raw.get("createdAt") or 0,
        started_ms=raw.get("startedAt") or None,  # Batch has told 0 of jobs that had not started
        stopped_ms=raw.get("stoppedAt") or None,
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
        nodes=nodes,
        node=_node(raw),
    )


def _nodes(raw: Mapping[str, Any]) -> Nodes | None:
    """A list tells how many nodes a job has, a description also which is the main one. What tells of one node has no nodes."""
    properties: Mapping[str, Any] = raw.get("nodeProperties") or {}
    if "numNodes" not in properties or apart(raw["jobId"])[1] is not None:
        return None
    return Nodes(properties["numNodes"], properties.get("mainNode"))


def _node(raw: Mapping[str, Any]) -> Node | None:
    details: Mapping[str, Any] = raw.get("nodeDetails") or {}
    if "nodeIndex" not in details:
        return None
    return Node(details["nodeIndex"], bool(details.get("isMainNode")), _address(raw))


def _address(raw: Mapping[str, Any]) -> str | None:
    """That of the last container that has told one: Batch has told it of attempts that had ended, and of no container that ran."""
    containers = [
        raw.get("container") or {},
        *((one.get("container") or {}) for one in reversed(raw.get("attempts") or ())),
    ]
    interfaces = (interface for container in containers for interface in container.get("networkInterfaces") or ())
    return next((found for one in interfaces if (found := one.get("privateIpv4Address"))), None)


def _container(raw: Mapping[str, Any], nodes: Nodes | None) -> Mapping[str, Any]:
    """Of a multi-node job that is described, what the main node's is to be: ranges within others go before them (botocore NodeRangeProperty)."""
    ranges: Sequence[Mapping[str, Any]] = (raw.get("nodeProperties") or {}).get("nodeRangeProperties") or ()
    if nodes is None or nodes.main is None or not ranges:
        return raw.get("container") or {}
    held = [(_targets(one["targetNodes"], nodes.count), one.get("container") or {}) for one in ranges]
    mains = [(len(indexes), container) for indexes, container in held if nodes.main in indexes]
    return min(mains, key=lambda found: found[0])[1] if mains else {}


def _targets(text: str, count: int) -> range:
    """`m:n`, `m:`, `:n` (botocore batch:NodeRangeProperty.targetNodes)."""
    first, colon, last = text.partition(":")
    return range(int(first or 0), int(last or count - 1) + 1 if colon else int(first) + 1)


def _with_main(job: Job, main: Job | None) -> Job:
    """What a job has of its main node: as Batch tells it of the node, and of attempts that have ended also of the job."""
    if job.nodes is None:
        return job
    ended = job.attempts[-1].exit_code if job.finished and job.attempts else None
    if main is None:
        return replace(job, exit_code=ended)
    return replace(
        job,
        exit_code=ended if main.exit_code is None else main.exit_code,
        container_reason=main.container_reason,
        image=main.image or job.image,
        stream=main.stream,
        log_group=main.log_group or job.log_group,
        attempts=job.attempts or main.attempts,
        task=job.task or main.task,
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
