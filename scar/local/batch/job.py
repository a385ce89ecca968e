"""What is a job? One record for each, small while it waits and smaller once it has ended, and its form on disk."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from scar.local.batch.node import Node, Nodes

Status = Literal["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]
STATUSES: Final[tuple[Status, ...]] = (
    "SUBMITTED",
    "PENDING",
    "RUNNABLE",
    "STARTING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
)
ENDED: Final = frozenset({"SUCCEEDED", "FAILED"})
NOT_STARTED: Final = frozenset({"SUBMITTED", "PENDING", "RUNNABLE"})

# batch/latest/userguide/job_dependencies and array_jobs: what those jobs are told that never ran, or whose children failed
DEPENDENCY_FAILED: Final = "Dependent Job failed"
CHILD_FAILED: Final = "Array Child Job failed"
_PACKED_BYTES: Final = 1024  # requests of ended jobs above this are compressed


@dataclass(slots=True, eq=False)
class Job:
    """A job, a parent of an array (`size`), or a child of one (`parent`, `index`). Whoever reads or writes holds `Region.lock`.

    A multi-node parallel job has `nodes`, which are no jobs of their own; what it needs is the sum of what they need. `queue` and `definition`
    are ARNs; `request` is SubmitJob's, as bytes where it was packed, and of a child None (see `asked`). `attempts` are in DescribeJobs' shape,
    the main node's where there are nodes. `order` rises with submission. `waits_for` counts the dependencies that have not succeeded.
    """

    id: str
    name: str
    queue: str
    definition: str
    request: Mapping[str, Any] | bytes | None
    order: int
    created_ms: int
    vcpus: float = 0.0
    memory_mib: int = 0
    gpus: int = 0
    size: int = 0
    nodes: Nodes | None = None
    parent: Job | None = None
    index: int | None = None
    status: Status = "SUBMITTED"
    reason: str = ""
    started_ms: int | None = None
    stopped_ms: int | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    terminated: bool = False
    waits_for: int = 0
    runnable_ms: int = 0
    environment: str = ""  # ARN of the compute environment that it runs in, or ran last
    own_tags: dict[str, str] | None = None  # where they were changed since the submission
    children: list[Job] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # of the children, by status

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_array(self) -> bool:
        return self.size > 0

    @property
    def doomed(self) -> bool:
        """Whether somebody asked for its end: then nothing of it is tried again."""
        return self.cancelled or self.terminated

    @property
    def containers(self) -> int:
        """How many run at once."""
        return 1 if self.nodes is None else self.nodes.count

    @property
    def on_one_machine(self) -> tuple[float, int, int]:
        """vCPUs, memory (MiB) and GPUs that an instance must have: each node is alone on one."""
        return (self.vcpus, self.memory_mib, self.gpus) if self.nodes is None else self.nodes.widest

    def status_of(self, node: Node) -> Status:
        """As long as the job waits all its nodes do, and what had not begun when it ended never will."""
        if self.status in NOT_STARTED:
            return self.status
        return "FAILED" if self.ended and not node.ended else node.status

    @property
    def asked(self) -> Mapping[str, Any]:
        """SubmitJob's request."""
        if self.parent is not None:
            return self.parent.asked
        if isinstance(self.request, bytes):
            unpacked: Mapping[str, Any] = json.loads(zlib.decompress(self.request))
            return unpacked
        return self.request or {}

    @property
    def tags(self) -> Mapping[str, str]:
        return (self.asked.get("tags") or {}) if self.own_tags is None else self.own_tags

    def pack(self) -> None:
        """Let an ended job take less memory."""
        if self.parent is None and not isinstance(self.request, bytes):
            text = json.dumps(self.asked, separators=(",", ":")).encode()
            if len(text) > _PACKED_BYTES:
                self.request = zlib.compress(text, 1)
        if self.nodes is not None:
            self.nodes.pack()

    def submission(self) -> dict[str, Any]:
        """What is written once, when the job is accepted. Children are made again from their parent's."""
        return {
            **({} if self.nodes is None else {"nodes": self.nodes.submission()}),
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
            "definition": self.definition,
            "request": dict(self.asked),
            "created": self.created_ms,
            "vcpus": self.vcpus,
            "memory": self.memory_mib,
            "gpus": self.gpus,
            "size": self.size,
        }

    def progress(self) -> dict[str, Any]:
        """What is written at each change: all that is not in `submission`, and only what is not as at the beginning."""
        told = {
            "status": self.status,
            "reason": self.reason,
            "created": self.created_ms if self.parent is not None else None,
            "started": self.started_ms,
            "stopped": self.stopped_ms,
            "attempts": self.attempts,
            "cancelled": self.cancelled,
            "terminated": self.terminated,
            "runnable": self.runnable_ms,
            "environment": self.environment,
            "tags": self.own_tags,
        }
        return {
            "id": self.id,
            **{key: value for key, value in told.items() if value or (key == "tags" and value is not None)},
        }

    def restore(self, told: Mapping[str, Any]) -> None:
        """Take over what `progress` wrote."""
        self.status = told["status"]
        self.reason = told.get("reason", "")
        self.created_ms = told.get("created", self.created_ms)
        self.started_ms, self.stopped_ms = told.get("started"), told.get("stopped")
        self.attempts = told.get("attempts", [])
        self.cancelled, self.terminated = told.get("cancelled", False), told.get("terminated", False)
        self.own_tags = told.get("tags")
        self.runnable_ms, self.environment = told.get("runnable", 0), told.get("environment", "")


def job_of(submission: Mapping[str, Any], order: int) -> Job:
    """The job that `Job.submission` wrote down."""
    return Job(
        nodes=Nodes.of(submission["nodes"]) if "nodes" in submission else None,
        id=submission["id"],
        name=submission["name"],
        queue=submission["queue"],
        definition=submission["definition"],
        request=submission["request"],
        order=order,
        created_ms=submission["created"],
        vcpus=submission["vcpus"],
        memory_mib=submission["memory"],
        gpus=submission["gpus"],
        size=submission["size"],
    )


def children_of(parent: Job) -> list[Job]:
    """The array's children, new."""
    return [
        Job(
            id=f"{parent.id}:{index}",
            name=parent.name,
            queue=parent.queue,
            definition=parent.definition,
            request=None,
            order=parent.order,
            created_ms=parent.created_ms,
            vcpus=parent.vcpus,
            memory_mib=parent.memory_mib,
            gpus=parent.gpus,
            parent=parent,
            index=index,
        )
        for index in range(parent.size)
    ]
