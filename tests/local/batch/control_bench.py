"""The local Batch's control plane in this process: the real service on a folder, with a clock, a world and jobs that the test owns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scar.local.batch.records import Region
from scar.local.batch.service import Batch, Handler

ACCOUNT, REGION = "123456789012", "eu-west-1"


@dataclass
class World:
    """What stands around Batch. Everything is there that `gone` does not name."""

    gone: set[str] = field(default_factory=set)

    def role(self, arn_or_name: str, service: str) -> str | None:
        return self._why([arn_or_name])

    def instance_profile(self, arn_or_name: str) -> str | None:
        return self._why([arn_or_name])

    def subnets(self, ids: Iterable[str]) -> str | None:
        return self._why(ids)

    def security_groups(self, ids: Iterable[str]) -> str | None:
        return self._why(ids)

    def launch_template(self, id_or_name: str) -> str | None:
        return self._why([id_or_name])

    def _why(self, names: Iterable[str]) -> str | None:
        missing = sorted(self.gone & set(names))
        return f"CLIENT_ERROR - {missing[0]} does not exist" if missing else None


class Jobs:
    """Jobs that are only counted: `alive` ones by queue. Those of a queue that ends go one at each look."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}
        self.ended: list[str] = []
        self.tagged: list[str] = []

    @property
    def actions(self) -> Mapping[str, Handler]:
        return {"TagResource": self._tag}

    def unfinished(self, region: Region, queue_arn: str) -> int:
        return self.alive.get(queue_arn, 0)

    def end_queue(self, region: Region, queue_arn: str) -> None:
        self.ended.append(queue_arn)
        self.alive[queue_arn] -= 1

    def page(self, path: str, authorization: str | None) -> Any:
        return None

    def status(self) -> Mapping[str, Any]:
        return {}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def _tag(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        self.tagged.append(request["resourceArn"])
        return {}


class Refused(Exception):
    """What Batch answered instead."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(document["message"])
        self.status, self.code = status, document["__type"]


class Bench:
    """One Batch; `restarted` makes a new one of the same folder."""

    def __init__(
        self,
        folder: Path,
        *,
        settle_s: float = 0.0,
        world: World | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.folder, self.settle_s = folder, settle_s
        self.world, self.jobs, self.now_s = world or World(), Jobs(), 1000.0
        self.batch = Batch(
            folder,
            jobs=lambda _: self.jobs,
            clock=clock or (lambda: self.now_s),
            settle_s=settle_s,
            around=lambda _: self.world,
        )

    def restarted(self) -> Bench:
        return Bench(self.folder, settle_s=self.settle_s, world=self.world)

    def __call__(self, operation: str, request: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        content = json.dumps({**(request or {}), **more}).encode()
        status, document = self.batch.handle(ACCOUNT, REGION, operation.lower(), content)
        if status != 200:
            raise Refused(status, document)
        return document

    def environment(self, name: str = "place") -> dict[str, Any] | None:
        found = self("DescribeComputeEnvironments", computeEnvironments=[name])["computeEnvironments"]
        return found[0] if found else None

    def queue(self, name: str = "line") -> dict[str, Any] | None:
        found = self("DescribeJobQueues", jobQueues=[name])["jobQueues"]
        return found[0] if found else None

    def make(self, *, place: str = "place", line: str | None = "line", **more: Any) -> None:
        """An environment on EC2, and a queue before it."""
        self("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": place}, **more)
        if line:
            self("CreateJobQueue", queue_of(place) | {"jobQueueName": line})


def queue_of(*places: str) -> dict[str, Any]:
    order = [{"order": number, "computeEnvironment": place} for number, place in enumerate(places, 1)]
    return {"jobQueueName": "line", "priority": 1, "computeEnvironmentOrder": order}


EC2: dict[str, Any] = {
    "computeEnvironmentName": "place",
    "type": "MANAGED",
    "computeResources": {
        "type": "EC2",
        "allocationStrategy": "BEST_FIT_PROGRESSIVE",
        "minvCpus": 0,
        "maxvCpus": 8,
        "desiredvCpus": 0,
        "instanceTypes": ["m6i", "c6i.large"],
        "subnets": ["subnet-a", "subnet-b"],
        "securityGroupIds": ["sg-a"],
        "instanceRole": "arn:aws:iam::123456789012:instance-profile/machines",
    },
}
FARGATE: dict[str, Any] = {
    "computeEnvironmentName": "place",
    "type": "MANAGED",
    "computeResources": {
        "type": "FARGATE",
        "maxvCpus": 8,
        "subnets": ["subnet-a"],
        "securityGroupIds": ["sg-a"],
    },
}
ON_EC2: dict[str, Any] = {
    "jobDefinitionName": "job",
    "type": "container",
    "platformCapabilities": ["EC2"],
    "containerProperties": {
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/scar/job@sha256:" + "a" * 64,
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
    },
    "retryStrategy": {
        "attempts": 3,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    },
    "timeout": {"attemptDurationSeconds": 60},
}
ON_FARGATE: dict[str, Any] = {
    **ON_EC2,
    "platformCapabilities": ["FARGATE"],
    "containerProperties": {
        **ON_EC2["containerProperties"],
        "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}],
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecs",
    },
}
NODES: dict[str, Any] = {
    "jobDefinitionName": "job",
    "type": "multinode",
    "nodeProperties": {
        "numNodes": 4,
        "mainNode": 0,
        "nodeRangeProperties": [
            {"targetNodes": "0", "container": ON_EC2["containerProperties"]},
            {"targetNodes": "1:", "container": ON_EC2["containerProperties"]},
        ],
    },
}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "environment on EC2": ("CreateComputeEnvironment", EC2),
    "environment on Fargate": ("CreateComputeEnvironment", FARGATE),
    "queue": ("CreateJobQueue", queue_of("place")),
    "definition on EC2": ("RegisterJobDefinition", ON_EC2),
    "definition on Fargate": ("RegisterJobDefinition", ON_FARGATE),
    "definition of nodes": ("RegisterJobDefinition", NODES),
}


def changed(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A request with members set (`a.b.0.c`), or taken away (null)."""
    document: dict[str, Any] = json.loads(json.dumps(request))
    for path, value in changes.items():
        *way, last = path.split(".")
        inside: Any = document
        for step in way:
            inside = inside[int(step)] if step.isdigit() else inside.setdefault(step, {})
        if value is None:
            inside.pop(last, None)
        else:
            inside[int(last) if last.isdigit() else last] = value
    return document
