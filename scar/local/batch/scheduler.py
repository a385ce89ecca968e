"""Which job runs next, where, and what becomes of it when its attempt ends? One thread for each region that has jobs.

It sleeps until something has changed (`Region.changed`) or a time limit is due. Queues are served by priority and each in the order of
submission: as on AWS the first job of a queue holds up those behind it, until there is room for it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from scar.local.batch.announcing import Outbox
from scar.local.batch.attempt import NOT_STARTED, Attempt, Ending, Order, Tools, host_gone
from scar.local.batch.capacity import Capacity, Machine, Room, Wait, is_fargate
from scar.local.batch.job import NOT_STARTED as WAITING
from scar.local.batch.job import Job
from scar.local.batch.properties import container_of, retry_of, tags_of, timeout_s_of
from scar.local.batch.records import ComputeEnvironment, JobDefinition, JobQueue, Region
from scar.local.batch.retrying import is_retried
from scar.local.batch.table import Sync, Table

_AFTER_FAILURE_S: Final = 1.0
_TAGS: Final = 50  # botocore batch:SubmitJobRequest.propagateTags


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
        self._attempts: dict[str, Attempt] = {}
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
        """Take a running job's machine away, as a Spot instance is; whether it was running."""
        with self._region.lock:
            attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.end("reclaimed")
        return attempt is not None

    def lost(self, job: Job) -> None:
        """A job that an earlier daemon was running: its machine is gone. Called with the region's lock held."""
        instance = job.attempts[-1].get("instance", "i-00000000000000000") if job.attempts else "i-00000000000000000"
        if not job.attempts or "stoppedAt" in job.attempts[-1]:
            job.attempts.append({"container": {}})
        environment = self._region.environment(job.environment)
        fargate = environment is not None and is_fargate(environment)
        self._conclude(job, Ending(status_reason=host_gone(instance, fargate=fargate)))

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
                    self._begin(job, queue, environment)
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

    def _begin(self, job: Job, queue: JobQueue, environment: ComputeEnvironment) -> None:
        self._stuck.pop(job, None)
        self._capacity.begin(job, environment)
        definition = self._region.definition(job.definition)
        order = self._order(job, queue, environment, definition)
        task_arn = (
            self._region.arn("").replace(":batch:", ":ecs:")
            + f"task/{environment.name}_Batch_{environment.uuid}/{order.task}"
        )
        job.attempts.append({"container": {"taskArn": task_arn}, "instance": order.instance})
        self._table.move(job, "STARTING")
        attempt = Attempt(order, self._tools, running=lambda stream: self._started(job, stream))
        self._attempts[job.id] = attempt
        too_many = self._too_many_tags(job, definition)
        thread = threading.Thread(
            target=self._run, args=(job, attempt, definition, too_many), name=f"job {job.id}", daemon=True
        )
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no thread left; nothing of the attempt has begun
            self._threads.discard(thread)
            self._over(job, Ending(status_reason=NOT_STARTED, reason=f"CannotStartContainerError: {error}"))
            self._owed.append(job)

    def _order(
        self, job: Job, queue: JobQueue, environment: ComputeEnvironment, definition: JobDefinition | None
    ) -> Order:
        registered: dict[str, Any] = {} if definition is None else definition.request
        timeout_s = timeout_s_of(registered, job.asked)
        return Order(
            account=self._region.account,
            region=self._region.region,
            job_id=job.id,
            number=len(job.attempts) + 1,
            queue=queue.name,
            environment=environment.name,
            fargate=is_fargate(environment),
            definition_name="" if definition is None else definition.name,
            definition=registered,
            request=job.asked,
            container=container_of(registered, job.asked),
            timeout_s=None if timeout_s is None else timeout_s * self._pace.second_s,
            array_index=job.index,
            array_size=job.parent.size if job.parent is not None else 0,
        )

    def _too_many_tags(self, job: Job, definition: JobDefinition | None) -> bool:
        registered: dict[str, Any] = {} if definition is None else {**definition.request, "tags": definition.tags}
        tags, wanted = tags_of(registered, job.asked)
        return wanted and len(tags) > _TAGS

    def _run(self, job: Job, attempt: Attempt, definition: JobDefinition | None, too_many_tags: bool) -> None:
        if definition is None:
            ending = Ending(status_reason=NOT_STARTED, reason="the job definition is gone", final=True)
        elif too_many_tags:
            ending = Ending(
                status_reason=f"The job and its definition have more than {_TAGS} tags together", final=True
            )
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
        self._conclude(job, ending)

    def _attempted(self, job: Job, attempt: Attempt) -> Ending:
        try:
            return attempt.run()
        except Exception as error:  # noqa: BLE001  # a door: a job must not run for ever because we failed
            self._tell(f"an attempt of job {job.id} failed: {type(error).__name__}: {error}")
            return Ending(status_reason=NOT_STARTED, reason=f"The local AWS failed: {type(error).__name__}"[:255])

    def _started(self, job: Job, stream: str) -> None:
        with self._region.lock:
            if job.ended:
                return
            now_ms = self._table.now_ms()
            job.started_ms = now_ms
            job.attempts[-1]["startedAt"] = now_ms
            job.attempts[-1]["container"]["logStreamName"] = stream
            self._table.move(job, "RUNNING", job.reason if job.terminated else "")

    def _conclude(self, job: Job, ending: Ending) -> None:
        """An attempt has ended: the job with it, or there is another."""
        attempt = job.attempts[-1]
        told = attempt["container"]
        if ending.exit_code is not None:
            told["exitCode"] = ending.exit_code
        if ending.reason:
            told["reason"] = ending.reason
        status_reason = ending.status_reason or job.reason
        attempt |= {"startedAt": attempt.get("startedAt", self._table.now_ms()), "stoppedAt": self._table.now_ms()}
        attempt["statusReason"] = status_reason
        if ending.exit_code == 0 and not ending.final:
            self._table.move(job, "SUCCEEDED", status_reason)
            return
        definition = self._region.definition(job.definition)
        strategy = retry_of({} if definition is None else definition.request, job.asked)
        again = is_retried(
            strategy,
            attempts=len(job.attempts),
            exit_code=ending.exit_code,
            reason=ending.reason,
            status_reason=status_reason,
        )
        if again and not ending.final and not job.doomed:
            self._table.move(job, "RUNNABLE", first=True)
        else:
            self._table.move(job, "FAILED", status_reason)

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
