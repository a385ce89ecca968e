"""`lambda.preheat`: what `init` has made or changed is run once, so that the first file finds it warm, and so that a mistake shows at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from faassupervisor.contract import ContractError, Failure, Reply
from scar.commands.run import exit_code_of
from scar.commands.watching import command
from scar.errors import RunFailedError, ScarError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function

EVENT = b"{}"  # names no file, as `scar run -n NAME` does


def preheat(context: Context, aws: Aws, functions: Sequence[Function], changed: Collection[str]) -> None:
    """Run those of the functions that ask for it and were `changed`, all of them, then raise RunFailedError for the first that failed."""
    failures = []
    for fn in functions:
        if fn.lambda_.preheat and fn.name in changed:
            try:
                _run(context, aws, fn)
            except ScarError as failure:
                failures.append(failure)
    if failures:
        raise failures[0]


def _run(context: Context, aws: Aws, fn: Function) -> None:
    from scar.aws.runs import invoke

    name, log = fn.name, f"{command(context)} log -n {fn.name}"
    context.report.say(f"{name}: is run once, to warm it up")
    answer = invoke(aws, name, EVENT, asynchronous=fn.lambda_.asynchronous)
    if answer.failed:
        failure = Failure.from_json(answer.body)
        raise RunFailedError(
            f"{name} was made, but its first run failed: {failure.message}",
            exit_code=exit_code_of(failure),
            last_lines=failure.last_lines,
            fix=f"See the whole log: {log} -ri {failure.request_id or answer.request_id}",
        )
    if fn.lambda_.asynchronous:
        context.report.say(f"{name}: launched. See what it does: {log} -ri {answer.request_id}")
        return
    try:
        jobs = [run.job_id for run in Reply.from_json(answer.body).runs if run.job_id is not None]
    except ContractError:
        jobs = []
    told = f"handed over to Batch: job {jobs[0]}" if jobs else "its first run succeeded"
    context.report.say(f"{name}: {told}")
