"""Which job runs next, where, and what becomes of it when its attempt ends? One thread for each region that has jobs.

It sleeps until something has changed (`Region.changed`) or a time limit is due. Queues are served by priority and each in the order of
submission: as on AWS the first job of a queue holds up those behind it, until there is room for it: for all its nodes at once, where it has several.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from scar.local.batch.announcing import Outbox
from scar.local.batch.attempt import NOT_STARTED, Attempt, Ending, Tools
from scar.local.batch.capacity import Capacity, Machine, Room, Wait
from scar.local.batch.gang import GangAttempt
from scar.local.batch.job import NOT_STARTED as WAITING
from scar.local.batch.job import Job
from scar.local.batch.orders import TOO_MANY_TAGS, Start
from scar.local.batch.outcomes import NodesOutcomes, Outcomes
from scar.local.batch.records import JobDefinition, JobQueue, Region
from scar.local.batch.table import Sync, Table

_AFTER_FAILURE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the local Batch is compared with AWS's: `second_s` is how long a second of a request's time limits lasts, `stop_s` the time
    between SIGTERM and SIGKILL, `idle_s` how long an environment without work keeps more than its minimum."""

    second_s: float = 1.0
    stop_s: float = 30.0  # batch/latest/userguide/job_timeouts
    idle_s: float = 1.0


