"""The jobs of the local Batch: what SubmitJob and its siblings answer, and what makes accepted jobs run.

SubmitJob ─► submitting ─► Table (on disk) ─► Scheduler (one thread for each region) ─► Attempt in a sandbox, GangAttempt ─► its end, retried or final
DescribeJobs, ListJobs ─► listing                └─► Outbox: EventBridge
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.local.batch import listing, submitting
from scar.local.batch.announcing import Outbox
from scar.local.batch.attempt import Tools
from scar.local.batch.capacity import Machine
from scar.local.batch.checks import ClientError_, check_tags
from scar.local.batch.credentials import JobCredentials
from scar.local.batch.images import Images
from scar.local.batch.job import Job
from scar.local.batch.job_journal import JobJournal, recorded
from scar.local.batch.node import Node
from scar.local.batch.records import JobQueue, Region
from scar.local.batch.scheduler import Pace, Scheduler
from scar.local.batch.service import Handler
from scar.local.batch.table import Sync, Table
from scar.local.functions.configuration import LogSink, Rootfs
from scar.local.functions.destinations import Destinations
from scar.local.iam.authority import Authority
from scar.local.log_streams import Flusher
from scar.local.registry import RegistryData
from scar.local.sandbox.spec import Choice, Serve

__all__ = ["Jobs", "Pace"]

_REASON_CHARACTERS: Final = 1024  # botocore batch:CancelJobRequest.reason
_NO_TAGS: Final = "it has no tags of its own"  # botocore batch:ListTagsForResourceRequest


def _found(part: _Part, named: object, what: str) -> Job:
    """By id or ARN; raises ClientError_, and for a node of a job too: AWS's pages know nothing that is done to one alone, and `what` names it."""
    job_id = str(named).rpartition("job/")[2]
    if part.table.find_node(job_id) is not None:
        raise ClientError_(f"{job_id} is a node of a multi-node parallel job: {what}.")
    job = part.table.find(job_id)
    if job is None:
        raise ClientError_(f"Job {named} does not exist.")
    return job


@dataclass(frozen=True, slots=True)
class _Part:
    """One region's jobs."""

    region: Region
    table: Table
    scheduler: Scheduler


