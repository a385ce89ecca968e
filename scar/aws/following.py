"""How does a run or a job go on, and how does it end? What `wait`, `log --follow` and `run --wait` watch, one poll at a time.

Nothing here waits: whoever asks decides how often. A watch ends when everything that it watches has ended and its last lines were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

from scar.aws.jobs import Job, described, nodes_of
from scar.aws.logs import BATCH_GROUP, Line, Question, Tail, in_time_order
from scar.aws.request_log import NODE_ENDED, RequestLog, fact, facts_of, is_last_word
from scar.aws.runs import place
from scar.errors import NotFoundError

if TYPE_CHECKING:
    from scar.aws.clients import Aws

NEW_JOB_S: Final = 30.0  # a job that was submitted just now may not be described yet
NEW_RUN_S: Final = 300.0  # an asynchronous run may have to wait until a sandbox is free
DRAIN_S: Final = 6.0  # the log driver sends every 5 s at the latest (docs.docker.com, awslogs)
HAND_OVER_S: Final = 240.0  # Lambda tries a killed invocation again after one minute, then after two more


Which = int | Literal["all"]  # of the nodes of a multi-node job: one, by its index, or all


class Watched(Protocol):
    """Something that is watched. 1: `poll` asks anew and gives what is new, oldest first; it is to be read to its end.
    2: once `ended` is true it stays so. 3: `exit_code` counts when it has ended."""

    def poll(self) -> Iterator[Line]: ...

    @property
    def ended(self) -> bool: ...

    @property
    def exit_code(self) -> int: ...


class JobsWatch:
    """Jobs, by their ids. One DescribeJobs for every 100 that have not finished; with `lines` also what they write.

    That is what the main node writes where a job has several, or with `which` what those nodes write; they are asked for in a call of their own.
    """

    def __init__(self, aws: Aws, ids: Iterable[str], *, lines: bool, which: Which | None = None) -> None:
        self._aws, self._with_lines, self._which = aws, lines, which
        self._since: dict[str, float] = {}  # id → when we began to watch it, on our clock
        self._finished_at: dict[str, float] = {}
        self._tails: list[tuple[Tail, frozenset[str]]] = []  # each with the jobs that it is of
        self._writers: dict[str, tuple[Job, ...]] = {}  # job → whose lines are shown: its own, or those of nodes of it
        self._writer_of: dict[str, Job] = {}  # log stream → job or node
        self._said_last: set[str] = set()  # log streams in which the agent said its last word
        self._quiet: set[str] = set()  # jobs of which nothing more will come
        self.jobs: dict[str, Job] = {}
        self.add(ids)

    def add(self, ids: Iterable[str]) -> None:
        """Watch these too."""
        for one in ids:
            self._since.setdefault(one, self._aws.clock.monotonic())

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._since)

    @property
    def nodes(self) -> Mapping[str, Sequence[Job]]:
        """Those that are watched of each job, as far as they were started."""
        return self._writers if self._which is not None else {}

    @property
    def ended(self) -> bool:
        return all(one in self._quiet for one in self._since)

    @property
    def exit_code(self) -> int:
        """That of the first job that failed, in the order in which they were named."""
        results = (self.jobs[one].result for one in self._since if one in self.jobs)
        return next((code for code in results if code), 0)

    def node_of(self, line: Line) -> int | None:
        """Which node wrote it, when nodes are watched."""
        writer = self._writer_of.get(line.stream)
        return writer.node.index if writer and writer.node else None

    def poll(self) -> Iterator[Line]:
        """Raises NotFoundError for ids that Batch does not know, and has had time to know, and for nodes that a job does not have."""
        self._describe()
        if self._with_lines:
            tails = [tail for tail, whose in self._tails if not whose <= self._quiet]
            yield from self._heard(in_time_order([tail.poll() for tail in tails]))
        now_s = self._aws.clock.monotonic()
        for one, finished_s in self._finished_at.items():
            last = [writer.streams[-1] for writer in self._writers.get(one, ()) if writer.streams]
            drained = all(stream in self._said_last for stream in last)
            if drained or now_s - finished_s >= DRAIN_S:
                self._quiet.add(one)

    def _describe(self) -> None:
        found = described(self._aws, [one for one in self._since if one not in self._finished_at])
        if self._with_lines:  # before a job counts as finished: asking for nodes may fail, and is to be done again then
            alone = self._which is None
            self._writers |= {one: (job,) if alone else self._asked_for(job) for one, job in found.items()}
            self._open(found)
        now_s = self._aws.clock.monotonic()
        self.jobs |= found
        self._finished_at |= {one: now_s for one, job in found.items() if job.finished}
        late = [one for one, since_s in self._since.items() if one not in self.jobs and now_s - since_s >= NEW_JOB_S]
        if late:
            raise unknown(late)

    def _asked_for(self, job: Job) -> tuple[Job, ...]:
        """Raises NotFoundError for a node that the job does not have."""
        if job.nodes is None or (isinstance(self._which, int) and self._which >= job.nodes.count):
            raise no_node(job, self._which)
        indexes = [self._which] if isinstance(self._which, int) else None
        return tuple(nodes_of(self._aws, job, indexes).values())

    def _open(self, ids: Iterable[str]) -> None:
        """Read the log streams that are new, those of one group together."""
        groups: dict[str, dict[str, str]] = {}  # group → its streams, each with the job that it is of
        for one in ids:
            for writer in self._writers[one]:
                for stream in writer.streams:
                    if stream not in self._writer_of:
                        self._writer_of[stream] = writer
                        groups.setdefault(writer.log_group or BATCH_GROUP, {})[stream] = one
        for group, streams in groups.items():
            self._tails.append((Tail(self._aws, Question(group, "batch", tuple(streams))), frozenset(streams.values())))

    def _heard(self, lines: Iterator[Line]) -> Iterator[Line]:
        for line in lines:
            facts = facts_of(line.message)
            if is_last_word(facts) or fact(facts) == NODE_ENDED:
                self._said_last.add(line.stream)
            yield line


class RunWatch:
    """A request in Lambda, and with `joins` all jobs that it is handed over to beside those given.

    `hands_over`: the function has a queue, so that what Lambda killed goes on there.
    """

    def __init__(
        self, aws: Aws, request: RequestLog, jobs: JobsWatch, *, joins: bool = True, hands_over: bool = True
    ) -> None:
        self._aws, self._request, self._jobs = aws, request, jobs
        self._joins, self._hands_over = joins, hands_over
        self._quiet_since: float | None = None

    def poll(self) -> Iterator[Line]:
        self._request.search()
        if self._joins:
            self._jobs.add(self._request.outcome.job_ids)
        yield from in_time_order([self._request.poll(), self._jobs.poll()])
        if self._request.running or not self._request.found:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = self._aws.clock.monotonic()

    @property
    def ids(self) -> tuple[str, ...]:
        return self._jobs.ids

    @property
    def jobs(self) -> Mapping[str, Job]:
        return self._jobs.jobs

    @property
    def nodes(self) -> Mapping[str, Sequence[Job]]:
        return self._jobs.nodes

    def node_of(self, line: Line) -> int | None:
        return self._jobs.node_of(line)

    @property
    def ended(self) -> bool:
        """A killed run of a function that hands over is waited for until Lambda's retries must have come."""
        if not self._jobs.ended:
            return False
        if not self._joins:
            return True
        if self._quiet_since is None or not set(self._request.outcome.job_ids) <= set(self._jobs.ids):
            return False
        waits = self._hands_over and self._request.outcome.undecided
        return not waits or self._aws.clock.monotonic() - self._quiet_since >= HAND_OVER_S

    @property
    def exit_code(self) -> int:
        """That of the first failure: of the request in Lambda, which only counts when it is watched as a whole, or of a job."""
        return (self._request.outcome.exit_code if self._joins else 0) or self._jobs.exit_code


