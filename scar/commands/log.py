"""`scar log`: what a function's runs wrote, in Lambda and in Batch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, one_name
from scar.commands.times import since
from scar.commands.watching import attend, ended_document, goes_on, line_document, show_ends, show_line
from scar.errors import NotFoundError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.following import Either
    from scar.aws.logs import Line
    from scar.cli import Context


def log(context: Context, args: Namespace) -> int:
    """Print the log, oldest line first; with JSON one list of lines, with JSON and `--follow` one document a line.

    `--follow` with a request ends when that has ended, with its exit code; without one it goes on until Ctrl-C.
    """
    since_ms = since(args.since, time.time()) if args.since else None
    name, functions = one_name(context, args.name, args.conf_file)
    aws, _ = connect(context, functions)
    if args.request_id:
        return _of_run(context, args, aws, name, since_ms)
    return _of_function(context, args, aws, name, since_ms)


def _of_function(context: Context, args: Namespace, aws: Aws, name: str, since_ms: int | None) -> int:
    from scar.aws.following import GroupsWatch
    from scar.aws.logs import exists, in_time_order, lines, of_batch, of_lambda

    stream = args.log_stream_name
    groups = [of(name, stream=stream, since_ms=since_ms) for of in (of_lambda, of_batch)]
    if args.follow:
        watched = GroupsWatch(aws, groups)
        return attend(context, aws, watched, lambda line: show_line(context, line), what=f"the log of {name}")
    found = in_time_order([lines(aws, one) for one in groups])
    first = next(found, None)
    if first is not None:
        _show(context, itertools.chain([first], found))
    elif stream or not any(exists(aws, one) for one in groups):
        what = f"log stream {stream!r} of {name!r}" if stream else f"log of a function called {name!r}"
        raise NotFoundError(f"there is no {what}", fix="See what there is: scar ls")
    else:
        _show(context, ())
        context.report.say(f"{name} has not run yet.")
    return 0


def _of_run(context: Context, args: Namespace, aws: Aws, name: str, since_ms: int | None) -> int:
    """One request with all its jobs, or one job with its request."""
    from scar.aws.following import Either

    watched = Either(aws, name, args.request_id, since_ms=since_ms)

    def wanted(line: Line) -> bool:
        return args.log_stream_name in {None, line.stream}

    if args.follow:
        code = attend(
            context,
            aws,
            watched,
            lambda line: show_line(context, line) if wanted(line) else None,
            what=f"run {args.request_id} of {name}",
            after_interrupt=lambda: goes_on(context, watched.ids, name, args.request_id),
        )
        show_ends(context, watched.jobs.values())
        return code
    found = watched.poll()
    first = next(found, None)
    if first is None and not watched.ids:
        raise NotFoundError(f"the log of {name!r} has no run {args.request_id}", fix=f"See all: scar log -n {name}")
    lines = filter(wanted, itertools.chain([first] if first is not None else [], found))
    _show(context, lines, _ends(watched))
    if not context.report.json:
        show_ends(context, watched.jobs.values())
    for lost in set(watched.ids) - set(watched.jobs):
        context.report.complain(f"Batch knows no job {lost}: it forgets a finished job after some days.")
    return 0


def _show(context: Context, lines: Iterable[Line], ends: Iterable[Mapping[str, Any]] = ()) -> None:
    """Text, a line each; or one list of documents with `ends` as its last. None of them is kept."""
    if context.report.json:
        context.report.documents(itertools.chain(map(line_document, lines), ends))
        return
    for line in lines:
        show_line(context, line)


def _ends(watched: Either) -> Iterator[Mapping[str, Any]]:
    """Asked for when all lines were read: the jobs are known only then."""
    yield from map(ended_document, watched.jobs.values())
