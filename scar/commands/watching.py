"""Watching from a terminal: lines shown as they come, how a job ended in one line, and what to type when the watcher leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from scar.aws.errors import is_passing, told
from scar.aws.jobs import apart
from scar.aws.wait import until
from scar.commands.times import iso, local
from scar.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.following import Watched, Which
    from scar.aws.jobs import Job
    from scar.aws.logs import Line
    from scar.cli import Context

LONGEST_PAUSE_S: Final = (
    2.0  # while lines are shown: two or three calls each time, of the ten a second that CloudWatch takes
)


def attend(
    context: Context,
    aws: Aws,
    watched: Watched,
    show: Callable[[Line], None],
    *,
    what: str | Callable[[], str],
    after_interrupt: Callable[[], str] | None = None,
    deadline_s: float = math.inf,
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> int:
    """Show what comes until it has ended; answers its exit code, or 130 after Ctrl-C, which stops nothing but the watching.

    While AWS is busy or cannot be reached it goes on asking, for as long as `aws.patience_s`: jobs may run for days.
    """
    failing_since: float | None = None

    def look() -> int | None:
        nonlocal failing_since
        try:
            for line in watched.poll():
                show(line)
        except (ClientError, BotoCoreError) as error:
            now = aws.clock.monotonic()
            if not is_passing(error) or (failing_since is not None and now - failing_since >= aws.patience_s):
                raise
            if failing_since is None:
                failing_since = now
                context.report.say(f"{told(error, '').what.rstrip(': ')}: trying again")
            return None
        failing_since = None
        return watched.exit_code if watched.ended else None

    try:
        return until(look, deadline_s=deadline_s, what=what, clock=aws.clock, longest_pause_s=longest_pause_s)
    except KeyboardInterrupt:
        if after_interrupt is not None:
            context.report.complain(after_interrupt())
        return INTERRUPTED


def show_line(context: Context, line: Line, node: int | None = None) -> None:
    """As data on standard output: text, or one JSON document a line. `node`: the one that wrote it, where that is to be told."""
    if context.report.json:
        context.report.documents([line_document(line, node)], lines=True)
    else:
        mark = "" if node is None else f"[{node}] "
        when = local(line.time_ms) if context.report.style.terminal else iso(line.time_ms)
        context.report.line(f"{context.report.faint(when)} {mark}{line.message}")


def line_document(line: Line, node: int | None = None) -> Mapping[str, Any]:
    told = {"time": iso(line.time_ms), "stream": line.stream, "message": line.message, "source": line.source}
    return told if node is None else told | {"node": node}


def ended_text(job: Job) -> str:
    """How it stands with a job, in one line."""
    code = "" if job.exit_code is None else f", exit code {job.exit_code}"
    if job.status == "FAILED" and job.exit_code is None:
        code = ", no exit code"
    why = f": {one_line(job.why)}" if job.why else ""
    return f"Batch job {job.id}: {job.status}{code}{why}"


def ended_document(job: Job) -> Mapping[str, Any]:
    """The same as a line of a log, so that a list of lines stays one of equals; what it says is in `job` once more."""
    return {
        "time": iso(job.since_ms),
        "stream": job.streams[-1] if job.streams else None,
        "message": ended_text(job),
        "source": "batch",
        "job": {
            "id": job.id,
            "status": job.status,
            "exit_code": job.exit_code,
            "reason": job.reason,
            "container_reason": job.container_reason,
        },
    }


def show_ends(context: Context, jobs: Iterable[Job]) -> None:
    """One line for each job, as data: whoever asked for a run wants to know how it ended."""
    for job in jobs:
        if context.report.json:
            context.report.documents([ended_document(job)], lines=True)
        else:
            context.report.line(ended_text(job))


def goes_on(
    context: Context, ids: Iterable[str], function: str | None, run_id: str | None = None, which: Which | None = None
) -> str:
    """What to say to somebody who stopped watching; `which` nodes they watched."""
    scar, listed = command(context), " ".join(ids)
    lines = [f"Stopped watching{'' if run_id is None else f' {run_id}'}; what was watched goes on."]
    if function and run_id:
        nodes = "" if which is None else f" --node {which}"
        lines.append(f"  Watch again: {scar} log -n {function} -ri {run_id}{nodes} --follow")
    elif listed:
        lines.append(f"  Watch again: {scar} wait {listed}")
    if listed:
        lines.append(f"  End it:      {scar} terminate {listed}")
    return "\n".join(lines)


def check_no_nodes(context: Context, ids: Iterable[str], verb: str) -> None:
    """Raises UsageError for a node among `ids`: what is done to a job is done to all its nodes."""
    for one in ids:
        job_id, index = apart(one)
        if index is not None:
            raise UsageError(
                f"{one} is node {index} of a job, and nodes end with their job",
                fix=f"Name the job: {command(context)} {verb} {job_id}",
            )


def one_line(text: str) -> str:
    return " ".join(text.split())


def command(context: Context) -> str:
    """How every command begins that is proposed to the user."""
    return "scar --local" if context.asked_local else "scar"
