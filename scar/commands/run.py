"""`scar run`: one run of a function, now. The script's exit code is ours.

event ─(too large: into the state bucket)─► Lambda ─┬ it ran             ► its output
                                                    ├ a Batch job has it ► the job's id; with --wait its output and its exit code
                                                    └ Lambda killed it   ► we hand it over, as Lambda itself does for what S3 starts
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from faassupervisor import hops
from scar.commands.common import connect, one_name, read_definition
from scar.commands.documents import job_document
from scar.commands.event import payload_of
from scar.commands.run_objects import run_objects
from scar.commands.run_output import RunOutput
from scar.commands.watching import attend, command, ended_text, goes_on
from scar.errors import INTERRUPTED, ConflictError, RunFailedError, UsageError
from scar.report import plural

if TYPE_CHECKING:
    from argparse import Namespace

    from faassupervisor.contract import Failure, Reply
    from scar.aws.clients import Aws
    from scar.aws.following import Either, JobsWatch
    from scar.aws.jobs import Job
    from scar.aws.logs import Line
    from scar.aws.runs import Answer
    from scar.cli import Context
    from scar.fdl.model import Function


def run(context: Context, args: Namespace) -> int:
    """Invoke (lambda:Invoke) and show what the process wrote; with `-a` only the request id."""
    from faassupervisor.contract import Failure
    from scar.aws import answers
    from scar.aws.runs import invoke, killed_by_platform

    name, functions = _function(context, args)
    output = RunOutput(context, args.output)
    if (code := run_objects(context, args, name, functions)) is not None:
        return code
    fn = functions[0] if functions else None
    asynchronous = args.asynchronous or bool(fn and fn.lambda_.asynchronous)
    may_spill = not args.no_spill and (fn is None or fn.lambda_.spill)
    payload = payload_of(args, fn)
    hop = hops.ASYNC_INVOKE if asynchronous else hops.SYNC_INVOKE
    if not may_spill and not hop.fits(len(payload)):
        said = "--no-spill" if args.no_spill else "`lambda.spill: false`"
        raise ConflictError(hop.refusal(len(payload)), fix=f"{hop.fix} Or leave out {said}.")
    aws, _ = connect(context, functions)
    payload = _fitted(aws, name, payload, hop)
    try:
        answer = invoke(aws, name, payload, asynchronous=asynchronous)
    except KeyboardInterrupt:
        context.report.complain(
            f"Stopped watching; the run of {name} goes on in Lambda.\n  Watch it: {command(context)} log -n {name} --since 1m --follow"
        )
        return INTERRUPTED
    if asynchronous:
        if args.wait:
            return _await_request(context, aws, name, answer.request_id, output)
        return _launched(context, name, answer.request_id)
    request_id = answer.request_id
    if answer.failed and killed_by_platform(Failure.from_json(answer.body)):
        answer = handed_over(context, aws, name, payload, answer, may_spill=may_spill)
    if answer.failed:
        raise _failed(context, name, Failure.from_json(answer.body), request_id)
    reply = answers.read(answer.body, request_id)
    if isinstance(reply, Failure):
        raise _failed(context, name, reply, request_id)
    if fn is not None and fn.lambda_.log_type == "None":
        reply = dataclasses.replace(reply, runs=tuple(dataclasses.replace(each, output="") for each in reply.runs))
    return _show(context, aws, name, reply, output=output, wait=args.wait)


def _function(context: Context, args: Namespace) -> tuple[str, tuple[Function, ...]]:
    """`-n`, or the one function of `-f`; both choose one of several."""
    if args.conf_file is not None and args.name is not None:
        return args.name, read_definition(context, args.conf_file, args.name)
    if args.conf_file is None and args.name is None:
        raise UsageError("which function?", fix="Name it with -n, or its definition file with -f.")
    return one_name(context, args.name, args.conf_file)


def exit_code_of(failure: Failure) -> int:
    """The exit code a failure means: the script's own, or what a shell would say when Lambda itself ended the run."""
    from scar.aws.runs import timed_out

    if timed_out(failure):
        return 124
    if failure.kind == "Runtime.ExitError" and "signal: killed" in failure.message:  # out of memory
        return 137
    return failure.exit_code


def _fitted(aws: Aws, name: str, payload: bytes, hop: hops.Hop) -> bytes:
    """The payload itself, or what stands for it when the hop is too narrow."""
    from scar.aws import runs, spill

    if hop.fits(len(payload)):
        return payload
    where = runs.place(aws, name)
    if where is None:
        raise runs.absent(name)
    return spill.put(aws, where, payload).to_payload()


