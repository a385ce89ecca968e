"""All jobs of one region: who waits for whom, who may run next, and every change of a status written down as it happens.

SUBMITTED ─► PENDING (something it depends on has not succeeded; a parent while its children run) ─► RUNNABLE ─► STARTING ─► RUNNING ─► ended

Nothing here decides when a job runs: the scheduler does. No step costs more the more jobs there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from scar.local.batch.job import CHILD_FAILED, DEPENDENCY_FAILED, ENDED, Job, Status, children_of, job_of
from scar.local.batch.job_journal import JobJournal, Record
from scar.local.batch.node import Node
from scar.local.batch.records import Region

KEPT_S: Final = 7 * 86_400  # batch/latest/userguide/job_states: ended jobs can be described for at least seven days
KEPT_JOBS: Final = 50_000  # children of arrays included; above it the oldest ended ones go earlier

Sync = Callable[[], None]


@dataclass(slots=True)
class QueueJobs:
    """What waits in one queue. `runnable` may hold jobs that are RUNNABLE no more; whoever takes from it passes them over."""

    runnable: deque[Job] = field(default_factory=deque)
    queued_vcpus: float = 0.0
    unfinished: int = 0


class Table:
    """Every method is called with `Region.lock` held. `announce` is told of each change of a job's or a node's status, `tell` takes a line for
    the daemon's log."""

    def __init__(
        self,
        region: Region,
        journal: JobJournal,
        *,
        clock: Callable[[], float],
        announce: Callable[[Job, Node | None], None] = lambda *_: None,
        tell: Callable[[str], None] = lambda _: None,
        kept_jobs: int = KEPT_JOBS,
    ) -> None:
        self.region = region
        self._journal, self._clock, self._announce, self._tell = journal, clock, announce, tell
        self._kept_jobs = kept_jobs
        self.jobs: dict[str, Job] = {}  # without children, in the order of their submission
        self.queues: defaultdict[str, QueueJobs] = defaultdict(QueueJobs)
        self._fresh: deque[Job] = deque()
        self._dependents: defaultdict[str, list[Job]] = defaultdict(list)
        self._just_ended: deque[Job] = deque()
        self._settling = False
        self._order = 0
        self._kept = 0
        self._newest_ms = 0

    def now_ms(self) -> int:
        """Never before what an earlier daemon wrote down: the clock may have been set back meanwhile."""
        return max(int(self._clock() * 1000), self._newest_ms)

    def find(self, job_id: str) -> Job | None:
        """A job, or a child of an array (`id:index`); not a node."""
        parent_id, _, index = job_id.partition(":")
        job = self.jobs.get(parent_id)
        if job is None or not index:
            return job
        return job.children[int(index)] if index.isdecimal() and int(index) < len(job.children) else None

    def find_node(self, node_id: str) -> tuple[Job, Node] | None:
        """A node (`id#index`), and its job."""
        job_id, _, index = node_id.partition("#")
        job = self.jobs.get(job_id)
        if job is None or job.nodes is None or not index.isdecimal() or int(index) >= job.nodes.count:
            return None
        return job, job.nodes.all()[int(index)]

    def next_order(self) -> int:
        self._order += 1
        return self._order

    def accept(self, job: Job) -> Sync:
        """Take a new job; calling the answer returns when it is on disk."""
        sync = self._journal.write({"job": job.submission()})  # first: what cannot be written is not taken
        self._add(job)
        self._announce(job, None)
        self._fresh.append(job)
        self.region.changed.notify_all()
        return sync

    def admit(self) -> None:
        """Let what was accepted since the last time wait for what it depends on, or be RUNNABLE."""
        while self._fresh:
            job = self._fresh.popleft()
            if not job.ended:
                self._admit(job)

    def move(self, job: Job, status: Status, reason: str = "", *, first: bool = False) -> Sync:
        """Change a job's status and all that follows from it. A RUNNABLE job is put at the end of its queue, or with `first` at its head."""
        before, job.status, job.reason = job.status, status, reason
        queue = self.queues[job.queue]
        if before == "RUNNABLE":
            queue.queued_vcpus -= job.vcpus
        if status == "RUNNABLE":
            self._queue(job, first=first)
            job.runnable_ms = self.now_ms()
        if status in ENDED:
            job.stopped_ms = job.stopped_ms or self.now_ms()
            queue.unfinished -= 1
            self._kept += 1
            job.pack()
            self._just_ended.append(job)
        if job.parent is not None:
            job.parent.counts[before] -= 1
            job.parent.counts[status] += 1
        sync = self.note(job)
        self._announce(job, None)
        self._settle()
        self.region.changed.notify_all()
        return sync

    def fail(self, job: Job, reason: str) -> None:
        """End a job that has not started; a parent ends with its children."""
        held, self._settling = self._settling, True  # or the last child would end its parent first
        try:
            for child in job.children:
                if not child.ended:
                    self.move(child, "FAILED", reason)
            if not job.ended:
                self.move(job, "FAILED", reason)
        finally:
            self._settling = held
        self._settle()

    def note(self, job: Job) -> Sync:
        """Write a job down as it is now. Where that fails only `Sync` does: jobs go on, and a restart finds this one where it was before."""
        try:
            return self._journal.write({"at": job.progress()})
        except OSError as error:
            self._tell(f"job {job.id} could not be written down: {error}")
            return partial(_fail, error)

    def note_node(self, job: Job, node: Node) -> None:
        """Write one of its nodes down as it is now, and tell of it."""
        try:
            self._journal.write(_node_record(job, node))
        except OSError as error:
            self._tell(f"node {node.index} of job {job.id} could not be written down: {error}")
        self._announce(job, node)
        self.region.changed.notify_all()

    def tidy(self) -> None:
        """Forget jobs that ended long ago, and let the journal shrink. Cheap unless there is something to do."""
        if self._kept > self._kept_jobs * 1.1:
            self._forget()
        if self._journal.is_long:
            self._forget()
            try:
                self._journal.compact(self._records())
            except OSError as error:  # a full disk, most likely: it may have room again next time
                self._tell(f"the journal of jobs could not be written anew: {error}")

    def restore(self, records: Iterable[Record]) -> list[Job]:
        """Take over what an earlier daemon wrote; the jobs that it was running."""
        for record in records:
            if "job" in record:
                self._add(job_of(record["job"], self.next_order()))
            elif (found := self.find_node(record["at"]["id"])) is not None:
                found[1].restore(record["at"])
            elif (known := self.find(record["at"]["id"])) is not None:
                known.restore(record["at"])
        running = []
        for job in self._everyone():
            self._take_stock(job)
            self._newest_ms = max(self._newest_ms, job.created_ms, job.started_ms or 0, job.stopped_ms or 0)
            if job.status in ("STARTING", "RUNNING"):
                running.append(job)
        self._forget()
        for job in list(self.jobs.values()):
            if job.is_array and not job.ended:
                self._tell_parent(job)  # the daemon may have died between the last child's end and its parent's
        self._fresh.extend(job for job in self.jobs.values() if not job.ended)
        return running

    def close(self) -> None:
        self._journal.close()

    # Inside.

    def _add(self, job: Job) -> None:
        self.jobs[job.id] = job
        job.children = children_of(job)
        job.counts = Counter(child.status for child in job.children)
        self.queues[job.queue].unfinished += 1 + job.size

    def _take_stock(self, job: Job) -> None:
        """Count a job that came from the disk as it is."""
        if job.parent is not None:
            job.parent.counts["SUBMITTED"] -= 1
            job.parent.counts[job.status] += 1
        if job.ended:
            self.queues[job.queue].unfinished -= 1
            self._kept += 1
            job.pack()
        elif job.status == "RUNNABLE":
            self._queue(job, first=False)

    def _queue(self, job: Job, *, first: bool) -> None:
        queue = self.queues[job.queue]
        queue.queued_vcpus += job.vcpus
        if first:
            queue.runnable.appendleft(job)
        else:
            queue.runnable.append(job)

    def _admit(self, job: Job) -> None:
        if job.status not in ("SUBMITTED", "PENDING"):
            return
        depends_on = _dependencies(job)
        ids = [one["jobId"] for one in depends_on if one.get("jobId") and one.get("type") not in ("N_TO_N",)]
        self._wait_for(job, ids)

    def _wait_for(self, job: Job, ids: Iterable[str]) -> None:
        job.waits_for = 0
        for dependency in filter(None, map(self.find, ids)):
            if dependency.status == "FAILED":
                self.fail(job, DEPENDENCY_FAILED)
                return
            if not dependency.ended:
                job.waits_for += 1
                self._dependents[dependency.id].append(job)
        if job.waits_for == 0:
            self._release(job)
        elif job.status == "SUBMITTED":
            self.move(job, "PENDING")

    def _release(self, job: Job) -> None:
        """Nothing is waited for any more."""
        if not job.is_array:
            self.move(job, "RUNNABLE")
            return
        if job.status == "SUBMITTED":
            self.move(job, "PENDING")
        parallel = [one["jobId"] for one in _dependencies(job) if one.get("type") == "N_TO_N" and one.get("jobId")]
        sequential = any(one.get("type") == "SEQUENTIAL" for one in _dependencies(job))
        for index, child in enumerate(job.children):
            if child.status in ("SUBMITTED", "PENDING"):
                before = [f"{job.id}:{index - 1}"] if sequential and index else []
                self._wait_for(child, [*(f"{one}:{index}" for one in parallel), *before])

    def _settle(self) -> None:
        """Pass on that jobs have ended. A loop, not a recursion: a chain may be ten thousand long."""
        if self._settling:
            return
        self._settling = True
        try:
            while self._just_ended:
                job = self._just_ended.popleft()
                self._tell_dependents(job)
                if job.parent is not None:
                    self._tell_parent(job.parent)
        finally:
            self._settling = False

    def _tell_dependents(self, job: Job) -> None:
        for waiting in self._dependents.pop(job.id, ()):
            if waiting.ended:
                continue
            if job.status == "FAILED":
                self.fail(waiting, DEPENDENCY_FAILED)
                continue
            waiting.waits_for -= 1
            if waiting.waits_for == 0:
                self._release(waiting)

    def _tell_parent(self, parent: Job) -> None:
        if parent.ended or any(parent.counts[status] for status in parent.counts if status not in ENDED):
            return
        if parent.counts["FAILED"]:
            self.move(parent, "FAILED", parent.reason if parent.doomed else CHILD_FAILED)
        else:
            self.move(parent, "SUCCEEDED")

    def _everyone(self) -> Iterator[Job]:
        for job in self.jobs.values():
            yield job
            yield from job.children

    def _forget(self) -> None:
        oldest_ms = self.now_ms() - KEPT_S * 1000
        gone = []
        for job in self.jobs.values():
            if job.ended and (self._kept > self._kept_jobs or (job.stopped_ms or 0) < oldest_ms):
                self._kept -= 1 + job.size
                gone.append(job.id)
        for job_id in gone:
            del self.jobs[job_id]

    def _records(self) -> Iterator[Record]:
        for job in self.jobs.values():
            yield {"job": job.submission()}
            for one in (job, *job.children):
                if one.status != "SUBMITTED":
                    yield {"at": one.progress()}
            for node in () if job.nodes is None else job.nodes.begun:
                yield _node_record(job, node)


def _node_record(job: Job, node: Node) -> Record:
    return {"at": {"id": f"{job.id}#{node.index}", **node.progress()}}


def _fail(error: OSError) -> None:
    raise error


def _dependencies(job: Job) -> list[Mapping[str, Any]]:
    return list(job.asked.get("dependsOn") or ())
