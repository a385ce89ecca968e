"""Job queues: made, changed, described, deleted. Which environments a queue may have, and that its jobs end before it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from scar.local.batch.checks import (
    CHANGING,
    ClientError_,
    check_deletable,
    check_name,
    check_tags,
    check_updatable,
    executing,
)
from scar.local.batch.compute import architecture, is_fargate
from scar.local.batch.environments import Later
from scar.local.batch.paging import named_page
from scar.local.batch.records import ComputeEnvironment, JobQueue, Region, named

Asked = Mapping[str, Any]

MOST: Final = 50  # of a region; docs.aws.amazon.com/batch/latest/userguide/service_limits.html
MOST_ENVIRONMENTS: Final = 3  # ibid.
HEALTHY: Final = "JobQueue Healthy"
TIME_LIMITS_S: Final = (600, 86_400)  # botocore batch:JobStateTimeLimitAction.maxTimeSeconds
_TYPES: Final = {"ECS": False, "ECS_FARGATE": True}  # whether it is Fargate's


class Queues:
    """Actions on the tables of a region, whose lock the caller holds. `ended` ends the jobs of a queue and says whether all have ended;
    it is called without the lock."""

    def __init__(self, later: Later, ended: Callable[[Region, str], bool]) -> None:
        self._later, self._ended = later, ended

    def create(self, region: Region, request: Asked) -> dict[str, Any]:
        name = str(request["jobQueueName"])
        check_name(name, "Job Queue")
        check_tags(request.get("tags") or {})
        _check_priority(request["priority"])
        if request.get("serviceEnvironmentOrder") or request.get("jobQueueType") == "SAGEMAKER_TRAINING":
            raise ClientError_("The local Batch has no service environments.")
        if name in region.queues:
            raise ClientError_("Object already exists")
        if len(region.queues) >= MOST:
            raise executing(f"A region can have at most {MOST} job queues.")
        environments = _environments(region, request.get("computeEnvironmentOrder") or [])
        _check_type(request.get("jobQueueType"), environments)
        _check_policy(region, request.get("schedulingPolicyArn"))
        _check_time_limits(request.get("jobStateTimeLimitActions") or [])
        outside = ("jobQueueName", "state", "priority", "tags")
        made = JobQueue(
            name=name,
            arn=region.arn(f"job-queue/{name}"),
            request={key: value for key, value in request.items() if key not in outside},
            environments=tuple(one.arn for one in environments),
            priority=int(request["priority"]),
            state=request.get("state", "ENABLED"),
            tags=dict(request.get("tags") or {}),
        )
        region.queues[name] = made
        self.settle(region, made)
        return _named(made)

    def update(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        check_updatable(found.status)
        kept, environments = dict(found.request), found.environments
        if "priority" in request:
            _check_priority(request["priority"])
        if request.get("computeEnvironmentOrder") is not None:
            chosen = _environments(region, request["computeEnvironmentOrder"])
            _check_type(found.request.get("jobQueueType"), chosen)
            environments = tuple(one.arn for one in chosen)
            kept["computeEnvironmentOrder"] = request["computeEnvironmentOrder"]
        if request.get("schedulingPolicyArn"):
            if not found.request.get("schedulingPolicyArn"):  # botocore batch:CreateJobQueueRequest.schedulingPolicyArn
                raise ClientError_("A scheduling policy can't be added to a FIFO job queue")
            _check_policy(region, request["schedulingPolicyArn"])
            kept["schedulingPolicyArn"] = request["schedulingPolicyArn"]
        if request.get("jobStateTimeLimitActions") is not None:
            _check_time_limits(request["jobStateTimeLimitActions"])
            kept["jobStateTimeLimitActions"] = request["jobStateTimeLimitActions"]
        found.request, found.environments = kept, environments
        found.priority = int(request.get("priority", found.priority))
        found.state = request.get("state", found.state)
        found.status, found.status_reason = "UPDATING", ""
        self.settle(region, found)
        return _named(found)

    def delete(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        check_deletable(found.status, found.state, "job queue")
        found.status, found.status_reason = "DELETING", ""
        self.settle(region, found)
        return {}

    def describe(self, region: Region, request: Asked) -> dict[str, Any]:
        chosen, more = named_page(request, "jobQueues", region.queue, region.queues)
        return {"jobQueues": [_description(region, one) for one in chosen], **more}

    def settle(self, region: Region, queue: JobQueue) -> None:
        """Let a queue that is changing come to rest in Batch's own time; also after a restart."""
        self._later(region, lambda: self._settled(region, queue))

    def _settled(self, region: Region, queue: JobQueue) -> bool:
        # "All jobs in the queue are eventually terminated when you delete a job queue": API_DeleteJobQueue
        if queue.status == "DELETING" and not self._ended(region, queue.arn):
            return False
        with region.lock:
            if queue.status == "DELETING":
                region.queues.pop(queue.name, None)
                queue.status = "DELETED"
            elif queue.status in CHANGING:
                queue.status, queue.status_reason = "VALID", HEALTHY
        return True


