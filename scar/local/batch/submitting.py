"""Is what SubmitJob asks for a job? Everything that AWS refuses before it answers, and the record of what it accepts.

Limits: botocore batch:SubmitJobRequest, batch/latest/userguide/service_limits
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from faassupervisor.hops import SUBMIT_JOB
from scar.local.batch.capacity import takes_nodes
from scar.local.batch.checks import ClientError_, check_size, executing
from scar.local.batch.job import Job
from scar.local.batch.node import Nodes
from scar.local.batch.nodes import check_node_overrides
from scar.local.batch.properties import container_of, requirement, reserved_names
from scar.local.batch.ranges import count_of, segments
from scar.local.batch.records import JobDefinition, JobQueue, Region
from scar.local.batch.table import Table

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_ARRAY: Final = (2, 10_000)
_DEPENDENCIES: Final = 20
_LEAST_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = (1, 10)
_OTHERS: Final = ("nodeOverrides", "ecsPropertiesOverride", "eksPropertiesOverride")


def job_of_request(region: Region, table: Table, request: Mapping[str, Any]) -> Job:
    """A new job, not yet in the table. Raises ClientError_. Called with the region's lock held."""
    check_size(request, SUBMIT_JOB, "Job")
    name = str(request["jobName"])
    if not _NAME.fullmatch(name):
        raise ClientError_(
            "Job name should match valid pattern: up to 128 letters, numbers, hyphens and underscores, the first a letter or a number"
        )
    queue, definition = _queue(region, request), _definition(region, request)
    multinode = definition.request.get("type") == "multinode"
    _check_limits(request)
    if multinode:
        _check_nodes(region, queue, definition, request)
    else:
        _check_container(request)
    size = _array_size(request)
    _check_dependencies(table, request, size)
    needs = _of_nodes if multinode else _of_container
    return Job(
        id=str(uuid.uuid4()),
        name=name,
        queue=queue.arn,
        definition=definition.arn,
        request=dict(request),
        order=table.next_order(),
        created_ms=table.now_ms(),
        size=size,
        **needs(definition.request, request),
    )


