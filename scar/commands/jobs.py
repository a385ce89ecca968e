"""`scar jobs`: which Batch jobs there are, and everything about one."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from scar.commands.common import connect, one_name
from scar.commands.documents import job_document, object_of, outputs_of, whole_document
from scar.commands.times import age, iso, since
from scar.commands.watching import one_line
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping

    from scar.aws.clients import Aws
    from scar.aws.jobs import Job, Nodes
    from scar.cli import Context

_COLUMNS = ("id", "function", "status", "nodes", "for", "code", "reason")
_NODE_COLUMNS = ("node", "main", "status", "for", "code", "address", "reason")


def jobs(context: Context, args: Namespace) -> int:
    """A table of jobs, newest first: of one function or of all. Calls grow with pages of 100, not with jobs."""
    since_ms = since(args.since, time.time()) if args.since else None
    if args.id is not None:
        if args.name or args.conf_file or args.status or args.since:
            raise UsageError("one job is asked for by its id alone", fix="Leave -n, -f, --status and --since out.")
        aws, _ = connect(context)
        return _one(context, aws, args.id)
    name, functions = one_name(context, args.name, args.conf_file) if args.name or args.conf_file else (None, ())
    aws, _ = connect(context, functions)
    found = [
        job
        for job in _all(aws, name)
        if (not args.status or job.status in args.status) and (since_ms is None or job.created_ms >= since_ms)
    ]
    found.sort(key=lambda job: job.created_ms, reverse=True)
    if context.report.json:
        context.report.documents(map(job_document, found))
        return 0
    now_s = time.time()
    rows = [
        {
            "id": job.id,
            "function": job.function,
            "status": job.status,
            "nodes": job.nodes.count if job.nodes else None,
            "for": age(job.since_ms, now_s),
            "code": job.exit_code,
            "reason": one_line(job.why),
        }
        for job in found
    ]
    without = {"function"} if name is not None else set[str]()
    if not any(job.nodes for job in found):
        without.add("nodes")
    columns = [column for column in _COLUMNS if column not in without]
    context.report.table(
        rows,
        columns,
        empty="There is no such job. Batch forgets a finished one after some days.",
        whole=("id", "status", "for"),
        spare=("reason", "nodes"),
    )
    return 0


def _all(aws: Aws, function: str | None) -> Iterable[Job]:
    """Raises NotFoundError for a function that is neither there nor has left a job."""
    from scar.aws.jobs import listed, queues
    from scar.aws.runs import absent, place

    if function is None:
        return itertools.chain.from_iterable(listed(aws, queue) for queue in queues(aws))
    where = place(aws, function)
    if where is not None:
        return listed(aws, where.job_queue, function) if where.job_queue else ()
    left = [job for queue in queues(aws) for job in listed(aws, queue, function)]
    if not left:
        raise absent(function)
    return left


def _one(context: Context, aws: Aws, job_id: str) -> int:
    """One job, with its nodes where it has some, or one node."""
    from scar.aws.jobs import described_with_nodes

    job, nodes = described_with_nodes(aws, job_id)
    if job is None:
        raise _absent(aws, job_id)
    outputs = outputs_of(aws, job)
    if context.report.json:
        context.report.document(whole_document(job, outputs, nodes))
        return 0
    for word, value in _facts(job):
        if value not in {None, ""}:
            context.report.line(f"{word:<11} {value}")
    for number, attempt in enumerate(job.attempts, 1):
        ended = "no exit code" if job.finished or attempt.stopped_ms else "under way"
        code = ended if attempt.exit_code is None else f"exit code {attempt.exit_code}"
        told = ", ".join(text for text in (code, one_line(attempt.reason), attempt.stream) if text)
        context.report.line(f"{f'attempt {number}':<11} {told}")
    for uri in outputs:
        context.report.line(f"{'output':<11} {uri}")
    if job.nodes:
        rows = [_node_row(job.nodes, index, nodes.get(index)) for index in range(job.nodes.count)]
        context.report.line("")
        context.report.table(rows, _NODE_COLUMNS, empty="", whole=("address",))
    return 0


def _absent(aws: Aws, job_id: str) -> NotFoundError:
    """Why Batch knows no such job or node."""
    from scar.aws.following import no_node, unknown
    from scar.aws.jobs import apart, described

    whole_id, index = apart(job_id)
    job = described(aws, [whole_id]).get(whole_id) if index is not None else None
    if job is None or index is None:
        return unknown([whole_id])
    if job.nodes is None or index >= job.nodes.count:
        return no_node(job, index)
    return NotFoundError(
        f"node {index} of job {whole_id} has not started; the job is {job.status}",
        fix=f"See the job: scar jobs {whole_id}",
    )


def _facts(job: Job) -> Iterable[tuple[str, object]]:
    task, node, nodes = job.task, job.node, job.nodes
    return (
        ("job", job.id),
        ("node", f"{node.index}{', the main one' if node.main else ''}" if node else None),
        ("nodes", f"{nodes.count}, of which {nodes.main} is the main one" if nodes else None),
        ("name", job.name),
        ("function", job.function),
        ("status", f"{job.status}, for {age(job.since_ms, time.time())}"),
        ("reason", one_line(job.why)),
        ("exit code", job.exit_code),
        ("submitted", iso(job.created_ms)),
        ("started", None if job.started_ms is None else iso(job.started_ms)),
        ("stopped", None if job.stopped_ms is None else iso(job.stopped_ms)),
        ("queue", job.queue),
        ("definition", job.definition),
        ("image", job.image),
        ("address", node.address if node else None),
        ("log group", job.log_group),
        ("log stream", job.stream),
        ("request", task.request_id if task else None),
        ("record", f"{task.run}, hand-over {task.epoch}" if task else None),
        ("object", object_of(task) if task else None),
        ("event", task.reference.uri if task and task.reference else None),
    )


def _node_row(nodes: Nodes, index: int, told: Job | None) -> Mapping[str, object]:
    """A node that was never started has its index alone."""
    row: dict[str, object] = {"node": index, "main": "yes" if index == nodes.main else None}
    if told is None:
        return row | {"status": "not started"}
    return row | {
        "status": told.status,
        "for": age(told.since_ms, time.time()),
        "code": told.exit_code,
        "address": told.node.address if told.node else None,
        "reason": one_line(told.why),
    }
