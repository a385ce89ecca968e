"""`scar wait`: wait until jobs, and runs that may become jobs, have ended. Their exit code is ours."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from scar.commands.common import connect, one_name
from scar.commands.documents import job_document
from scar.commands.watching import attend, check_no_nodes, ended_text, goes_on
from scar.errors import INTERRUPTED

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.following import Either, JobsWatch
    from scar.aws.jobs import Job
    from scar.aws.logs import Line
    from scar.cli import Context

_HEARTBEAT_S: Final = 30.0  # between two lines of a plain output while nothing happens


def wait(context: Context, args: Namespace) -> int:
    """Answers the exit code of the first that failed, in the order in which they were named; 0 when none did."""
    check_no_nodes(context, args.ids, "wait")
    name, functions = one_name(context, args.name, args.conf_file) if args.name or args.conf_file else (None, ())
    aws, _ = connect(context, functions)
    watched = _Several(context, _watches(aws, name, args.ids))
    deadline_s = math.inf if args.timeout is None else args.timeout
    code = attend(
        context,
        aws,
        watched,
        lambda line: None,
        what=watched.waiting_for,
        after_interrupt=lambda: goes_on(context, watched.jobs or args.ids, None),
        deadline_s=deadline_s,
        longest_pause_s=5.0,
    )
    if code != INTERRUPTED and context.report.json:
        jobs = [job_document(job) for job in watched.jobs.values()]
        context.report.document({"exit_code": code, "exit_origin": "job", "jobs": jobs})
    return code


def _watches(aws: Aws, function: str | None, ids: Sequence[str]) -> list[JobsWatch | Either]:
    """The jobs together, for they are asked for together; each run by itself."""
    from scar.aws.following import Either, JobsWatch, unknown
    from scar.aws.jobs import described, is_job_id

    wrong = [one for one in ids if not is_job_id(one)]
    if wrong:
        raise unknown(wrong)
    if function is None:
        return [JobsWatch(aws, ids, lines=False)]
    known = described(aws, ids)
    rest = [Either(aws, function, one, lines=False) for one in ids if one not in known]
    return [JobsWatch(aws, known, lines=False), *rest] if known else [*rest]


class _Several:
    """All of them as one; tells every change of a job's status."""

    def __init__(self, context: Context, watches: Sequence[JobsWatch | Either]) -> None:
        self._report = context.report
        self._watches = watches
        self._told: dict[str, str] = {}
        self._spoke_s = time.monotonic()

    @property
    def jobs(self) -> dict[str, Job]:
        return {key: job for watch in self._watches for key, job in watch.jobs.items()}

    @property
    def ended(self) -> bool:
        return all(watch.ended for watch in self._watches)

    @property
    def exit_code(self) -> int:
        return next((watch.exit_code for watch in self._watches if watch.exit_code), 0)

    def poll(self) -> Iterator[Line]:
        for watch in self._watches:
            if not watch.ended:
                yield from watch.poll()
        self._tell()

    def waiting_for(self) -> str:
        counts = Counter(job.status for job in self.jobs.values())
        jobs = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        return f"jobs: {jobs}" if jobs else "what has not begun"

    def _tell(self) -> None:
        for key, job in self.jobs.items():
            if self._told.get(key) == job.status:
                continue
            self._told[key] = job.status
            self._spoke_s = time.monotonic()
            if job.finished and not self._report.json:
                self._report.line(ended_text(job))
            elif job.finished or not self._report.style.redraw:
                self._report.say(ended_text(job))
        self._report.draw(self.waiting_for())
        if not self._report.style.redraw and time.monotonic() - self._spoke_s >= _HEARTBEAT_S:
            self._spoke_s = time.monotonic()
            self._report.say(f"waiting: {self.waiting_for()}")
