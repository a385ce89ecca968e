"""What became of objects that were put into a bucket: which functions they start, and how those runs end.

An agent says in its function's log which object a record is about, before it does anything with it; what follows up to the invocation's end is that
run's. The log of each function is read once for all its runs, so calls grow with lines and not with objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from scar.aws.following import HAND_OVER_S, JobsWatch
from scar.aws.logs import Line, Tail, in_time_order, of_lambda
from scar.aws.request_log import Outcome, fact, facts_of, invocation_begun, invocation_ended, is_output
from scar.aws.runs import place

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.jobs import Job

TOOK: Final = "took a record"  # the agent's words
_LAST_LINES: Final = 10


@dataclass(frozen=True, slots=True)
class Trigger:
    """One entry of a bucket's notifications that invokes a function when an object is made."""

    function: str
    prefix: str
    suffix: str

    def takes(self, key: str) -> bool:
        return key.startswith(self.prefix) and key.endswith(self.suffix)


def triggers(aws: Aws, bucket: str) -> tuple[Trigger, ...]:
    """Which functions S3 invokes for new objects of the bucket (s3:GetBucketNotificationConfiguration)."""
    found = aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    return tuple(
        _trigger(entry)
        for entry in found.get("LambdaFunctionConfigurations", ())
        if any(event.startswith("s3:ObjectCreated:") for event in entry["Events"])
    )


def _trigger(entry: Mapping[str, Any]) -> Trigger:
    rules: Mapping[str, str] = {}
    if "Filter" in entry:
        rules = {rule["Name"].lower(): rule["Value"] for rule in entry["Filter"]["Key"].get("FilterRules", ())}
    # arn:aws:lambda:REGION:ACCOUNT:function:NAME, perhaps with a version
    return Trigger(entry["LambdaFunctionArn"].split(":")[6], rules.get("prefix", ""), rules.get("suffix", ""))


@dataclass(slots=True)
class Landed:
    """One object's run in one function, as far as it has been seen. `request_id` is None until its agent took the object."""

    function: str
    key: str
    request_id: str | None = None
    exit_code: int | None = None
    job_ids: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()


@dataclass(slots=True)
class _Request:
    outcome: Outcome = field(default_factory=Outcome)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    quiet_since_s: float | None = None  # when its last invocation was seen to end


class _Group:
    """The log of one function, line by line to the requests that they are of."""

    def __init__(self, aws: Aws, function: str, bucket: str, keys: Iterable[str], since_ms: int) -> None:
        self._aws, self._bucket = aws, bucket
        self._tail = Tail(aws, of_lambda(function, since_ms=since_ms))
        self._serving: dict[
            str, set[str]
        ] = {}  # log stream → ids of the invocation that is being served, ours and Lambda's
        self._hands_over: bool | None = None
        self.function = function
        self.runs = {key: Landed(function, key) for key in keys}
        self.requests: dict[str, _Request] = {}
        self._former: frozenset[str] = frozenset()

    def forget(self) -> None:
        """Whatever the log tells by now is of former uploads, of objects of the same names too."""
        for line in self._tail.poll():
            self._hear(line)
        self.runs = {key: Landed(self.function, key) for key in self.runs}
        self._former = frozenset(self.requests)

    def poll(self) -> Iterator[Line]:
        for line in self._tail.poll():
            self._hear(line)
            yield line

    def _hear(self, line: Line) -> None:
        if begun := invocation_begun(line.message):
            self._serving[line.stream] = {begun}
        facts = facts_of(line.message)
        ids = self._serving.setdefault(line.stream, set())
        said = facts.get("request_id")
        if isinstance(said, str) and "fact" in facts:
            ids.add(said)
        for one in ids:
            request = self.requests.setdefault(one, _Request())
            request.outcome.hear(line)
            request.outcome.hear_of_job(line)
            request.quiet_since_s = None
            if is_output(line.message):
                request.lines.append(line.message)
        if fact(facts) == TOOK and facts.get("bucket") == self._bucket and isinstance(said, str):
            run = self.runs.get(str(facts.get("key")))
            if run is not None and said not in self._former:
                run.request_id = said  # a retry bears the same id; another upload of the same key counts instead
        if invocation_ended(line.message):
            for one in ids:
                self.requests[one].quiet_since_s = self._aws.clock.monotonic()
            del self._serving[line.stream]

    def settle(self, jobs: JobsWatch) -> None:
        """Give every run that has ended its exit code."""
        for run in self.runs.values():
            request = self.requests.get(run.request_id or "")
            if run.exit_code is not None or request is None or request.quiet_since_s is None:
                continue
            run.job_ids = request.outcome.job_ids
            jobs.add(run.job_ids)
            if request.outcome.undecided and self._may_still_be_handed_over(request.quiet_since_s):
                continue
            if run.job_ids and not all(one in jobs.jobs and jobs.jobs[one].finished for one in run.job_ids):
                continue
            results = (jobs.jobs[one].result for one in run.job_ids)
            run.exit_code = request.outcome.exit_code or next((code for code in results if code), 0)
            run.last_lines = tuple(request.lines)

    def _may_still_be_handed_over(self, quiet_since_s: float) -> bool:
        if self._hands_over is None:
            where = place(self._aws, self.function)
            self._hands_over = where is not None and where.job_queue is not None
        return self._hands_over and self._aws.clock.monotonic() - quiet_since_s < HAND_OVER_S


class LandedWatch:
    """The runs that objects of a bucket start, as they go on: `scar.aws.following.Watched`."""

    def __init__(self, aws: Aws, bucket: str, expected: Mapping[str, Iterable[str]], *, since_ms: int) -> None:
        """`expected`: which keys each function is to take."""
        self._groups = [_Group(aws, function, bucket, keys, since_ms) for function, keys in expected.items()]
        self._jobs = JobsWatch(aws, (), lines=False)

    def forget(self) -> None:
        """To be said before the upload: runs that are known by now are not its."""
        for group in self._groups:
            group.forget()

    def poll(self) -> Iterator[Line]:
        """The lines of all these functions."""
        yield from in_time_order([group.poll() for group in self._groups])
        for group in self._groups:
            group.settle(self._jobs)
        yield from self._jobs.poll()
        for group in self._groups:
            group.settle(self._jobs)

    @property
    def runs(self) -> tuple[Landed, ...]:
        return tuple(run for group in self._groups for run in group.runs.values())

    @property
    def jobs(self) -> Mapping[str, Job]:
        return self._jobs.jobs

    @property
    def ended(self) -> bool:
        return all(run.exit_code is not None for run in self.runs)

    @property
    def exit_code(self) -> int:
        """That of the first that failed, in the order of the functions and their objects."""
        return next((run.exit_code for run in self.runs if run.exit_code), 0)
