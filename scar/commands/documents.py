"""A Batch job as a document for programs, and what its task and its log tell beside Batch's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from scar.commands.times import iso

if TYPE_CHECKING:
    from faassupervisor.contract import Task
    from scar.aws.clients import Aws
    from scar.aws.jobs import Attempt, Job, Nodes


def job_document(job: Job) -> dict[str, Any]:
    """What Batch says in a list and in a description alike."""
    return {
        "id": job.id,
        "name": job.name,
        "function": job.function,
        "status": job.status,
        "since": iso(job.since_ms),
        "attempts": len(job.attempts) or None,
        "exit_code": job.exit_code,
        "reason": job.reason,
        "container_reason": job.container_reason,
        "created": iso(job.created_ms),
        "started": _iso(job.started_ms),
        "stopped": _iso(job.stopped_ms),
        "cancelled": job.cancelled,
        "terminated": job.terminated,
        "nodes": job.nodes.count if job.nodes else None,
    }


def whole_document(job: Job, outputs: tuple[str, ...], nodes: Mapping[int, Job]) -> dict[str, Any]:
    """Everything about one job or node; `nodes` are those that it has, as far as they were started."""
    task, node = job.task, job.node
    return job_document(job) | {
        "queue": job.queue,
        "definition": job.definition,
        "image": job.image,
        "attempts": [_attempt_document(attempt) for attempt in job.attempts],
        "log_group": job.log_group,
        "log_streams": list(job.streams),
        "request_id": task.request_id if task else None,
        "run": task.run if task else None,
        "hand_over": task.epoch if task else None,
        "object": object_of(task) if task else None,
        "event": task.reference.uri if task and task.reference else None,
        "outputs": list(outputs),
        "nodes": [_node_document(job.nodes, index, nodes.get(index)) for index in range(job.nodes.count)]
        if job.nodes
        else None,
        "node": {"index": node.index, "main": node.main, "address": node.address} if node else None,
    }


def object_of(task: Task) -> str | None:
    """`bucket/key` of the record that the job is for; None when it names no object, or lies in the state bucket."""
    try:
        event = json.loads(task.event or "null")
        found = event["Records"][0]["s3"]
        return f"{found['bucket']['name']}/{unquote_plus(found['object']['key'])}"
    except (ValueError, LookupError, TypeError):
        return None


def outputs_of(aws: Aws, job: Job) -> tuple[str, ...]:
    """What the job published, as the agent's summary in its log tells; one call."""
    from scar.aws.logs import BATCH_GROUP, Question, lines

    if not job.streams:
        return ()
    asked = Question(job.log_group or BATCH_GROUP, "batch", job.streams[-1:], phrase="outputs")
    told = [tuple(_outputs(line.message)) for line in lines(aws, asked)]
    return next((found for found in reversed(told) if found), ())


def _outputs(message: str) -> Iterator[str]:
    try:
        for run in json.loads(message)["runs"]:
            yield from run["outputs"]
    except (ValueError, LookupError, TypeError):
        return


def _node_document(nodes: Nodes, index: int, told: Job | None) -> Mapping[str, Any]:
    """`status` is null for a node that was never started."""
    return {
        "node": index,
        "main": index == nodes.main,
        "status": told.status if told else None,
        "since": iso(told.since_ms) if told else None,
        "exit_code": told.exit_code if told else None,
        "address": told.node.address if told and told.node else None,
        "reason": told.reason if told else "",
        "container_reason": told.container_reason if told else "",
        "log_streams": list(told.streams) if told else [],
        "started": _iso(told.started_ms) if told else None,
        "stopped": _iso(told.stopped_ms) if told else None,
    }


def _attempt_document(attempt: Attempt) -> Mapping[str, Any]:
    return {
        "exit_code": attempt.exit_code,
        "reason": attempt.reason,
        "log_stream": attempt.stream,
        "started": _iso(attempt.started_ms),
        "stopped": _iso(attempt.stopped_ms),
    }


def _iso(time_ms: int | None) -> str | None:
    return None if time_ms is None else iso(time_ms)
