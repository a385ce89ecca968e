"""How is it with one node of a multi-node parallel job? A small record for each, and smaller ones of all once their job has ended.

Batch addresses a node as `<job id>#<index>`. What a node runs is not here but follows from its job's definition and submission (ranges).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

NodeStatus = Literal["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]


@dataclass(slots=True, eq=False)
class Node:
    """`attempts` are in DescribeJobs' shape. `status` holds while the job does not wait, and once the node has begun: see `Job.status_of`."""

    index: int
    status: NodeStatus = "RUNNABLE"
    reason: str = ""
    started_ms: int | None = None
    stopped_ms: int | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED")

    def begin_anew(self) -> None:
        """Another attempt of the job begins; what the earlier ones came to is kept."""
        self.status, self.reason, self.started_ms, self.stopped_ms = "RUNNABLE", "", None, None

    def progress(self) -> dict[str, Any]:
        """What is written at each change."""
        told = {"reason": self.reason, "started": self.started_ms, "stopped": self.stopped_ms}
        return {"status": self.status, "attempts": self.attempts, **{n: v for n, v in told.items() if v}}

    def restore(self, told: Mapping[str, Any]) -> None:
        """Take over what `progress` wrote."""
        self.status, self.attempts, self.reason = told["status"], told["attempts"], told.get("reason", "")
        self.started_ms, self.stopped_ms = told.get("started"), told.get("stopped")


class Nodes:
    """All nodes of one job. `main` is the main node's index. Each is alone on a machine of `instance_type` ('': any), which must have `widest`:
    the most vCPUs, memory (MiB) and GPUs that one of them asks for."""

    __slots__ = ("_all", "_packed", "count", "instance_type", "main", "widest")

    def __init__(
        self, count: int, main: int, *, widest: tuple[float, int, int] = (0.0, 0, 0), instance_type: str = ""
    ) -> None:
        self.count, self.main, self.widest, self.instance_type = count, main, widest, instance_type
        self._all: list[Node] = []  # none before the first begins: what waits is small
        self._packed: bytes | None = None

    def begin(self) -> Sequence[Node]:
        """All of them, as they are before an attempt."""
        for node in self.all():
            node.begin_anew()
        return self._all

    def all(self) -> Sequence[Node]:
        """In the order of their indices. Of a job that has ended they are copies."""
        if self._packed is not None:
            return self._unpacked(self._packed)
        if not self._all:
            self._all = [Node(index) for index in range(self.count)]
        return self._all

    @property
    def begun(self) -> Sequence[Node]:
        """Those of which anything is known that is not the job's."""
        return [node for node in self.all() if node.attempts] if self._all or self._packed else []

    def submission(self) -> dict[str, Any]:
        """What is written once."""
        return {"count": self.count, "main": self.main, "widest": self.widest, "type": self.instance_type}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Nodes:
        """Those that `submission` wrote down."""
        vcpus, memory_mib, gpus = told["widest"]
        return cls(told["count"], told["main"], widest=(vcpus, memory_mib, gpus), instance_type=told["type"])

    def pack(self) -> None:
        """Let the nodes of an ended job take less memory."""
        if self._packed is None:
            told = [(node.index, node.progress()) for node in self.begun]
            self._packed = zlib.compress(json.dumps(told, separators=(",", ":")).encode(), 1)
            self._all = []

    def _unpacked(self, packed: bytes) -> list[Node]:
        nodes = [Node(index) for index in range(self.count)]
        for index, told in json.loads(zlib.decompress(packed)):
            nodes[index].restore(told)
        return nodes
