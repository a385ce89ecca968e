"""`scar run` for objects that are there already: one run for each, as if it had just been uploaded; each exactly once.

Every run has an event of its own. The summary tells what became of each; the exit code is that of the first that failed, in the order of the list.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from scar.commands.common import connect
from scar.commands.run_output import RunOutput
from scar.commands.transfer import existing, split
from scar.commands.watching import attend, command, goes_on
from scar.errors import INTERRUPTED, NotFoundError, RunFailedError, UsageError
from scar.report import plural

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.jobs import Job
    from scar.aws.objects import Object
    from scar.cli import Context
    from scar.fdl.model import Function

ASKED_ABOVE: Final = 1000  # objects; so many runs are a matter of money
_COLUMNS: Final = ("object", "result", "code", "took")


@dataclass(frozen=True, slots=True)
class _Source:
    """A folder, or one object, to run for."""

    bucket: str
    path: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class _Ended:
    """What became of one object's run. `job_ids`: Batch has it."""

    uri: str
    request_id: str
    exit_code: int
    result: str
    seconds: float
    output: str = ""
    job_ids: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _How:
    name: str
    asynchronous: bool
    at_once: int


def run_objects(context: Context, args: Namespace, name: str, functions: tuple[Function, ...]) -> int | None:
    """The exit code; None when no objects were asked for, so that it is one run of the function."""
    sources = _sources(context, args, functions)
    if not sources:
        if args.dry_run:
            raise UsageError("--dry-run is of runs for objects", fix="Say which: -ib BUCKET/FOLDER or --object.")
        return None
    if args.event or args.json_data or args.run_script or args.c_args:
        raise UsageError("runs for objects take no script, arguments or event of their own")
    asynchronous = args.asynchronous or bool(functions and functions[0].lambda_.asynchronous)
    if asynchronous and args.wait:
        raise UsageError("-a does not wait", fix="Leave -a out: with --wait every run is seen to its end.")
    aws, _ = connect(context, functions)
    found = _found(aws, sources)
    if args.dry_run:
        return _would_run(context, name, found)
    found, count = _confirmed(context, args, name, found)
    ended, interrupted = _run_all(context, aws, _How(name, asynchronous, args.jobs), found, count)
    jobs: dict[str, Job] = {}
    if args.wait and not interrupted:
        jobs, interrupted = _watched(context, aws, ended)
    return _tell(context, args, name, [_with_jobs(one, jobs) for one in ended], interrupted=interrupted)


def _sources(context: Context, args: Namespace, functions: tuple[Function, ...]) -> list[_Source]:
    sources = [_Source(*split(args.input_bucket))] if args.input_bucket else []
    for uri in args.objects or ():
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise UsageError(f"--object {uri!r} names no object", fix="Write it as s3://bucket/key.")
        sources.append(_Source(bucket, key, exact=True))
    if sources:
        return sources
    inputs = [
        _Source(*split(one.path))
        for fn in functions
        for one in fn.lambda_.input
        if one.path and one.storage_provider == "s3"
    ]
    if args.inputs and not inputs:
        raise UsageError("--inputs: the definition names no bucket as input", fix="Give -f FILE, or -ib BUCKET/FOLDER.")
    if args.inputs:
        return inputs
    alone = not (args.event or args.json_data or args.run_script or args.c_args)
    if not inputs or not alone:
        return []
    names = " and ".join(f"{one.bucket}/{one.path}".rstrip("/") for one in inputs)
    if args.yes:
        return inputs
    if context.report.style.may_ask:
        wanted = context.report.confirm(f"Run for every object in {names}?", refusal="")
        return inputs if wanted else []
    context.report.say(f"The objects in {names} are left alone: say --inputs to run for each of them.")
    return []


def _found(aws: Aws, sources: Sequence[_Source]) -> Iterator[tuple[str, Object]]:
    """Each object once, page by page, whatever sources name it. Raises NotFoundError for a source that holds none."""
    from scar.aws.objects import one

    seen: set[tuple[str, str]] = set()
    for source in sources:
        if source.exact:
            found = one(aws, source.bucket, source.path)
            if found is None:
                raise NotFoundError(f"s3://{source.bucket}/{source.path} is no object")
            items: Iterator[Object] = iter([found])
        else:
            items = existing(aws, source.bucket, source.path)
        for item in items:
            if (source.bucket, item.key) not in seen:
                if len(sources) > 1:
                    seen.add((source.bucket, item.key))
                yield source.bucket, item


def _would_run(context: Context, name: str, found: Iterator[tuple[str, Object]]) -> int:
    if context.report.json:
        context.report.document({"function": name, "would_run_for": [f"s3://{b}/{item.key}" for b, item in found]})
        return 0
    for bucket, item in found:
        context.report.line(f"would run {name} for s3://{bucket}/{item.key}")
    return 0


def _confirmed(
    context: Context, args: Namespace, name: str, found: Iterator[tuple[str, Object]]
) -> tuple[Iterator[tuple[str, Object]], int | None]:
    """The same objects, and how many when that is known; raises UsageError when there are many and nobody says yes."""
    head = list(itertools.islice(found, ASKED_ABOVE + 1))
    if len(head) <= ASKED_ABOVE:
        return iter(head), len(head)
    if not args.yes:
        what = f"this runs {name} for more than {ASKED_ABOVE} objects"
        if not context.report.confirm(f"T{what[1:]}. Go on?", refusal=what):
            raise UsageError("nothing was run")
    return itertools.chain(head, found), None


