"""A multi-node parallel job as Batch runs it: for each node a real agent, with an address and a temporary directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faassupervisor.contract import Gang, Task
from tests.supervisor.batch_lab import Handing, _kill, command_lines, facts, handing
from tests.supervisor.heard import Heard

__all__ = ["handing"]


_GANG = Gang(start_timeout_s=20)


@dataclass
class NodeProcess(Heard):
    """One node."""

    index: int
    process: subprocess.Popen[bytes]
    temporary: Path
    chunks: list[bytes] = field(default_factory=list)
    heard: threading.Lock = field(default_factory=threading.Lock)

    def end(self, within_s: float = 20) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"node {self.index} goes on: {self.log}") from None

    def facts(self, fact: str) -> list[dict[str, Any]]:
        return facts(self.log, fact)

    def written(self) -> list[str]:
        """What the user's processes wrote."""
        return [line for line in self.log.splitlines() if not line.startswith("{")]


@dataclass
class GangLab:
    """Starts gangs of one function. `prefix` is the network of this test's nodes: loopback addresses that no other test uses."""

    handing: Handing
    prefix: str

    def function(self, script: str, **spec: Any) -> Path:
        """A function one of whose records has been handed over to Batch."""
        return self.handing.handed_over(script, **spec)

    def start(
        self,
        function: Path,
        count: int,
        *,
        gang: Gang | Sequence[Gang] = _GANG,
        main: int = 0,
        attempt: int = 1,
        only: Sequence[int] | None = None,
        by_hand: str | None = None,
        **environment: str,
    ) -> dict[int, NodeProcess]:
        """The main node first, then the others; `only` leaves some out."""
        job_id = self.handing.batch.jobs[0]["jobId"] if by_hand is None else str(uuid.uuid4())
        order = [main, *(index for index in range(count) if index != main)]
        nodes = {}
        for index in order:
            if only is None or index in only:
                own = gang if isinstance(gang, Gang) else gang[index]
                variables = {
                    "AWS_BATCH_JOB_ID": f"{job_id}#{index}",
                    "AWS_BATCH_JOB_ATTEMPT": str(attempt),
                    "AWS_BATCH_JOB_NUM_NODES": str(count),
                    "AWS_BATCH_JOB_NODE_INDEX": str(index),
                    "AWS_BATCH_JOB_MAIN_NODE_INDEX": str(main),
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.handing.batch.endpoint}/credentials",
                    "SCAR_STATE": self.handing.state,
                    "SCAR_NODE_ADDRESS": self.address(index),
                    "SCAR_GANG": own.to_json().decode(),
                    **environment,
                }
                if index != main:
                    variables["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = self.address(main)
                elif by_hand is None:
                    variables["SCAR_TASK"] = self.handing.batch.task
                else:
                    variables["EVENT"] = by_hand
                nodes[index] = self._node(function, index, variables)
        return nodes

    def address(self, index: int) -> str:
        return f"{self.prefix}.{index + 1}"

    def _node(self, function: Path, index: int, variables: dict[str, str]) -> NodeProcess:
        lab = self.handing.lab
        temporary = lab.home / f"tmp-{uuid.uuid4().hex[:6]}-{index}"
        temporary.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "faassupervisor", "--function", str(function), "--tmp", str(temporary)],
            env=lab.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        node = NodeProcess(index, process, temporary)
        reader = threading.Thread(target=node.listen, daemon=True)
        reader.start()
        lab.stack.callback(_kill, process)
        lab.stack.callback(reader.join, 5)
        lab.stack.callback(process.kill)
        return node

    @property
    def task(self) -> Task:
        return Task.from_json(self.handing.batch.task)


def ended(nodes: dict[int, NodeProcess], within_s: float = 20) -> dict[int, int]:
    """Every node's exit code."""
    end = time.monotonic() + within_s
    return {index: node.end(max(0.1, end - time.monotonic())) for index, node in nodes.items()}


def left_by(nodes: dict[int, NodeProcess]) -> list[str]:
    """Files and processes of these nodes that are still there."""
    files = [str(path) for node in nodes.values() for path in node.temporary.iterdir()]
    places = [os.fsencode(node.temporary) for node in nodes.values()]
    processes = [line.decode(errors="replace") for _, line in command_lines() if any(place in line for place in places)]
    return files + processes


@pytest.fixture
def gangs(handing: Handing) -> Iterator[GangLab]:
    yield GangLab(handing, f"127.{os.getpid() % 250 + 1}.{uuid.uuid4().int % 250 + 1}")