def _of_container(definition: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    vcpus, memory_mib, gpus = _needs(container_of(definition, request))
    return {"vcpus": vcpus, "memory_mib": memory_mib, "gpus": gpus}


def _of_nodes(definition: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    found = [(len(one.nodes), one.container) for one in segments(definition, request)]
    types = {str(container["instanceType"]) for _, container in found if container.get("instanceType")}
    if len(types) > 1:
        raise executing("All node groups must use the same instance type.")
    each = [(count, _needs(container)) for count, container in found]
    nodes = Nodes(
        count_of(definition, request),
        int(definition["nodeProperties"]["mainNode"]),
        widest=(
            max(vcpus for _, (vcpus, _, _) in each),
            max(memory_mib for _, (_, memory_mib, _) in each),
            max(gpus for _, (_, _, gpus) in each),
        ),
        instance_type="".join(types),
    )
    return {
        "vcpus": sum(count * vcpus for count, (vcpus, _, _) in each),
        "memory_mib": sum(count * memory_mib for count, (_, memory_mib, _) in each),
        "gpus": sum(count * gpus for count, (_, _, gpus) in each),
        "nodes": nodes,
    }


def _needs(container: Mapping[str, Any]) -> tuple[float, int, int]:
    """vCPUs, memory (MiB) and GPUs."""
    return _needed(container, "VCPU"), int(_needed(container, "MEMORY")), int(requirement(container, "GPU") or 0)


def _needed(container: Mapping[str, Any], kind: str) -> float:
    value = requirement(container, kind)
    if value is None or value <= 0:
        raise ClientError_(f"{kind} is not provided.")
    return value


def _queue(region: Region, request: Mapping[str, Any]) -> JobQueue:
    named = str(request["jobQueue"])
    queue = region.queue(named)
    if queue is None:
        raise ClientError_(f"Job queue {named} does not exist.")
    if queue.state != "ENABLED":
        raise ClientError_(f"Job queue {named} is DISABLED: it takes no jobs.")
    if queue.status != "VALID":
        raise ClientError_(f"Job queue {named} is {queue.status}: it takes no jobs.")
    has_policy = bool(queue.request.get("schedulingPolicyArn"))
    if has_policy and not request.get("shareIdentifier"):
        raise ClientError_(f"Job queue {named} has a scheduling policy: shareIdentifier must be given.")
    if not has_policy and request.get("shareIdentifier"):
        raise ClientError_(f"Job queue {named} has no scheduling policy: shareIdentifier must not be given.")
    return queue


def _definition(region: Region, request: Mapping[str, Any]) -> JobDefinition:
    named = str(request["jobDefinition"])
    definition = region.definition(named)
    if definition is None or not definition.active:
        raise ClientError_(f"Job Definition {named} not found or not active.")
    if "containerProperties" not in definition.request and "nodeProperties" not in definition.request:
        raise ClientError_("The local Batch runs definitions with containerProperties or nodeProperties only.")
    return definition


def _check_container(request: Mapping[str, Any]) -> None:
    for member in _OTHERS:
        if request.get(member):
            raise ClientError_(f"{member} does not go with a job definition of containerProperties.")
    _check_overrides(request.get("containerOverrides") or {})


def _check_nodes(region: Region, queue: JobQueue, definition: JobDefinition, request: Mapping[str, Any]) -> None:
    """What is asked of a multi-node parallel job. AWS says of compute environments of other types only that they are not supported, not when
    it notices; here it is at once, for such a job could only wait for ever."""
    properties, overrides = definition.request["nodeProperties"], request.get("nodeOverrides") or {}
    for member in ("containerOverrides", "ecsPropertiesOverride", "eksPropertiesOverride"):
        if request.get(member):
            raise ClientError_(f"{member} does not go with a multinode job definition: use nodeOverrides.")
    if request.get("arrayProperties"):
        raise ClientError_("arrayProperties does not go with a multinode job definition.")
    if any(one.get("container") is None for one in properties["nodeRangeProperties"]):
        raise ClientError_("The local Batch runs node ranges of containers only, not of ecsProperties.")
    environments = [found for arn in queue.environments if (found := region.environment(arn)) is not None]
    if environments and not any(map(takes_nodes, environments)):
        raise ClientError_(
            f"Job queue {queue.name} has no compute environment for multi-node parallel jobs: they run on managed ones of type EC2, "
            "not on SPOT, FARGATE, FARGATE_SPOT, ECS_MANAGED_INSTANCES or UNMANAGED ones."
        )
    check_node_overrides(properties, overrides)
    for one in overrides.get("nodePropertyOverrides") or ():
        _check_overrides(one.get("containerOverrides") or {})


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    if "" in (overrides.get("command") or ()):
        raise ClientError_(
            "Error executing request, Exception : containerOverrides.command must not hold an empty string"
        )
    if reserved := reserved_names(overrides.get("environment")):
        raise ClientError_(f"Environment variables may not begin with AWS_BATCH: {', '.join(reserved)}")


def _check_limits(request: Mapping[str, Any]) -> None:
    seconds = (request.get("timeout") or {}).get("attemptDurationSeconds")
    if seconds is not None and int(seconds) < _LEAST_TIMEOUT_S:
        raise ClientError_(f"attemptDurationSeconds must be at least {_LEAST_TIMEOUT_S}, got {seconds}")
    attempts = (request.get("retryStrategy") or {}).get("attempts")
    if attempts is not None and not _ATTEMPTS[0] <= int(attempts) <= _ATTEMPTS[1]:
        raise ClientError_(f"retryStrategy.attempts must be from {_ATTEMPTS[0]} to {_ATTEMPTS[1]}, got {attempts}")


def _array_size(request: Mapping[str, Any]) -> int:
    size = (request.get("arrayProperties") or {}).get("size")
    if size is None:
        return 0
    if not _ARRAY[0] <= int(size) <= _ARRAY[1]:
        raise ClientError_(f"Array size must be from {_ARRAY[0]} to {_ARRAY[1]}, got {size}")
    return int(size)


def _check_dependencies(table: Table, request: Mapping[str, Any], size: int) -> None:
    depends_on = list(request.get("dependsOn") or ())
    if len(depends_on) > _DEPENDENCIES:
        raise ClientError_(f"A job can depend on at most {_DEPENDENCIES} jobs, got {len(depends_on)}")
    for one in depends_on:
        kind, job_id = one.get("type"), one.get("jobId")
        if kind is not None and not size:
            raise ClientError_(f"A dependency of type {kind} is for array jobs only")
        if kind == "SEQUENTIAL" and job_id:
            raise ClientError_("A SEQUENTIAL dependency names no job")
        if kind == "SEQUENTIAL":
            continue
        found = table.find(str(job_id)) if job_id else None
        if found is None:
            raise ClientError_(f"Error executing request, Exception : Dependent jobId {job_id} does not exist")
        if kind == "N_TO_N" and found.size != size:
            raise ClientError_(
                f"An N_TO_N dependency needs arrays of one size: {job_id} has {found.size}, this job {size}"
            )