class GroupsWatch:
    """Whole log groups, for ever."""

    ended = False
    exit_code = 0

    def __init__(self, aws: Aws, asked: Iterable[Question]) -> None:
        self._tails = [Tail(aws, one) for one in asked]

    def poll(self) -> Iterator[Line]:
        return in_time_order([tail.poll() for tail in self._tails])


class Either:
    """A run or a job, whichever `run_id` turns out to be, once the log or Batch knows it; with `which`, those nodes of its jobs."""

    def __init__(
        self,
        aws: Aws,
        function: str,
        run_id: str,
        *,
        since_ms: int | None = None,
        lines: bool = True,
        which: Which | None = None,
    ) -> None:
        self._aws, self._function, self._id = aws, function, run_id
        self._since_ms, self._lines, self._which = since_ms, lines, which
        self._request = RequestLog(aws, function, run_id, since_ms=since_ms)
        self._chosen: RunWatch | JobsWatch | None = None
        self._began_s = aws.clock.monotonic()

    def choose(self) -> RunWatch | JobsWatch | None:
        """None while nobody knows the id. Raises NotFoundError for a job of another function."""
        self._request.search()
        if self._request.found:
            where = place(self._aws, self._function)
            hands_over = where is not None and where.job_queue is not None
            return RunWatch(self._aws, self._request, self._watch(()), hands_over=hands_over)
        job = described(self._aws, [self._id]).get(self._id)
        if job is None:
            return None
        if job.function not in {None, self._function}:
            fix = f"See its log: scar log -n {job.function} -ri {self._id}"
            raise NotFoundError(f"job {self._id} is of {job.function}, not of {self._function}", fix=fix)
        jobs = self._watch([self._id])
        if job.task is None or not self._lines:
            return jobs
        request = RequestLog(self._aws, self._function, job.task.request_id, since_ms=self._since_ms)
        return RunWatch(self._aws, request, jobs, joins=False)

    def _watch(self, ids: Iterable[str]) -> JobsWatch:
        return JobsWatch(self._aws, ids, lines=self._lines, which=self._which)

    def poll(self) -> Iterator[Line]:
        """Raises NotFoundError when nobody knows the id for so long that it cannot be new."""
        if self._chosen is None:
            self._chosen = self.choose()
        if self._chosen is not None:
            yield from self._chosen.poll()
        elif self._aws.clock.monotonic() - self._began_s >= NEW_RUN_S:
            raise NotFoundError(
                f"neither the log of {self._function!r} nor Batch knows {self._id}",
                fix=f"See what there is: scar log -n {self._function}, scar jobs -n {self._function}",
            )

    @property
    def ids(self) -> tuple[str, ...]:
        return self._chosen.ids if self._chosen else ()

    @property
    def jobs(self) -> Mapping[str, Job]:
        return self._chosen.jobs if self._chosen else {}

    @property
    def nodes(self) -> Mapping[str, Sequence[Job]]:
        return self._chosen.nodes if self._chosen else {}

    def node_of(self, line: Line) -> int | None:
        return self._chosen.node_of(line) if self._chosen else None

    @property
    def ended(self) -> bool:
        return self._chosen is not None and self._chosen.ended

    @property
    def exit_code(self) -> int:
        return self._chosen.exit_code if self._chosen else 0


def unknown(ids: Iterable[str]) -> NotFoundError:
    listed = ", ".join(ids)
    return NotFoundError(
        f"Batch knows no job {listed}",
        fix="See what there is: scar jobs. Batch forgets a finished job after some days.",
    )


def no_node(job: Job, which: Which | None) -> NotFoundError:
    """A job was asked for a node that it does not have."""
    fix = f"See the job: scar jobs {job.id}"
    if job.nodes is None:
        return NotFoundError(f"job {job.id} has no nodes: it is one container", fix=fix)
    count = job.nodes.count
    return NotFoundError(f"job {job.id} has no node {which}: it has {count}, 0 to {count - 1}", fix=fix)
