"""`scar explain`: why a run, a job or a function is stuck or failed, and what to do.

What is asked about decides what is looked at: a job with its queue and its log; a run with the jobs that took it over; an object with what should have
sent it; a function with all of these, as far as something is wrong with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scar.commands.common import connect
from scar.commands.watching import command, ended_text
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.explaining_terms import Facts, Finding
    from scar.cli import Context

_LOOKED_BACK_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class _Subject:
    """One thing that was looked at. `state` says how it is; `findings` why it is stuck or failed, if it is."""

    what: str
    state: str
    findings: tuple[Finding, ...]


def explain(context: Context, args: Namespace) -> int:
    """Tell what the rules find. Raises NotFoundError for what nobody knows."""
    from scar.aws.jobs import apart, is_job_id

    name, said = args.name, args.id
    if said is None and name is None:
        raise UsageError("what is to be explained?", fix="Name a function, a run's request id with -n, or a job's id.")
    if said is not None and name is None and not is_job_id(said):
        name, said = said, None
    aws, _ = connect(context)
    if args.object is not None:
        if name is None:
            raise UsageError("--object is of one function", fix="Name it: scar explain NAME --object s3://BUCKET/KEY")
        subjects = list(_of_object(aws, name, args.object))
    elif said is not None:
        subjects = list(_of_id(aws, name, apart(said)[0]))
    else:
        subjects = list(_of_function(aws, name))
    _tell(context, subjects)
    return 0


def _of_id(aws: Aws, function: str | None, one: str) -> Iterator[_Subject]:
    """A job; or a request of the function, which is then followed into Batch."""
    from scar.aws.explaining_gathered import of_job, of_request

    facts = of_job(aws, one)
    if facts is not None:
        yield _judged(facts)
        return
    if function is None:
        raise NotFoundError(
            f"Batch knows no job {one}",
            fix=f"A run in Lambda is found in its function's log only: scar explain -n NAME {one}",
        )
    facts = of_request(aws, function, one)
    if facts is None:
        raise NotFoundError(
            f"neither the log of {function!r} nor Batch knows {one}", fix=f"See all: scar log -n {function}"
        )
    yield _judged(facts)
    for job_id in facts.run.job_ids if facts.run else ():
        job = of_job(aws, job_id)
        if job is not None:
            yield _judged(job)


def _of_object(aws: Aws, function: str, uri: str) -> Iterator[_Subject]:
    from scar.aws.explaining_gathered import of_arrival, request_for

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise UsageError(f"--object {uri!r} names no object", fix="Write it as s3://bucket/key.")
    _known(aws, function)
    request_id = request_for(aws, function, bucket, key)
    if request_id is not None:
        yield from _of_id(aws, function, request_id)
        return
    yield _judged(of_arrival(aws, function, bucket, key))


def _of_function(aws: Aws, name: str) -> Iterator[_Subject]:
    """The function itself, its inputs, its last run that failed, its job that waits longest and the one that failed last."""
    from scar.aws import names
    from scar.aws.explaining_gathered import function_of, last_run, of_arrival, of_job
    from scar.aws.explaining_terms import Facts
    from scar.aws.jobs import listed
    from scar.aws.resources.state_bucket import mark

    _known(aws, name)
    function = function_of(aws, name)
    yield _judged(Facts(function=function))
    marked = mark(aws, names.state_bucket(aws.account, aws.region), name)
    for bucket in marked.inputs if marked else ():
        yield _judged(of_arrival(aws, name, bucket, None))
    since_ms = int((time.time() - _LOOKED_BACK_S) * 1000)
    request_id = last_run(aws, name, since_ms)
    if request_id is not None:
        yield from _of_id(aws, name, request_id)
    queue = function.job_queue if function else None
    jobs = list(listed(aws, queue.rpartition("/")[2], name)) if queue else []
    waiting = [job for job in jobs if job.status == "RUNNABLE"]
    failed = [job for job in jobs if job.status == "FAILED" and job.since_ms >= since_ms]
    for job in [*sorted(waiting, key=lambda job: job.created_ms)[:1], *failed[:1]]:
        facts = of_job(aws, job.id)
        if facts is not None:
            yield _judged(facts)


def _known(aws: Aws, function: str) -> None:
    from scar.aws.runs import absent, place

    if place(aws, function) is None:
        raise absent(function)


def _judged(facts: Facts) -> _Subject:
    from scar.aws.explaining import findings

    what, state = _state(facts)
    return _Subject(what, state, findings(facts))


def _state(facts: Facts) -> tuple[str, str]:
    if facts.job is not None:
        return f"job {facts.job.id}", ended_text(facts.job)
    if facts.run is not None:
        run = facts.run
        what = f"run {run.request_id}"
        if run.job_ids:
            return what, f"handed over to Batch: {', '.join(run.job_ids)}"
        if not run.ended:
            return what, "it has not ended"
        return what, f"failed with exit code {run.exit_code}" if run.exit_code else "ended well"
    if facts.arrival is not None:
        arrival = facts.arrival
        name = f"s3://{arrival.bucket}/{arrival.key}" if arrival.key is not None else f"bucket {arrival.bucket}"
        return name, f"starts {arrival.function}" if arrival.key is None else f"no run of {arrival.function} took it"
    return f"function {facts.name}", facts.function.state if facts.function else "unknown"


def _tell(context: Context, subjects: list[_Subject]) -> None:
    report, scar = context.report, command(context)
    if report.json:
        report.document([_document(subject, scar) for subject in subjects])
        return
    for subject in subjects:
        report.line(f"{report.strong(subject.what)}: {subject.state}")
        for finding in subject.findings:
            report.line(f"  {report.paint(finding.what, 'failed')}")
            for line in finding.why.splitlines():
                report.line(f"    {line}")
            for step in finding.next:
                report.line(f"    → {_typed(step, scar)}")
    if not any(subject.findings for subject in subjects):
        report.say("Nothing is known to be wrong.")


def _document(subject: _Subject, scar: str) -> dict[str, object]:
    found = [
        {
            "rule": finding.rule,
            "what": finding.what,
            "why": finding.why,
            "next": [_typed(step, scar) for step in finding.next],
        }
        for finding in subject.findings
    ]
    return {"subject": subject.what, "state": subject.state, "findings": found}


def _typed(step: str, scar: str) -> str:
    """A step as it is to be typed here: with `--local` before every command of ours."""
    return f"{scar}{step[4:]}" if step.startswith("scar ") else step.replace(": scar ", f": {scar} ")