class Scheduler:
    """`outbox` is emptied by the thread between two looks, without any lock."""

    def __init__(
        self,
        region: Region,
        table: Table,
        machine: Machine,
        tools: Tools,
        *,
        pace: Pace,
        outbox: Outbox,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._region, self._table, self._tools, self._pace = region, table, tools, pace
        self._capacity, self._machine, self._outbox = Capacity(region, machine), machine, outbox
        self._tell = tell
        self._outcomes = Outcomes(region, table)
        self._attempts: dict[str, Attempt | GangAttempt] = {}
        self._stuck: dict[Job, float] = {}  # when the reason why a RUNNABLE job cannot run was first told
        self._threads: set[threading.Thread] = set()
        self._owed: list[Job] = []  # whose memory is given back to the machine as soon as no lock is held
        self._idle_since: float | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=f"batch {region.region}", daemon=True)
        machine.freed.append(self._wake)

    def start(self) -> None:
        """Again is fine."""
        with self._region.lock:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self) -> None:
        """Kill what runs; nothing is written of it, so the next start takes it for lost with its machine."""
        with self._region.lock:
            self._stopped = True
            self._region.changed.notify_all()
            attempts, threads = list(self._attempts.values()), list(self._threads)
        enders = [threading.Thread(target=attempt.end, args=("abandoned",)) for attempt in attempts]
        for ender in enders:
            ender.start()
        for thread in (self._thread, *enders, *threads):
            if thread.ident is not None:
                thread.join()
        self._machine.freed.remove(self._wake)

    def cancel(self, job: Job, reason: str) -> Sync:
        """End a job that has not started; a parent's children too. Called with the region's lock held."""
        return self._end(job, reason, started_too=False)

    def terminate(self, job: Job, reason: str) -> Sync:
        """End a job whatever it does. Called with the region's lock held; what runs ends a little later."""
        return self._end(job, reason, started_too=True)

    def reclaim(self, job_id: str) -> bool:
        """Take the machine of a running job, or of one of its nodes (`id#index`), away, as a Spot instance is; whether it was running."""
        whole, _, node = job_id.partition("#")
        with self._region.lock:
            attempt = self._attempts.get(whole)
            running = attempt is not None and (not node or self._runs(job_id))
        if attempt is None or not running:
            return False
        if isinstance(attempt, GangAttempt):
            attempt.end("reclaimed", int(node) if node else None)
        else:
            attempt.end("reclaimed")
        return True

    def _runs(self, node_id: str) -> bool:
        found = self._table.find_node(node_id)
        return found is not None and found[1].status in ("STARTING", "RUNNING")

    def lost(self, job: Job) -> None:
        """A job that an earlier daemon was running. Called with the region's lock held."""
        self._outcomes.lost(job)

    @property
    def running(self) -> int:
        return len(self._attempts)

    def used_vcpus(self, queue: JobQueue) -> float:
        """What a queue's jobs take now. Called with the region's lock held."""
        jobs = (self._table.find(job_id) for job_id in self._attempts)
        return sum(job.vcpus for job in jobs if job is not None and job.queue == queue.arn)

    # The thread.

    def _work(self) -> None:
        while not self._stopped:
            try:
                self._outbox.deliver()
                while self._owed:
                    self._machine.give_back(self._owed.pop())
                self._look_and_sleep()
            except Exception as error:  # noqa: BLE001  # a door: without this thread no job would ever run again
                self._tell(f"the scheduler of jobs failed and goes on: {type(error).__name__}: {error}")
                time.sleep(_AFTER_FAILURE_S)

    def _look_and_sleep(self) -> None:
        """One hold of the lock from the first look to the sleep: no change can fall between the two."""
        with self._region.lock:
            self._table.admit()
            self._cancel_overdue()
            self._serve()
            due = min(self._next_limit(), self._scale())
            self._table.tidy()
            if not self._stopped and not self._outbox.has_news and not self._owed:
                self._region.changed.wait(None if due == float("inf") else max(0.0, due - time.monotonic()))

    def _wake(self) -> None:
        with self._region.lock:
            self._region.changed.notify_all()

    def _serve(self) -> None:
        """Start what there is room for."""
        closed: set[str] = set()
        by_priority = sorted(self._region.queues.values(), key=lambda queue: -queue.priority)
        for queue in by_priority:
            self._serve_queue(queue, closed)

    def _serve_queue(self, queue: JobQueue, closed: set[str]) -> None:
        runnable = self._table.queues[queue.arn].runnable
        while runnable:
            job = runnable[0]
            if job.status != "RUNNABLE":
                runnable.popleft()
                continue
            match self._capacity.room(job, queue, closed):
                case Room(environment):
                    runnable.popleft()
                    self._begin(Start(self._region, job, queue, environment, self._region.definition(job.definition)))
                case Wait(reason, others_pass):
                    self._tell_reason(job, reason)
                    if others_pass:
                        runnable.popleft()
                        continue
                    if not reason:
                        closed.update(queue.environments)
                    return

    def _tell_reason(self, job: Job, reason: str) -> None:
        if reason and job not in self._stuck:
            self._stuck[job] = time.monotonic()
        elif not reason:
            self._stuck.pop(job, None)
        if job.reason != reason:
            job.reason = reason
            self._table.note(job)

    def _cancel_overdue(self) -> None:
        """Cancel what has been stuck for as long as its queue allows."""
        for job, reason, at in list(self._limits()):
            if at <= time.monotonic() and not job.ended:
                self.cancel(job, f"Canceled by JobStateTimeLimit action due to reason: {reason}")

    def _next_limit(self) -> float:
        return min((at for _, _, at in self._limits()), default=float("inf"))

    def _limits(self) -> Iterator[tuple[Job, str, float]]:
        """Stuck jobs that a queue's jobStateTimeLimitActions are for, the reason, and when (monotonic)."""
        for job in [job for job in self._stuck if job.status != "RUNNABLE"]:
            del self._stuck[job]
        for job, since in self._stuck.items():
            queue = self._region.queue(job.queue)
            for action in (queue.request.get("jobStateTimeLimitActions") or ()) if queue is not None else ():
                if job.reason.startswith(action["reason"]):
                    yield job, action["reason"], since + int(action["maxTimeSeconds"]) * self._pace.second_s

    def _scale(self) -> float:
        """Desired vCPUs follow the work: up at once, down after a while. When to look again (monotonic)."""
        queued: defaultdict[str, float] = defaultdict(float)
        for queue in self._region.queues.values():
            for arn in queue.environments:
                environment = self._region.environment(arn)
                if environment is not None and environment.takes_jobs:
                    queued[arn] += self._table.queues[queue.arn].queued_vcpus
                    break
        now = time.monotonic()
        may_fall = self._idle_since is not None and now - self._idle_since >= self._pace.idle_s
        if not self._capacity.scale(queued, may_fall=may_fall):
            self._idle_since = None
            return float("inf")
        self._idle_since = now if self._idle_since is None or may_fall else self._idle_since
        return self._idle_since + self._pace.idle_s

    # Attempts.

    def _begin(self, start: Start) -> None:
        job = start.job
        self._stuck.pop(job, None)
        self._capacity.begin(job, start.environment)
        attempt = self._attempts[job.id] = self._attempt(start)
        self._table.move(job, "STARTING")
        too_many = start.has_too_many_tags
        thread = threading.Thread(
            target=self._run, args=(job, attempt, start.definition, too_many), name=f"job {job.id}", daemon=True
        )
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no thread left; nothing of the attempt has begun
            self._threads.discard(thread)
            self._over(job, Ending(status_reason=NOT_STARTED, reason=f"CannotStartContainerError: {error}"))
            self._owed.append(job)

    def _attempt(self, start: Start) -> Attempt | GangAttempt:
        """New, and written into the job's record."""
        job, limit = start.job, start.timeout_s
        timeout_s = None if limit is None else limit * self._pace.second_s
        if job.nodes is None or start.definition is None:
            order = replace(start.order, timeout_s=timeout_s)
            job.attempts.append(start.begun(order))
            return Attempt(order, self._tools, running=lambda stream: self._started(job, stream))
        orders = start.node_orders
        job.attempts.append(start.begun(orders[job.nodes.main]))
        return GangAttempt(
            orders,
            job.nodes.main,
            self._tools,
            watcher=NodesOutcomes(self._outcomes, start, orders),
            timeout_s=timeout_s,
            tell=self._tell,
        )

    def _started(self, job: Job, stream: str) -> None:
        with self._region.lock:
            self._outcomes.started(job, stream)

    def _run(
        self, job: Job, attempt: Attempt | GangAttempt, definition: JobDefinition | None, too_many_tags: bool
    ) -> None:
        if definition is None:
            ending = Ending(status_reason=NOT_STARTED, reason="the job definition is gone", final=True)
        elif too_many_tags:
            ending = Ending(status_reason=TOO_MANY_TAGS, final=True)
        else:
            ending = self._attempted(job, attempt)
        with self._region.lock:
            self._threads.discard(threading.current_thread())
            if attempt.asked == "abandoned":
                return
            self._over(job, ending)
        self._machine.give_back(job)

    def _over(self, job: Job, ending: Ending) -> None:
        self._attempts.pop(job.id, None)
        self._capacity.end(job)
        self._outcomes.conclude(job, ending)

    def _attempted(self, job: Job, attempt: Attempt | GangAttempt) -> Ending:
        try:
            return attempt.run()
        except Exception as error:  # noqa: BLE001  # a door: a job must not run for ever because we failed
            self._tell(f"an attempt of job {job.id} failed: {type(error).__name__}: {error}")
            return Ending(status_reason=NOT_STARTED, reason=f"The local AWS failed: {type(error).__name__}"[:255])

    # Ends.

    def _end(self, job: Job, reason: str, *, started_too: bool) -> Sync:
        if job.ended:
            return lambda: None
        if job.is_array:
            return self._end_array(job, reason, started_too=started_too)
        if job.status in WAITING:
            job.cancelled, job.terminated = not started_too, started_too
            return self._table.move(job, "FAILED", reason)
        if not started_too:
            return lambda: None
        job.terminated, job.reason = True, reason
        attempt = self._attempts.get(job.id)
        if attempt is not None:
            # its own thread: a sandbox on its way holds the attempt's lock
            threading.Thread(target=attempt.end, args=("terminated",), daemon=True).start()
        return self._table.note(job)

    def _end_array(self, parent: Job, reason: str, *, started_too: bool) -> Sync:
        parent.cancelled, parent.terminated, parent.reason = not started_too, started_too, reason
        for child in parent.children:
            self._end(child, reason, started_too=started_too)
        return self._table.note(parent)
