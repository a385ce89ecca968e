"""What becomes of a job, and of its nodes, when something of an attempt has happened? Written into the records; the scheduler and attempts tell.

Source of what is told of nodes: batch/latest/userguide/multi-node-parallel-jobs: of the job what its main node does, its end and its retries
included; of each other node what it does itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from scar.local.batch.attempt import EXITED, TIMED_OUT, Ending, Order, host_gone
from scar.local.batch.capacity import is_fargate
from scar.local.batch.job import Job
from scar.local.batch.node import Node
from scar.local.batch.orders import Start
from scar.local.batch.properties import retry_of
from scar.local.batch.records import Region
from scar.local.batch.retrying import is_retried
from scar.local.batch.seat import Seat
from scar.local.batch.table import Table

_NO_INSTANCE: Final = "i-00000000000000000"


class Outcomes:
    """Of one region's jobs. Every method is called with the region's lock held."""

    def __init__(self, region: Region, table: Table) -> None:
        self._region, self._table = region, table

    def started(self, job: Job, stream: str) -> None:
        """Its program runs."""
        if job.ended:
            return
        job.started_ms = job.attempts[-1].setdefault("startedAt", self._table.now_ms())
        job.attempts[-1]["container"]["logStreamName"] = stream
        self._table.move(job, "RUNNING", job.reason if job.terminated else "")

    def conclude(self, job: Job, ending: Ending) -> None:
        """An attempt has ended: the job with it, or there is another."""
        attempt = job.attempts[-1]
        status_reason = ending.status_reason or job.reason
        _write_end(attempt, replace(ending, status_reason=status_reason), self._table.now_ms())
        if ending.exit_code == 0 and not ending.final:
            job.stopped_ms = attempt["stoppedAt"]
            self._table.move(job, "SUCCEEDED", status_reason)
            return
        definition = self._region.definition(job.definition)
        strategy = retry_of({} if definition is None else definition.request, job.asked)
        again = is_retried(
            strategy,
            attempts=len(job.attempts),
            exit_code=ending.exit_code,
            reason=ending.reason,
            status_reason=status_reason,
        )
        if again and not ending.final and not job.doomed:
            self._table.move(job, "RUNNABLE", first=True)
        else:
            job.stopped_ms = attempt["stoppedAt"]
            self._table.move(job, "FAILED", status_reason)

    def lost(self, job: Job) -> None:
        """A job that an earlier daemon was running: its machines are gone."""
        if not job.attempts or "stoppedAt" in job.attempts[-1]:
            job.attempts.append({"container": {}})
        ending = self._host_gone(job, job.attempts[-1])
        nodes = () if job.nodes is None else job.nodes.all()
        for node in nodes:
            if node.status in ("STARTING", "RUNNING"):
                self.node_ended(job, node, self._host_gone(job, node.attempts[-1]))
        if job.nodes is not None and len(nodes[job.nodes.main].attempts) == len(job.attempts):
            # its end may have been written down when the daemon died, and the job's not yet
            job.attempts[-1] = nodes[job.nodes.main].attempts[-1]
            ending = _end_in(job.attempts[-1])
        self.conclude(job, ending)

    def _host_gone(self, job: Job, attempt: Mapping[str, Any]) -> Ending:
        environment = self._region.environment(job.environment)
        fargate = environment is not None and is_fargate(environment)
        return Ending(status_reason=host_gone(str(attempt.get("instance", _NO_INSTANCE)), fargate=fargate))

    # Nodes.

    def node_starting(self, job: Job, node: Node, attempt: dict[str, Any]) -> None:
        node.status = "STARTING"
        node.attempts.append(attempt)
        self._table.note_node(job, node)

    def node_started(self, job: Job, node: Node, stream: str) -> None:
        node.status, node.started_ms = "RUNNING", self._table.now_ms()
        node.attempts[-1]["startedAt"] = node.started_ms
        node.attempts[-1]["container"]["logStreamName"] = stream
        self._table.note_node(job, node)

    def node_ended(self, job: Job, node: Node, ending: Ending) -> None:
        node.status = "SUCCEEDED" if ending.exit_code == 0 and not ending.final else "FAILED"
        node.reason, node.stopped_ms = ending.status_reason or job.reason or EXITED, self._table.now_ms()
        _write_end(node.attempts[-1], replace(ending, status_reason=node.reason), node.stopped_ms)
        self._table.note_node(job, node)


class NodesOutcomes:
    """gang.Watcher of one attempt. Takes the region's lock itself."""

    def __init__(self, outcomes: Outcomes, start: Start, orders: list[Order]) -> None:
        assert start.job.nodes is not None
        self._outcomes, self._start, self._orders = outcomes, start, orders
        self._job, self._lock, self._main = start.job, start.region.lock, start.job.nodes.main
        self._nodes = start.job.nodes.begin()

    def starting(self, index: int, seat: Seat) -> None:
        with self._lock:
            # the job's attempts are those of its main node
            attempt = self._job.attempts[-1] if index == self._main else self._start.begun(self._orders[index])
            attempt["container"]["networkInterfaces"] = seat.interfaces
            self._outcomes.node_starting(self._job, self._nodes[index], attempt)

    def running(self, index: int, stream: str) -> None:
        with self._lock:
            self._outcomes.node_started(self._job, self._nodes[index], stream)
            if index == self._main:
                self._outcomes.started(self._job, stream)

    def ended(self, index: int, ending: Ending) -> None:
        with self._lock:
            self._outcomes.node_ended(self._job, self._nodes[index], ending)


def _end_in(attempt: Mapping[str, Any]) -> Ending:
    told, reason = attempt["container"], str(attempt["statusReason"])
    return Ending(told.get("exitCode"), told.get("reason", ""), reason, final=reason == TIMED_OUT)


def _write_end(attempt: dict[str, Any], ending: Ending, now_ms: int) -> None:
    """An end that is written already, the main node's, stays as it was but for the reason."""
    told = attempt["container"]
    if ending.exit_code is not None:
        told["exitCode"] = ending.exit_code
    if ending.reason:
        told["reason"] = ending.reason
    attempt.setdefault("startedAt", now_ms)
    attempt.setdefault("stoppedAt", now_ms)
    attempt["statusReason"] = ending.status_reason
