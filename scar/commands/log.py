"""`scar log`: what a function's runs wrote, in Lambda and in Batch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, one_name
from scar.commands.times import since
from scar.commands.watching import attend, ended_document, goes_on, line_document, show_ends, show_line
from scar.errors import INTERRUPTED, NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.following import Either, Which
    from scar.aws.jobs import Job
    from scar.aws.logs import Line
    from scar.cli import Context


def log(context: Context, args: Namespace) -> int:
    """Print the log, oldest line first; with JSON one document a line.

    `--follow` with a request ends when that has ended, with its exit code; without one it goes on until Ctrl-C.
    """
    since_ms = since(args.since, time.time()) if args.since else None
    until_ms = since(args.until, time.time(), "--until") if args.until else None
    if until_ms is not None and args.follow:
        raise UsageError("--follow shows what is still to come", fix="Leave --until out.")
    run_id, which = _asked(args)
    named = args.name is not None or args.conf_file is not None
    if run_id is None and not named:
        raise UsageError("whose log?", fix="Name a function with -n or -f, or a job by its id.")
    name, functions = one_name(context, args.name, args.conf_file) if named else (None, ())
    aws, _ = connect(context, functions)
    if run_id is not None:
        return _of_run(context, args, aws, name or _function_of(aws, run_id), _Run(run_id, which, since_ms, until_ms))
    assert name is not None, "one of the two was given"
    return _of_function(context, args, aws, name, (since_ms, until_ms))


@dataclass(frozen=True, slots=True)
class _Run:
    """What is asked for of a function: a run or a job, and of a job that has nodes perhaps only some of them."""

    id: str
    which: Which | None
    since_ms: int | None
    until_ms: int | None


def _asked(args: Namespace) -> tuple[str | None, Which | None]:
    """The run's or job's id and which of its nodes: `JOB --node 2` may be written as `JOB#2`."""
    from scar.aws.jobs import apart

    if args.id is not None and args.request_id is not None:
        raise UsageError("a run is named once", fix="Give its id alone, or after -ri.")
    said = args.id if args.id is not None else args.request_id
    if said is None:
        if args.node is not None:
            raise UsageError("--node is of one job", fix="Give the job's id: scar log ID --node 2")
        return None, None
    job_id, index = apart(said)
    if index is None:
        return said, args.node
    if args.node not in {None, index}:
        raise UsageError(f"{said} and --node {args.node} name different nodes", fix=f"Leave one out: scar log {said}")
    return job_id, index


def _function_of(aws: Aws, job_id: str) -> str:
    """Raises NotFoundError unless it is the id of a job of ours: only the function's log knows what ran in Lambda."""
    from scar.aws.jobs import described
    from scar.aws.request_log import checked_id

    job = described(aws, [checked_id(job_id)]).get(job_id)
    if job is None:
        fix = f"A run in Lambda is found in its function's log only: scar log -n NAME -ri {job_id}"
        raise NotFoundError(f"Batch knows no job {job_id}", fix=fix)
    if job.function is None:
        fix = f"See what Batch says of it: scar jobs {job_id}"
        raise NotFoundError(f"job {job_id} is of no function of SCAR: its name is {job.name}", fix=fix)
    return job.function


def _of_function(context: Context, args: Namespace, aws: Aws, name: str, time_ms: tuple[int | None, int | None]) -> int:
    from scar.aws.following import GroupsWatch
    from scar.aws.logs import exists, in_time_order, lines, of_batch, of_lambda, searchable

    stream, text = args.log_stream_name, args.search
    phrase = searchable(text) if text else None
    groups = [
        replace(of(name, stream=stream, since_ms=time_ms[0]), until_ms=time_ms[1], phrase=phrase)
        for of in (of_lambda, of_batch)
    ]
    if args.follow:
        watched = GroupsWatch(aws, groups)
        return attend(
            context,
            aws,
            watched,
            lambda line: show_line(context, line) if _holds(line, text) else None,
            what=f"the log of {name}",
            after_interrupt=lambda: f"Stopped watching; what {name} does goes on.",
        )
    found = (line for line in in_time_order([lines(aws, one) for one in groups]) if _holds(line, text))
    first = next(found, None)
    if first is not None:
        _show(context, itertools.chain([first], found))
    elif stream or not any(exists(aws, one) for one in groups):
        what = f"log stream {stream!r} of {name!r}" if stream else f"log of a function called {name!r}"
        raise NotFoundError(f"there is no {what}", fix="See what there is: scar ls")
    else:
        looked = text or time_ms != (None, None)
        context.report.say(f"Nothing of {name}'s log fits." if looked else f"{name} has not run yet.")
    return 0