def handed_over(context: Context, aws: Aws, name: str, payload: bytes, killed: Answer, *, may_spill: bool) -> Answer:
    """What the function answers to the news that Lambda killed its run; `killed` itself when it has no queue to hand it over to.

    Only asynchronous invocations have destinations, so that here it is ours to tell.
    """
    from faassupervisor.contract import Failure
    from scar.aws import runs, spill

    where = runs.place(aws, name)
    if where is None or where.job_queue is None:
        return killed
    context.report.say(f"{name}: {Failure.from_json(killed.body).message}. The run is handed over to Batch.")
    record = runs.failure_record(where, killed.request_id, payload, killed.body)
    if may_spill and not hops.SYNC_INVOKE.fits(len(record)):
        kept = spill.put(aws, where, payload).to_payload()
        record = runs.failure_record(where, killed.request_id, kept, killed.body)
    if not hops.SYNC_INVOKE.fits(len(record)):
        return killed
    return runs.invoke(aws, name, record, asynchronous=False)


def _failed(context: Context, name: str, failure: Failure, request_id: str) -> RunFailedError:
    return RunFailedError(
        f"{name}: {failure.message}",
        exit_code=exit_code_of(failure),
        last_lines=failure.last_lines,
        fix=f"See the whole log: {command(context)} log -n {name} -ri {failure.request_id or request_id}",
    )


def _launched(context: Context, name: str, request_id: str) -> int:
    if context.report.json:
        context.report.document({"function": name, "request_id": request_id})
    else:
        context.report.line(request_id)
        context.report.say(f"{name} was launched. See what it does: {command(context)} log -n {name} -ri {request_id}")
    return 0


def _show(context: Context, aws: Aws, name: str, reply: Reply, *, output: RunOutput, wait: bool) -> int:
    ids = list(dict.fromkeys(run.job_id for run in reply.runs if run.job_id is not None))
    text = "".join(item.output for item in reply.runs if item.job_id is None)  # a job begins anew
    for reason in reply.skipped:
        context.report.say(f"{name}: {reason}")
    if text or not ids:
        output.whole(text)
    if ids and wait:
        return _await_jobs(context, aws, reply, ids, output)
    output.close()
    if context.report.json:
        context.report.document(reply)
    for one in ids:
        if not context.report.json:
            context.report.line(f"handed over to Batch: job {one}")
        context.report.say(f"  See it end: {command(context)} wait {one}")
        context.report.say(f"  See its log: {command(context)} log -n {name} -ri {one} --follow")
    return 0


def _await_jobs(context: Context, aws: Aws, reply: Reply, ids: Sequence[str], output: RunOutput) -> int:
    from scar.aws.following import JobsWatch

    said = f"handed over to Batch: {plural(len(ids), 'job')} {' '.join(ids)}"
    watched = JobsWatch(aws, ids, lines=True)
    code = _await(context, aws, watched, output, said, left=lambda: goes_on(context, ids, None))
    if context.report.json and code != INTERRUPTED:
        context.report.document(dataclasses.asdict(reply) | _result(watched.jobs.values(), code))
    return code


def _await_request(context: Context, aws: Aws, name: str, request_id: str, output: RunOutput) -> int:
    from scar.aws.following import Either

    said = f"launched: request {request_id}"
    watched = Either(aws, name, request_id)
    left = functools.partial(goes_on, context, (), name, request_id)
    code = _await(context, aws, watched, output, said, left=left)
    if context.report.json and code != INTERRUPTED:
        head = {"function": name, "request_id": request_id}
        context.report.document(head | _result(watched.jobs.values(), code))
    return code


def _await(
    context: Context, aws: Aws, watched: JobsWatch | Either, output: RunOutput, said: str, *, left: Callable[[], str]
) -> int:
    """What the script writes, as it comes, and then how it ended; its exit code."""
    from scar.aws.request_log import facts_of, is_output

    reasons: list[str] = []

    def show(line: Line) -> None:
        if is_output(line.message):
            output.line(line.message)
        elif isinstance(reason := facts_of(line.message).get("errorMessage"), str):
            reasons.append(reason)

    context.report.say(said)
    code = attend(context, aws, watched, show, what=said, after_interrupt=left)
    output.close()
    for reason in reasons[-1:] if code else ():
        context.report.complain(f"scar: {reason}")
    for job in watched.jobs.values():
        if job.finished and job.result:
            context.report.complain(ended_text(job))
        else:
            context.report.say(ended_text(job))
    if code not in {0, INTERRUPTED} and not watched.jobs:
        context.report.complain(f"the run failed with exit code {code}")
    return code


def _result(jobs: Iterable[Job], code: int) -> dict[str, Any]:
    return {"jobs": [job_document(job) for job in jobs], "exit_code": code, "exit_origin": "job"}
