"""`scar cancel` and `scar terminate`: end jobs, and say what became of each.

CancelJob answers OK to a job that has started, and does nothing, so the status is looked at before and after. One that has finished already
is no error: what was asked for is so. Exit code 3 when a job is unknown, else 5 when one could not be cancelled because it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from scar.aws.errors import mapped
from scar.commands.common import connect
from scar.commands.watching import check_no_nodes, command, ended_text
from scar.errors import ConflictError, NotFoundError, TimedOutError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.jobs import Job
    from scar.cli import Context

_SEEN_WITHIN_S: Final = 30.0  # a job that waits for others is cancelled only when those have ended


@dataclass(frozen=True, slots=True)
class _Fate:
    id: str
    result: Literal["cancelled", "terminating", "finished", "running", "unknown"]
    text: str
    exit_code: int = 0


def cancel(context: Context, args: Namespace) -> int:
    """Jobs that have not started leave the queue."""
    from scar.aws.jobs import CANCELLABLE, described

    check_no_nodes(context, args.ids, "cancel")
    aws, _ = connect(context)
    known = described(aws, args.ids)
    waiting = [job for job in known.values() if job.status in CANCELLABLE]
    for job in waiting:
        with mapped(f"cancel job {job.id}"):
            aws.batch.cancel_job(jobId=job.id, reason=args.reason or "scar cancel")
    seen = {**known, **_settled(aws, [job.id for job in waiting])}
    return _tell(context, [_after_cancel(context, one, known.get(one), seen.get(one)) for one in args.ids])


def terminate(context: Context, args: Namespace) -> int:
    """Jobs end, whatever they do; Batch gives a running one 30 s to end itself."""
    from scar.aws.jobs import described

    check_no_nodes(context, args.ids, "terminate")
    aws, _ = connect(context)
    known = described(aws, args.ids)
    for job in known.values():
        if not job.finished:
            with mapped(f"terminate job {job.id}"):
                aws.batch.terminate_job(jobId=job.id, reason=args.reason or "scar terminate")
    return _tell(context, [_after_terminate(context, one, known.get(one)) for one in args.ids])


def _settled(aws: Aws, ids: Sequence[str]) -> Mapping[str, Job]:
    """The jobs once each is cancelled, finished or running."""
    from scar.aws.jobs import CANCELLABLE, described
    from scar.aws.wait import until

    found: Mapping[str, Job] = {}

    def settled() -> Mapping[str, Job] | None:
        nonlocal found
        found = described(aws, ids)
        open_ = [job for job in found.values() if job.status in CANCELLABLE and not job.cancelled]
        return None if open_ else found

    if not ids:
        return found
    try:
        return until(settled, deadline_s=_SEEN_WITHIN_S, what="Batch to cancel the jobs", clock=aws.clock)
    except TimedOutError:
        return found


def _after_cancel(context: Context, job_id: str, before: Job | None, after: Job | None) -> _Fate:
    if before is None or after is None:
        return _unknown(job_id)
    if before.finished:
        return _Fate(job_id, "finished", f"nothing to cancel: {ended_text(before)}")
    if after.cancelled or (after.status == "FAILED" and after.started_ms is None):
        return _Fate(job_id, "cancelled", f"cancelled: {ended_text(after)}")
    if after.finished:
        return _Fate(job_id, "finished", f"it was quicker: {ended_text(after)}")
    if after.status in {"STARTING", "RUNNING"}:
        text = f"job {job_id} is {after.status} and cannot be cancelled. End it: {command(context)} terminate {job_id}"
        return _Fate(job_id, "running", text, ConflictError.exit_code)
    return _Fate(job_id, "cancelled", f"Batch was told to cancel it: {ended_text(after)}")


def _after_terminate(context: Context, job_id: str, before: Job | None) -> _Fate:
    if before is None:
        return _unknown(job_id)
    if before.finished:
        return _Fate(job_id, "finished", f"nothing to terminate: {ended_text(before)}")
    text = f"terminating job {job_id}, which is {before.status}. See it end: {command(context)} wait {job_id}"
    return _Fate(job_id, "terminating", text)


def _unknown(job_id: str) -> _Fate:
    from scar.aws.following import unknown

    return _Fate(job_id, "unknown", str(unknown([job_id])), NotFoundError.exit_code)


def _tell(context: Context, fates: Sequence[_Fate]) -> int:
    for fate in fates:
        if fate.exit_code:
            context.report.complain(f"scar: {fate.text}")
        elif context.report.json:
            context.report.say(fate.text)
        else:
            context.report.line(fate.text)
    if context.report.json:
        context.report.document([{"id": fate.id, "result": fate.result, "exit_code": fate.exit_code} for fate in fates])
    codes = {fate.exit_code for fate in fates}
    return next((code for code in (NotFoundError.exit_code, ConflictError.exit_code) if code in codes), 0)
