"""Is what SubmitJob asks for a job? Everything that AWS refuses before it answers, and the record of what it accepts.

Limits: botocore batch:SubmitJobRequest, batch/latest/userguide/service_limits
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from faassupervisor.hops import SUBMIT_JOB
from scar.local.batch.checks import ClientError_, check_size
from scar.local.batch.job import Job
from scar.local.batch.properties import container_of, requirement, reserved_names
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
    _check_overrides(request)
    size = _array_size(request)
    _check_dependencies(table, request, size)
    container = container_of(definition.request, request)
    return Job(
        id=str(uuid.uuid4()),
        name=name,
        queue=queue.arn,
        definition=definition.arn,
        request=dict(request),
        order=table.next_order(),
        created_ms=table.now_ms(),
        vcpus=_needed(container, "VCPU"),
        memory_mib=int(_needed(container, "MEMORY")),
        gpus=int(requirement(container, "GPU") or 0),
        size=size,
    )


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
    if definition.request.get("type") == "multinode":
        raise ClientError_("The local Batch does not run multi-node parallel jobs.")
    if "containerProperties" not in definition.request:
        raise ClientError_("The local Batch runs definitions with containerProperties only.")
    return definition


def _check_overrides(request: Mapping[str, Any]) -> None:
    for member in _OTHERS:
        if request.get(member):
            raise ClientError_(f"{member} does not go with a job definition of containerProperties.")
    overrides = request.get("containerOverrides") or {}
    if "" in (overrides.get("command") or ()):
        raise ClientError_(
            "Error executing request, Exception : containerOverrides.command must not hold an empty string"
        )
    if reserved := reserved_names(overrides.get("environment")):
        raise ClientError_(f"Environment variables may not begin with AWS_BATCH: {', '.join(reserved)}")
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