def _holds(line: Line, text: str | None) -> bool:
    return text is None or text in line.message


def _of_run(context: Context, args: Namespace, aws: Aws, name: str, asked: _Run) -> int:
    """One request with all its jobs, or one job with its request; or what nodes of those jobs wrote, and no more."""
    from scar.aws.following import Either

    watched = Either(aws, name, asked.id, since_ms=asked.since_ms, which=asked.which)

    def wanted(line: Line) -> bool:
        if asked.until_ms is not None and line.time_ms >= asked.until_ms:
            return False
        ours = args.log_stream_name in {None, line.stream} and (asked.which is None or line.source == "batch")
        return ours and _holds(line, args.search)

    def node_of(line: Line) -> int | None:
        return watched.node_of(line) if asked.which == "all" else None

    if args.follow:
        code = attend(
            context,
            aws,
            watched,
            lambda line: show_line(context, line, node_of(line)) if wanted(line) else None,
            what=f"run {asked.id} of {name}",
            after_interrupt=lambda: goes_on(context, watched.ids, name, asked.id, asked.which),
        )
        if code == INTERRUPTED:
            show_ends(context, watched.jobs.values())
            return code
        show_ends(context, _ends(aws, watched, asked))
        _tell_of_nodes(context, watched, name, asked)
        return code
    found = watched.poll()
    first = next(found, None)
    if first is None and not watched.ids:
        raise NotFoundError(f"the log of {name!r} has no run {asked.id}", fix=f"See all: scar log -n {name}")
    lines = filter(wanted, itertools.chain([first] if first is not None else [], found))
    _show(context, lines, node_of, _end_documents(aws, watched, asked))
    if not context.report.json:
        show_ends(context, _ends(aws, watched, asked))
    for lost in set(watched.ids) - set(watched.jobs):
        context.report.complain(f"Batch knows no job {lost}: it forgets a finished job after some days.")
    _tell_of_nodes(context, watched, name, asked)
    return 0


def _ends(aws: Aws, watched: Either, asked: _Run) -> Iterable[Job]:
    """What is told at the end: the jobs; or the node that was asked for, as it is now: nodes end after their job."""
    from scar.aws.jobs import described

    if not isinstance(asked.which, int):
        return watched.jobs.values()
    return described(aws, [node.id for nodes in watched.nodes.values() for node in nodes]).values()


def _tell_of_nodes(context: Context, watched: Either, name: str, asked: _Run) -> None:
    """Why there is nothing of a node that was asked for. Raises NotFoundError for a run that has no job at all."""
    if asked.which is None:
        return
    if not watched.ids:
        fix = f"See its log: scar log -n {name} -ri {asked.id}"
        raise NotFoundError(f"run {asked.id} was not handed over to Batch: it has no nodes", fix=fix)
    for job in watched.jobs.values():
        told = {node.node.index: node for node in watched.nodes.get(job.id, ()) if node.node}
        if not job.nodes:
            continue
        indexes = range(job.nodes.count) if asked.which == "all" else [asked.which]
        silent = [index for index in indexes if index not in told or not told[index].streams]
        if silent:
            nodes = f"node {silent[0]}" if len(silent) == 1 else f"{len(silent)} of the {job.nodes.count} nodes"
            never = "never started" if job.finished else "not started yet"
            context.report.say(f"{nodes} of job {job.id}: {never}; the job is {job.status}")


def _show(
    context: Context,
    lines: Iterable[Line],
    node_of: Callable[[Line], int | None] = lambda _: None,
    ends: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Text, or a document, a line each; documents with `ends` as their last. None of them is kept."""
    if context.report.json:
        documents = itertools.chain((line_document(line, node_of(line)) for line in lines), ends)
        context.report.documents(documents, lines=True)
        return
    for line in lines:
        show_line(context, line, node_of(line))


def _end_documents(aws: Aws, watched: Either, asked: _Run) -> Iterator[Mapping[str, Any]]:
    """Asked for when all lines were read: the jobs are known only then."""
    yield from map(ended_document, _ends(aws, watched, asked))
