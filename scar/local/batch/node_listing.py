"""What does Batch tell of the nodes of a job? Each as a job of its own, `<job id>#<index>`. Called with `Region.lock` held.

Source of shapes: botocore batch:JobDetail.nodeDetails, JobSummary.nodeProperties; batch/latest/userguide/multi-node-parallel-jobs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.job import NOT_STARTED, Job
from scar.local.batch.node import Node

NEVER_BEGAN: Final = "The job ended before this node began"


def id_of(job: Job, node: Node) -> str:
    return f"{job.id}#{node.index}"


def state_of(job: Job, node: Node) -> dict[str, Any]:
    """Status, reason and times; of a job that waits, for another attempt too, only that it does."""
    if job.status in NOT_STARTED:
        return {"status": job.status}
    never = job.ended and not node.ended
    reason = (job.reason or NEVER_BEGAN if job.doomed else NEVER_BEGAN) if never else node.reason
    told = {"statusReason": reason, "startedAt": node.started_ms, "stoppedAt": node.stopped_ms}
    return {"status": job.status_of(node), **{name: value for name, value in told.items() if value}}


def details(job: Job, node: Node) -> dict[str, Any]:
    """`nodeDetails` of DescribeJobs."""
    assert job.nodes is not None
    return {"nodeIndex": node.index, "isMainNode": node.index == job.nodes.main}


def summary(job: Job, node: Node, arn: str) -> dict[str, Any]:
    """A node as ListJobs shows it."""
    assert job.nodes is not None
    told: dict[str, Any] = {
        "jobArn": arn,
        "jobId": id_of(job, node),
        "jobName": job.name,
        "createdAt": job.created_ms,
        "jobDefinition": job.definition,
        "nodeProperties": {**details(job, node), "numNodes": job.nodes.count},
        **state_of(job, node),
    }
    container: Mapping[str, Any] = node.attempts[-1]["container"] if node.attempts else {}
    if node.ended or container.get("reason"):
        told["container"] = {name: container[name] for name in ("exitCode", "reason") if name in container}
    return told
