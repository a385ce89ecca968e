"""`scar put --wait`: see what the objects start, and end with the exit code of the first run that failed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scar.commands.watching import attend, command
from scar.errors import INTERRUPTED, NotFoundError
from scar.report import plural

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.landed import Landed, LandedWatch
    from scar.aws.logs import Line
    from scar.cli import Context

_SKEW_S = 60.0  # our clock and CloudWatch's may differ by this much; what is older is not looked at


def expected_runs(aws: Aws, bucket: str, keys: Sequence[str]) -> Mapping[str, list[str]]:
    """Which function takes which objects. Raises NotFoundError when none takes any: there would be nothing to wait for."""
    from scar.aws.landed import triggers

    found = triggers(aws, bucket)
    expected: dict[str, list[str]] = {}
    for key in keys:
        for trigger in found:
            if trigger.takes(key) and key not in expected.get(trigger.function, ()):
                expected.setdefault(trigger.function, []).append(key)
    if not expected:
        folders = ", ".join(f"{trigger.prefix or '(everything)'} → {trigger.function}" for trigger in found)
        raise NotFoundError(
            f"nothing that is put here starts a function of bucket {bucket}; nothing was uploaded",
            fix=f"What starts one: {folders}." if folders else "Leave --wait out, or make a function with this input.",
        )
    return expected


def watch(aws: Aws, bucket: str, expected: Mapping[str, list[str]]) -> LandedWatch:
    """What is to be watched, made before the upload: a former upload of the same object is another run."""
    from scar.aws.landed import LandedWatch

    made = LandedWatch(aws, bucket, expected, since_ms=int((time.time() - _SKEW_S) * 1000))
    made.forget()
    return made


def wait_for_runs(
    context: Context,
    aws: Aws,
    bucket: str,
    expected: Mapping[str, list[str]],
    done: Mapping[str, Any],
    *,
    landed: LandedWatch,
    timeout_s: float | None,
) -> int:
    """Watch until the runs have ended; `done` is what the upload has to tell for itself."""
    watched = _Told(context, bucket, landed)
    code = attend(
        context,
        aws,
        watched,
        lambda _: None,
        what=watched.waiting_for,
        after_interrupt=lambda: _goes_on(context, expected),
        deadline_s=math.inf if timeout_s is None else timeout_s,
        longest_pause_s=3.0,
    )
    if context.report.json and code != INTERRUPTED:
        runs = [_document(bucket, run) for run in watched.runs]
        context.report.document({**done, "runs": runs, "exit_code": code, "exit_origin": "job"})
    return code


class _Told:
    """The same watch; tells each run's end once."""

    def __init__(self, context: Context, bucket: str, watch: LandedWatch) -> None:
        self._context, self._bucket, self._watch = context, bucket, watch
        self._told: set[tuple[str, str]] = set()

    def poll(self) -> Iterator[Line]:
        yield from self._watch.poll()
        for run in self._watch.runs:
            if run.exit_code is not None and (run.function, run.key) not in self._told:
                self._told.add((run.function, run.key))
                self._tell(run)
        self._context.report.draw(self.waiting_for())

    @property
    def runs(self) -> tuple[Landed, ...]:
        return self._watch.runs

    @property
    def ended(self) -> bool:
        return self._watch.ended

    @property
    def exit_code(self) -> int:
        return self._watch.exit_code

    def waiting_for(self) -> str:
        left = [run for run in self._watch.runs if run.exit_code is None]
        unseen = sum(run.request_id is None for run in left)
        return f"{plural(len(left), 'run')}, {unseen} of them not begun"

    def _tell(self, run: Landed) -> None:
        report = self._context.report
        said = f"s3://{self._bucket}/{run.key} → {run.function}: "
        if run.exit_code == 0:
            (report.say if report.json else report.line)(f"{said}done")
            return
        report.complain(f"{said}failed with exit code {run.exit_code}")
        for line in run.last_lines:
            report.complain(f"  | {line}")
        report.complain(f"  See its log: {command(self._context)} log -n {run.function} -ri {run.request_id}")


def _document(bucket: str, run: Landed) -> Mapping[str, Any]:
    return {
        "object": f"s3://{bucket}/{run.key}",
        "function": run.function,
        "request_id": run.request_id,
        "jobs": list(run.job_ids),
        "exit_code": run.exit_code,
    }


def _goes_on(context: Context, expected: Mapping[str, list[str]]) -> str:
    scar = command(context)
    lines = ["Stopped watching; what was uploaded stays, and what it started goes on."]
    lines += [f"  Watch again: {scar} log -n {function} --follow" for function in expected]
    return "\n".join(lines)