def _run_all(
    context: Context, aws: Aws, how: _How, found: Iterator[tuple[str, Object]], count: int | None
) -> tuple[list[_Ended], bool]:
    """Run for each, a bounded number at a time; answers how they ended, in the order of the list, and whether we were interrupted.

    The threads are daemons: a run that goes on in Lambda does not hold whoever pressed Ctrl-C.
    """
    aws.invoker  # noqa: B018 - made before there are threads
    what = f"running {how.name} for {'many objects' if count is None else plural(count, 'object')}"
    ended: dict[int, _Ended | BaseException] = {}
    waiting: queue.Queue[tuple[int, str, Object] | None] = queue.Queue(maxsize=how.at_once)
    stop = threading.Event()

    def work() -> None:
        while (asked := waiting.get()) is not None:
            index, bucket, item = asked
            if stop.is_set():
                continue
            try:
                ended[index] = result = _run_one(context, aws, how, bucket, item)
                tell(result.uri)
            except BaseException as error:  # noqa: BLE001 - raised again where the runs are waited for
                ended[index] = error
                stop.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(how.at_once)]
    with context.report.counting(what, count) as tell:
        for thread in threads:
            thread.start()
        interrupted = False
        try:
            for index, (bucket, item) in enumerate(found):
                if stop.is_set():
                    break
                waiting.put((index, bucket, item))
            for _ in threads:
                waiting.put(None)
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            stop.set()
            interrupted = True
    results = [ended[index] for index in sorted(ended)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, _Ended)], interrupted


def _run_one(context: Context, aws: Aws, how: _How, bucket: str, item: Object) -> _Ended:
    """Raises ScarError when the function cannot be invoked at all; a run that fails is an answer."""
    from faassupervisor.contract import Failure, Reply
    from scar.aws.runs import invoke, killed_by_platform
    from scar.aws.s3_event import created
    from scar.commands.run import exit_code_of, handed_over

    uri, began_s = f"s3://{bucket}/{item.key}", time.monotonic()
    payload = created(bucket, item, region=aws.region, partition=aws.partition)
    answer = invoke(aws, how.name, payload, asynchronous=how.asynchronous)
    request_id = answer.request_id
    if answer.failed and killed_by_platform(Failure.from_json(answer.body)):
        answer = handed_over(context, aws, how.name, payload, answer, may_spill=True)
    seconds = round(time.monotonic() - began_s, 3)
    if how.asynchronous:
        return _Ended(uri, request_id, 0, "launched", seconds)
    if answer.failed:
        failure = Failure.from_json(answer.body)
        code = exit_code_of(failure)
        return _Ended(uri, request_id, code, failure.message, seconds, last_lines=tuple(failure.last_lines))
    reply = Reply.from_json(answer.body)
    ids = tuple(dict.fromkeys(run.job_id for run in reply.runs if run.job_id is not None))
    output = "".join(run.output for run in reply.runs if run.job_id is None)
    result = "handed over" if ids else "; ".join(reply.skipped) if reply.skipped else "done"
    return _Ended(uri, request_id, 0, result, seconds, output, ids)


def _watched(context: Context, aws: Aws, ended: Sequence[_Ended]) -> tuple[dict[str, Job], bool]:
    """The jobs that took runs over, when they have finished."""
    from scar.aws.following import JobsWatch

    ids = [one for run in ended for one in run.job_ids]
    if not ids:
        return {}, False
    watched = JobsWatch(aws, ids, lines=False)
    context.report.say(f"handed over to Batch: {plural(len(ids), 'job')}; waiting for them")
    code = attend(
        context, aws, watched, lambda _: None, what="the jobs", after_interrupt=lambda: goes_on(context, ids, None)
    )
    return watched.jobs, code == INTERRUPTED


def _with_jobs(run: _Ended, jobs: dict[str, Job]) -> _Ended:
    mine = [jobs[one] for one in run.job_ids if one in jobs]
    if not mine or not all(job.finished for job in mine):
        return run
    code = next((job.result for job in mine if job.result), 0)
    result = "done in Batch" if code == 0 else f"failed in Batch: {mine[-1].why}"
    return dataclasses.replace(run, exit_code=code, result=result)


def _tell(context: Context, args: Namespace, name: str, ended: Sequence[_Ended], *, interrupted: bool) -> int:
    report = context.report
    output = RunOutput(context, args.output)
    failed = [run for run in ended if run.exit_code]
    code = INTERRUPTED if interrupted else failed[0].exit_code if failed else 0
    for run in ended:
        if run.output:
            output.whole(run.output)
    output.close()
    if report.json:
        runs = [_document(run) for run in ended]
        report.document({"function": name, "runs": runs, "exit_code": code, "exit_origin": "job"})
    else:
        rows = [
            {"object": run.uri, "result": run.result, "code": run.exit_code, "took": f"{run.seconds:.1f} s"}
            for run in ended
        ]
        report.table(rows, _COLUMNS, empty="Nothing was run.")
    report.say(f"{plural(len(ended), 'run')}, {len(failed)} failed")
    if interrupted:
        scar = command(context)
        report.complain(
            f"Stopped; what was started goes on, no further run is started.\n  Watch it: {scar} log -n {name} --follow"
        )
    elif failed:
        first = failed[0]
        raise RunFailedError(
            f"{name}: {plural(len(failed), 'run')} of {len(ended)} failed; the first was for {first.uri}: {first.result}",
            exit_code=code,
            last_lines=first.last_lines,
            fix=f"See its log: {command(context)} log -n {name} -ri {first.request_id}",
        )
    return code


def _document(run: _Ended) -> dict[str, Any]:
    return {
        "object": run.uri,
        "request_id": run.request_id,
        "exit_code": run.exit_code,
        "result": run.result,
        "seconds": run.seconds,
        "output": run.output,
        "jobs": list(run.job_ids),
    }