def _existing(region: Region, request: Asked) -> JobQueue:
    asked = str(request["jobQueue"])
    found = region.queue(asked)
    if found is None:
        raise ClientError_(f"Job queue {asked} does not exist")
    return found


def _environments(region: Region, order: list[Asked]) -> list[ComputeEnvironment]:
    """In the order of their numbers. Refuses what one queue cannot have."""
    if not order:
        raise executing("computeEnvironmentOrder must not be empty.")
    if len(order) > MOST_ENVIRONMENTS:
        raise executing(f"A job queue can have at most {MOST_ENVIRONMENTS} compute environments.")
    if len({one["order"] for one in order}) != len(order):
        raise executing("Duplicate ComputeEnvironment order values.")
    found = [region.environment(str(one["computeEnvironment"])) for one in sorted(order, key=lambda one: one["order"])]
    known = [one for one in found if one is not None and one.status in ("VALID", "UPDATING")]
    if len(known) != len(order):
        raise executing("Compute Environments must be created and valid before attaching them to a job queue")
    if len({one.arn for one in known}) != len(known):
        raise executing("Duplicate ComputeEnvironments.")
    if len({is_fargate(one.resources) for one in known}) > 1:
        raise executing("Fargate and EC2 compute environments can not be mixed.")
    if len({kind for one in known if (kind := architecture(one.resources)) is not None}) > 1:
        # botocore batch:CreateJobQueueRequest.computeEnvironmentOrder
        raise executing("Compute environments of different architectures can not be mixed.")
    return known


def _check_priority(priority: int) -> None:
    if priority < 0:
        raise executing("priority must not be negative.")


def _check_type(wanted: str | None, environments: list[ComputeEnvironment]) -> None:
    if wanted is not None and _TYPES.get(wanted) is not is_fargate(environments[0].resources):
        raise executing(f"The job queue type {wanted} does not match its compute environments.")


def _check_policy(region: Region, arn: str | None) -> None:
    if arn is not None and named(region.policies, arn) is None:
        raise executing(f"SchedulingPolicy {arn} not found.")


def _check_time_limits(actions: list[Asked]) -> None:
    least, most = TIME_LIMITS_S
    for action in actions:
        if action["action"] != "CANCEL":
            raise executing("Invalid job action. Valid job actions: [CANCEL]")
        if not least <= action["maxTimeSeconds"] <= most:
            raise executing(f"maxTimeSeconds must be between {least} and {most}.")
    if len({(action["state"], action["reason"]) for action in actions}) != len(actions):
        raise executing("Duplicate job state limit actions are not allowed.")


def _named(queue: JobQueue) -> dict[str, Any]:
    return {"jobQueueName": queue.name, "jobQueueArn": queue.arn}


def _description(region: Region, queue: JobQueue) -> dict[str, Any]:
    first = named(region.environments, queue.environments[0])
    fargate = first is not None and is_fargate(first.resources)
    policy = queue.request.get("schedulingPolicyArn")
    numbers = sorted(int(one["order"]) for one in queue.request["computeEnvironmentOrder"])
    return {
        **_named(queue),
        "state": queue.state,
        **({"schedulingPolicyArn": policy} if policy else {}),
        "status": queue.status,
        "statusReason": queue.status_reason,
        "priority": queue.priority,
        "computeEnvironmentOrder": [
            {"order": number, "computeEnvironment": arn}
            for number, arn in zip(numbers, queue.environments, strict=True)
        ],
        "serviceEnvironmentOrder": [],
        "jobQueueType": "ECS_FARGATE" if fargate else "ECS",
        "tags": dict(queue.tags),
        "jobStateTimeLimitActions": list(queue.request.get("jobStateTimeLimitActions") or []),
    }