class Jobs:
    """service.JobsPart. `endpoint` answers where the local AWS listens, as sandboxes see it, and `serve` lets it listen for a network of
    theirs; `engine` chooses the sandbox engine and may
    fail (ScarError); `state` is a folder of its own, `efs` holds one for each file system. `invoke` accepts an asynchronous event for a function (ARN, payload, account, region).
    `tell` takes a line for the daemon's log; `persist` saves moto's services of these names, `wake` readies one
    for whoever asks it without a request."""

    def __init__(
        self,
        regions: Callable[[str, str], Region],
        *,
        state: Path,
        efs: Path,
        endpoint: Callable[[], str],
        serve: Serve,
        log: LogSink,
        registry: RegistryData,
        engine: Callable[[], Choice],
        rootfs: Rootfs,
        invoke: Callable[[str, bytes, str, str], None] = lambda *_: None,
        pace: Pace | None = None,
        machine: Machine | None = None,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda _: None,
        persist: Callable[[Sequence[str]], None] = lambda _: None,
        wake: Callable[[str], None] = lambda _: None,
        authority: Authority | None = None,
    ) -> None:
        self._regions, self._state, self._log, self._clock, self._tell = regions, state, log, clock, tell
        self._pace, self._machine = pace or Pace(), machine or Machine()
        self._credentials, self._flusher = JobCredentials(), Flusher(tell)
        self._destinations = Destinations(invoke, persist, authority)
        self._tools = Tools(
            images=Images(registry, rootfs, state / "images"),
            engine=engine,
            log=log,
            flusher=self._flusher,
            credentials=self._credentials,
            endpoint=endpoint,
            serve=serve,
            attempts=state / "attempts",
            efs=efs,
            stop_s=self._pace.stop_s,
            clock=clock,
            wake=wake,
            authority=authority,
            tell=tell,
        )
        self._parts: dict[tuple[str, str], _Part] = {}
        self._started = False

    @property
    def actions(self) -> Mapping[str, Handler]:
        return {
            "SubmitJob": self._submit,
            "DescribeJobs": self._describe,
            "ListJobs": self._list,
            "CancelJob": self._cancel,
            "TerminateJob": self._terminate,
            "GetJobQueueSnapshot": self._snapshot,
            "ListTagsForResource": self._tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def unfinished(self, region: Region, queue_arn: str) -> int:
        """How many of a queue's jobs have not ended."""
        part = self._part(region)
        with region.lock:
            return part.table.queues[queue_arn].unfinished

    def end_queue(self, region: Region, queue_arn: str) -> None:
        """End every unfinished job of a queue that is being deleted."""
        part = self._part(region)
        with region.lock:
            for job in [job for job in part.table.jobs.values() if job.queue == queue_arn and not job.ended]:
                if not job.doomed:
                    part.scheduler.terminate(job, "Job queue deleted")

    def page(self, path: str, authorization: str | None) -> Any:
        """What `/_scar/batch/<path>` says; None: no such page. `credentials/<name>` has those of a job, `reclaim/<job id>` takes the host of a
        job away, or of one of its nodes."""
        kind, _, name = path.partition("/")
        if kind == "credentials":
            return self._credentials.answer(name, authorization)
        if kind == "reclaim":
            return {"reclaimed": any(part.scheduler.reclaim(name) for part in list(self._parts.values()))}
        return None

    def status(self) -> Mapping[str, Any]:
        """What `scar local status` shows; plain values only."""
        counts: Counter[str] = Counter()
        for part in list(self._parts.values()):
            with part.region.lock:
                counts.update(job.status for job in part.table.jobs.values())
        return {"jobs": dict(counts)}

    def start(self) -> None:
        """Go on with what an earlier daemon accepted."""
        self._started = True
        for path in sorted((self._state / "jobs").glob("*.journal")):
            account, _, region = path.stem.partition(".")
            self._part(self._regions(account, region))
        for part in list(self._parts.values()):
            part.scheduler.start()

    def stop(self) -> None:
        """End every attempt. What has not ended stays on disk for the next start."""
        self._started = False
        for part in list(self._parts.values()):
            part.scheduler.stop()
            part.table.close()
        self._flusher.stop()

    # The actions.

    def _submit(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            job = submitting.job_of_request(region, part.table, request)
            sync = part.table.accept(job)
        sync()
        return {"jobArn": listing.arn_of(region, job), "jobName": job.name, "jobId": job.id}

    def _describe(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            return {"jobs": listing.describe(region, part.table, request["jobs"])}

    def _list(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            return listing.list_jobs(region, part.table, request)

    def _cancel(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._end(region, request, lambda part, job, reason: part.scheduler.cancel(job, reason))

    def _terminate(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._end(region, request, lambda part, job, reason: part.scheduler.terminate(job, reason))

    def _end(
        self, region: Region, request: Mapping[str, Any], how: Callable[[_Part, Job, str], Sync]
    ) -> dict[str, Any]:
        part, reason = self._part(region), str(request["reason"])
        if not reason or len(reason) > _REASON_CHARACTERS:
            raise ClientError_(f"The reason must have from 1 to {_REASON_CHARACTERS} characters.")
        with region.lock:
            job = _found(part, request["jobId"], "it ends with its job, and cannot be ended alone")
            sync = how(part, job, reason)
        sync()
        return {}

    # Tags of jobs (the service sends only those here); children have none of their own: botocore batch:ListTagsForResourceRequest.

    def _tags(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            return {"tags": dict(_found(part, request["resourceArn"], _NO_TAGS).tags)}

    def _tag(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._retag(region, request, lambda tags: {**tags, **request["tags"]})

    def _untag(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._retag(region, request, lambda tags: {n: v for n, v in tags.items() if n not in request["tagKeys"]})

    def _retag(
        self, region: Region, request: Mapping[str, Any], change: Callable[[Mapping[str, str]], dict[str, str]]
    ) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            job = _found(part, request["resourceArn"], _NO_TAGS)
            tags = change(job.tags)
            check_tags(tags)
            job.own_tags = tags
            sync = part.table.note(job)
        sync()
        return {}

    def _snapshot(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        part = self._part(region)
        with region.lock:
            queue: JobQueue | None = region.queue(str(request["jobQueue"]))
            if queue is None:
                raise ClientError_(f"{request['jobQueue']} does not exist.")
            return listing.snapshot(region, part.table, queue.arn, part.scheduler.used_vcpus(queue))

    # Inside.

    def _part(self, region: Region) -> _Part:
        """A region's jobs, taken from the disk when they are first asked for."""
        key = (region.account, region.region)
        with region.lock:
            if key not in self._parts:
                self._parts[key] = self._opened(region)
                if self._started:
                    self._parts[key].scheduler.start()
            return self._parts[key]

    def _opened(self, region: Region) -> _Part:
        path = self._state / "jobs" / f"{region.account}.{region.region}.journal"
        outbox = Outbox(region.account, region.region, self._destinations, self._log, self._tell)

        def announce(job: Job, node: Node | None) -> None:
            # AWS does not say whether it tells of nodes too; whoever listens must be ready for it, as it does of the children of arrays
            if outbox.is_heard:
                outbox.add(listing.detail(region, job, node))

        records = list(recorded(path))
        table = Table(region, JobJournal(path), clock=self._clock, announce=announce, tell=self._tell)
        scheduler = Scheduler(
            region, table, self._machine, self._tools, pace=self._pace, outbox=outbox, tell=self._tell
        )
        for job in table.restore(records):
            scheduler.lost(job)
        return _Part(region, table, scheduler)
