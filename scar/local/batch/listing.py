"""What does Batch tell of its jobs? DescribeJobs and ListJobs, from the table's records. Called with `Region.lock` held.

Source of shapes and rules: botocore batch:JobDetail, JobSummary, ListJobsRequest.filters
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from scar.local.batch import node_listing
from scar.local.batch.checks import ClientError_
from scar.local.batch.job import STATUSES, Job
from scar.local.batch.node import Node
from scar.local.batch.properties import container_of, parameters_of, retry_of, tags_of, timeout_of
from scar.local.batch.ranges import described, segment_of
from scar.local.batch.records import Region
from scar.local.batch.table import Table

DESCRIBED_AT_ONCE: Final = 100
_PAGE: Final = 1000
_FILTERED_PAGE: Final = 100
_FRONT: Final = 100

Test = Callable[[Job], bool]


def arn_of(region: Region, job: Job) -> str:
    return region.arn(f"job/{job.id}")


def detail(region: Region, job: Job, node: Node | None = None) -> dict[str, Any]:
    """A job, or one of its nodes, as DescribeJobs shows it."""
    definition = region.definition(job.definition)
    registered: Mapping[str, Any] = {} if definition is None else definition.request
    told = _common(region, job, registered)
    if node is not None:
        one = segment_of(registered, job.asked, node.index).container if registered else {}
        return {
            **told,
            "jobArn": region.arn(f"job/{node_listing.id_of(job, node)}"),
            "jobId": node_listing.id_of(job, node),
            "attempts": [_attempt(attempt) for attempt in node.attempts],
            "container": _container(one, node.attempts),
            "nodeDetails": node_listing.details(job, node),
            "tags": {},
            **node_listing.state_of(job, node),
        }
    told |= {"attempts": [_attempt(attempt) for attempt in job.attempts], "status": job.status, **_times(job)}
    if job.nodes is not None:
        return {**told, "nodeProperties": described(registered, job.asked)} if registered else told
    container = _container(container_of(registered, job.asked), job.attempts)
    return {**told, "container": container, **_array(job, updated=True)}


def _common(region: Region, job: Job, registered: Mapping[str, Any]) -> dict[str, Any]:
    asked = job.asked
    told: dict[str, Any] = {
        "jobArn": arn_of(region, job),
        "jobName": job.name,
        "jobId": job.id,
        "jobQueue": job.queue,
        "createdAt": job.created_ms,
        "dependsOn": list(asked.get("dependsOn") or ()),
        "jobDefinition": job.definition,
        "parameters": parameters_of(registered, asked),
        "tags": dict(job.tags),
        "propagateTags": tags_of(registered, asked)[1],
        "platformCapabilities": list(registered.get("platformCapabilities") or ()),
        "isCancelled": job.cancelled,
        "isTerminated": job.terminated,
    }
    strategy, timeout = retry_of(registered, asked), timeout_of(registered, asked)
    told["retryStrategy"] = {"attempts": 1, "evaluateOnExit": [], **strategy}
    if timeout:
        told["timeout"] = dict(timeout)
    if asked.get("shareIdentifier"):
        told["shareIdentifier"] = asked["shareIdentifier"]
    priority = asked.get("schedulingPriorityOverride", registered.get("schedulingPriority"))
    if priority is not None:
        told["schedulingPriority"] = priority
    return told


def summary(region: Region, job: Job) -> dict[str, Any]:
    """A job as ListJobs shows it."""
    told: dict[str, Any] = {
        "jobArn": arn_of(region, job),
        "jobId": job.id,
        "jobName": job.name,
        "createdAt": job.created_ms,
        "status": job.status,
        "jobDefinition": job.definition,
    }
    container = job.attempts[-1]["container"] if job.attempts else {}  # of a job of nodes, the main node's
    if job.nodes is not None:
        told["nodeProperties"] = {"numNodes": job.nodes.count}
    if job.ended or container.get("reason"):
        told["container"] = {name: container[name] for name in ("exitCode", "reason") if name in container}
    for name, value in (("isCancelled", job.cancelled), ("isTerminated", job.terminated)):
        if value:  # only present when true
            told[name] = True
    if job.asked.get("shareIdentifier"):
        told["shareIdentifier"] = job.asked["shareIdentifier"]
    return {**told, **_times(job), **_array(job, updated=False)}


def _times(job: Job) -> dict[str, Any]:
    told = {"statusReason": job.reason, "startedAt": job.started_ms, "stoppedAt": job.stopped_ms}
    return {name: value for name, value in told.items() if value}


def _array(job: Job, *, updated: bool) -> dict[str, Any]:
    if job.index is not None:
        return {"arrayProperties": {"index": job.index}}
    if not job.is_array:
        return {}
    counts = {status: job.counts[status] for status in STATUSES}
    told: dict[str, Any] = {"size": job.size, "statusSummary": counts}
    if updated:
        told["statusSummaryLastUpdatedAt"] = int(time.time() * 1000)
    return {"arrayProperties": told}


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attempt.items() if name != "instance"}


def _container(container: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The definition's with the overrides, and what the last attempt says of itself."""
    lists = ("command", "volumes", "environment", "mountPoints", "ulimits", "resourceRequirements", "secrets")
    told = {**{name: [] for name in lists}, "networkInterfaces": [], **container}
    return {**told, **(attempts[-1]["container"] if attempts else {})}


