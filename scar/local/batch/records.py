"""What Batch's control plane holds of one region: the records that the API, the scheduler and the disk share.

A record keeps the request as it was accepted (botocore's member names), so that a description gives back what was asked for, and beside
it what Batch itself decides. Whoever reads or writes holds `Region.lock`; whoever changes something that a waiting job may depend on
notifies `Region.changed`. Members are replaced, never changed in place: the disk may be writing the old ones.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

Status = Literal["CREATING", "UPDATING", "DELETING", "DELETED", "VALID", "INVALID"]
State = Literal["ENABLED", "DISABLED"]


@dataclass(slots=True)
class ComputeEnvironment:
    """`request` is CreateComputeEnvironment's, updates merged in. `desired_vcpus` follows the jobs, between minimum and maximum."""

    name: str
    arn: str
    request: dict[str, Any]
    state: State = "ENABLED"
    status: Status = "CREATING"
    status_reason: str = ""
    desired_vcpus: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    uuid: str = ""

    @property
    def resources(self) -> dict[str, Any]:
        """`computeResources`; empty for an UNMANAGED one."""
        found: dict[str, Any] = self.request.get("computeResources") or {}
        return found

    @property
    def max_vcpus(self) -> int:
        return int(self.resources.get("maxvCpus", 0))

    @property
    def min_vcpus(self) -> int:
        return int(self.resources.get("minvCpus", 0))

    @property
    def takes_jobs(self) -> bool:
        return self.state == "ENABLED" and self.status == "VALID"


@dataclass(slots=True)
class JobQueue:
    """`environments` are ARNs in the order in which they are tried."""

    name: str
    arn: str
    request: dict[str, Any]
    environments: tuple[str, ...]
    priority: int
    state: State = "ENABLED"
    status: Status = "CREATING"
    status_reason: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class JobDefinition:
    """One revision."""

    name: str
    revision: int
    arn: str
    request: dict[str, Any]
    active: bool = True
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class SchedulingPolicy:
    """Kept and described; jobs are run in the order of their submission all the same."""

    name: str
    arn: str
    request: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)


class _WithArn(Protocol):
    @property
    def arn(self) -> str: ...


_Record = TypeVar("_Record", bound=_WithArn)


def named(table: Mapping[str, _Record], asked: str) -> _Record | None:
    """The record of a table with this name or ARN; an ARN of another region or account is nobody's."""
    found = table.get(asked.rpartition("/")[2] if asked.startswith("arn:") else asked)
    return found if found is not None and (found.arn == asked or not asked.startswith("arn:")) else None


class Region:
    """The tables of one region. Environments and queues are by name; definitions by name, revisions in order (index + 1 is the number)."""

    def __init__(self, account: str, region: str) -> None:
        self.account, self.region = account, region
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.environments: dict[str, ComputeEnvironment] = {}
        self.queues: dict[str, JobQueue] = {}
        self.definitions: dict[str, list[JobDefinition]] = {}
        self.policies: dict[str, SchedulingPolicy] = {}

    def arn(self, what: str) -> str:
        """`arn:aws:batch:<region>:<account>:<what>`, such as `job-queue/name`."""
        return f"arn:aws:batch:{self.region}:{self.account}:{what}"

    def environment(self, name_or_arn: str) -> ComputeEnvironment | None:
        return named(self.environments, name_or_arn)

    def queue(self, name_or_arn: str) -> JobQueue | None:
        return named(self.queues, name_or_arn)

    def definition(self, asked: str) -> JobDefinition | None:
        """`name`, `name:revision` or an ARN of either. Without a revision: the latest active one."""
        if asked.startswith("arn:") and not asked.startswith(self.arn("job-definition/")):
            return None
        name, _, revision = asked.removeprefix(self.arn("job-definition/")).partition(":")
        revisions = self.definitions.get(name, [])
        if revision:
            number = int(revision) if re.fullmatch("[0-9]{1,9}", revision) else 0
            return revisions[number - 1] if 0 < number <= len(revisions) else None
        return next((one for one in reversed(revisions) if one.active), None)
