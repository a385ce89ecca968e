"""`scar jobs`: which Batch jobs there are, and everything about one."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from scar.commands.common import connect, one_name
from scar.commands.documents import job_document, object_of, outputs_of, whole_document
from scar.commands.times import iso, since
from scar.commands.watching import age, one_line
from scar.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from scar.aws.clients import Aws
    from scar.aws.jobs import Job
    from scar.cli import Context

_COLUMNS = ("id", "function", "status", "for", "code", "reason")


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
            "for": age(job.since_ms, now_s),
            "code": job.exit_code,
            "reason": one_line(job.why),
        }
        for job in found
    ]
    columns = [column for column in _COLUMNS if name is None or column != "function"]
    context.report.table(
        rows, columns, empty="There is no such job. Batch forgets a finished one after some days.", whole=("id",)
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
    from scar.aws.following import unknown
    from scar.aws.jobs import described

    job = described(aws, [job_id]).get(job_id)
    if job is None:
        raise unknown([job_id])
    outputs = outputs_of(aws, job)
    if context.report.json:
        context.report.document(whole_document(job, outputs))
        return 0
    task = job.task
    facts = [
        ("job", job.id),
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
        ("log group", job.log_group),
        ("log stream", job.stream),
        ("request", task.request_id if task else None),
        ("record", f"{task.run}, hand-over {task.epoch}" if task else None),
        ("object", object_of(task) if task else None),
        ("event", task.reference.uri if task and task.reference else None),
    ]
    for word, value in facts:
        if value not in {None, ""}:
            context.report.line(f"{word:<11} {value}")
    for number, attempt in enumerate(job.attempts, 1):
        ended = "no exit code" if job.finished or attempt.stopped_ms else "under way"
        code = ended if attempt.exit_code is None else f"exit code {attempt.exit_code}"
        told = ", ".join(text for text in (code, one_line(attempt.reason), attempt.stream) if text)
        context.report.line(f"{f'attempt {number}':<11} {told}")
    for uri in outputs:
        context.report.line(f"{'output':<11} {uri}")
    return 0