def describe(region: Region, table: Table, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those of `ids` that are known, by id or ARN; nodes as well."""
    if len(ids) > DESCRIBED_AT_ONCE:
        raise ClientError_(f"The number of jobs in DescribeJobs must be at most {DESCRIBED_AT_ONCE}, got {len(ids)}.")
    named = [one.rpartition("job/")[2] for one in dict.fromkeys(ids)]
    jobs = [(job, None) for one in named if (job := table.find(one)) is not None]
    nodes = [found for one in named if (found := table.find_node(one)) is not None]
    return [detail(region, job, node) for job, node in (*jobs, *nodes)]


def list_jobs(region: Region, table: Table, request: Mapping[str, Any]) -> dict[str, Any]:
    """One page, the latest submitted first; of nodes the first first."""
    if request.get("multiNodeJobId"):
        return _list_nodes(region, table, request)
    filters = list(request.get("filters") or ())
    jobs = _asked_for(region, table, request)
    tests = _tests(request, filters)
    most = _FILTERED_PAGE if filters else _PAGE
    size = min(int(request.get("maxResults") or most), most)
    passed = (job for job in jobs if all(test(job) for test in tests))
    start = _start(request.get("nextToken"))
    page = list(islice((job for job in passed if start is None or _place(job) < start), size + 1))
    told: dict[str, Any] = {"jobSummaryList": [summary(region, job) for job in page[:size]]}
    if len(page) > size:
        told["nextToken"] = "{}.{}".format(*_place(page[size - 1]))
    return told


def _list_nodes(region: Region, table: Table, request: Mapping[str, Any]) -> dict[str, Any]:
    """Of one status, or those that are RUNNING. Filters do not apply to nodes: botocore batch:ListJobsRequest."""
    _only_one(request)
    job_id = str(request["multiNodeJobId"]).rpartition("job/")[2]
    job = table.find(job_id)
    if job is None or job.nodes is None:
        raise ClientError_(f"{job_id} is no multi-node parallel job.")
    wanted, size = request.get("jobStatus") or "RUNNING", min(int(request.get("maxResults") or _PAGE), _PAGE)
    token = str(request.get("nextToken") or "0")
    if not token.isdecimal():
        raise ClientError_("The nextToken is not one of ListJobs.")
    found = [node for node in job.nodes.all() if node.index >= int(token) and job.status_of(node) == wanted]
    told: dict[str, Any] = {
        "jobSummaryList": [
            node_listing.summary(job, node, region.arn(f"job/{node_listing.id_of(job, node)}")) for node in found[:size]
        ]
    }
    if len(found) > size:
        told["nextToken"] = str(found[size].index)
    return told


def _place(job: Job) -> tuple[int, int]:
    return job.order, -(job.index or 0)


def _start(token: str | None) -> tuple[int, int] | None:
    if token is None:
        return None
    order, _, index = token.partition(".")
    if not order.isdecimal() or not index.lstrip("-").isdecimal():
        raise ClientError_("The nextToken is not one of ListJobs.")
    return int(order), int(index)


def _asked_for(region: Region, table: Table, request: Mapping[str, Any]) -> Iterable[Job]:
    named = _only_one(request)
    if request.get("arrayJobId"):
        parent = table.find(named.rpartition("job/")[2])
        if parent is None:
            raise ClientError_(f"{named} does not exist.")
        return parent.children
    queue = region.queue(named)
    if queue is None:
        raise ClientError_(f"{named} does not exist.")
    return (job for job in reversed(table.jobs.values()) if job.queue == queue.arn)


def _only_one(request: Mapping[str, Any]) -> str:
    named = [str(request[name]) for name in ("jobQueue", "arrayJobId", "multiNodeJobId") if request.get(name)]
    if len(named) != 1:
        raise ClientError_("Exactly one of jobQueue, arrayJobId and multiNodeJobId must be given.")
    return named[0]


def _tests(request: Mapping[str, Any], filters: Sequence[Mapping[str, Any]]) -> list[Test]:
    if len(filters) > 1:
        raise ClientError_("Only one filter can be used at a time.")
    status = request.get("jobStatus")
    if not filters:
        # the children of an array are listed whatever they do, unless a status is asked for
        wanted = status or ("RUNNING" if request.get("jobQueue") else None)
        return [] if wanted is None else [lambda job: job.status == wanted]
    name, values = filters[0].get("name"), list(filters[0].get("values") or ())
    if not values:
        raise ClientError_("A filter needs values.")
    test = _filter(str(name), [str(value) for value in values])
    if name == "SHARE_IDENTIFIER" and status:
        return [test, lambda job: job.status == status]
    return [test]


def _filter(name: str, values: Sequence[str]) -> Test:
    match name:
        case "JOB_NAME":
            return lambda job: any(_matches(job.name.lower(), value.lower()) for value in values)
        case "JOB_DEFINITION":
            return lambda job: any(_is_definition(job.definition, value) for value in values)
        case "BEFORE_CREATED_AT":
            before = min(map(_milliseconds, values))
            return lambda job: job.created_ms < before
        case "AFTER_CREATED_AT":
            after = max(map(_milliseconds, values))
            return lambda job: job.created_ms > after
        case "SHARE_IDENTIFIER":
            return lambda job: job.asked.get("shareIdentifier") in values
    raise ClientError_(f"{name} is not a filter of ListJobs.")


def _matches(text: str, pattern: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _is_definition(definition: str, value: str) -> bool:
    if value.startswith("arn:"):
        return definition == value
    return _matches(definition.rpartition("/")[2].partition(":")[0], value)


def _milliseconds(value: str) -> int:
    if not value.isdecimal():
        raise ClientError_(f"{value} is not a time in milliseconds.")
    return int(value)


def snapshot(region: Region, table: Table, queue_arn: str, used_vcpus: float) -> dict[str, Any]:
    """GetJobQueueSnapshot: what is RUNNABLE in the order in which it will start, and what runs."""
    now_ms = table.now_ms()
    waiting = (job for job in table.queues[queue_arn].runnable if job.status == "RUNNABLE")
    front = [
        {"jobArn": arn_of(region, job), "earliestTimeAtPosition": job.runnable_ms or now_ms}
        for job in islice(waiting, _FRONT)
    ]
    return {
        "frontOfQueue": {"jobs": front, "lastUpdatedAt": now_ms},
        "queueUtilization": {
            "totalCapacityUsage": [{"capacityUnit": "VCPU", "quantity": used_vcpus}],
            "lastUpdatedAt": now_ms,
        },
    }
