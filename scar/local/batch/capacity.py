"""Is there room for a job? vCPU slots of compute environments, instance types, and this machine's memory.

The local AWS has one machine. A job takes vCPUs of its environment as on AWS, so what AWS would make wait, waits; and it takes its memory of
this machine, so that no number of jobs makes it swap. What fits AWS but never this machine stays RUNNABLE, says so, and holds up nobody.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.local.batch.job import Job
from scar.local.batch.records import ComputeEnvironment, JobQueue, Region

# batch/latest/userguide/job_stuck_in_runnable: what `statusReason` says while the head of a queue is stuck
MAX_RESOURCE: Final = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - "
    "CE(s) associated with the job queue cannot meet the CPU requirement of the job."
)
JOB_REQUIREMENT: Final = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - "
    "The job resource requirement (vCPU/memory/GPU) is higher than that can be met by the CE(s) attached to the job queue."
)
INVALID: Final = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
# botocore batch:ComputeResource.instanceTypes, checked 2026-11
_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "optimal": ("m6i", "c6i", "r6i", "c7i"),
    "default_x86_64": ("m6i", "c6i", "r6i", "c7i"),
    "default_arm64": ("m6g", "c6g", "r6g", "c7g"),
}
_MEMORY_LIMITS: Final = (  # control groups of version 2 and 1, as seen from inside a container
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_AT_ONCE_PER_PROCESSOR: Final = 32


@dataclass(frozen=True, slots=True)
class Room:
    """Where a job may run now."""

    environment: ComputeEnvironment


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. With a `reason` nothing but a change of the queue or its environments helps; `others_pass` when those behind need not wait."""

    reason: str = ""
    others_pass: bool = False


class Machine:
    """What this machine gives to the jobs of all regions together."""

    def __init__(self, memory_mib: int | None = None, at_once: int | None = None) -> None:
        self.total_mib = _memory_mib() if memory_mib is None else memory_mib
        self.at_once = at_once or _AT_ONCE_PER_PROCESSOR * (os.cpu_count() or 1)
        self._left_mib = self.total_mib * 3 // 4
        self._left = self.at_once
        self._running = 0
        self._lock = threading.Lock()
        self.freed: list[Callable[[], None]] = []

    def lacks(self, job: Job) -> str:
        """Why a job can never run here; '' when it can."""
        if job.gpus:
            return f"{JOB_REQUIREMENT} The local AWS gives no GPU to jobs."
        if job.containers > self.at_once:
            return f"{JOB_REQUIREMENT} This machine runs {self.at_once} containers at once, the job has {job.containers} nodes."
        if job.memory_mib > self.total_mib:
            return f"{JOB_REQUIREMENT} This machine has {self.total_mib} MiB of memory, the job asks for {job.memory_mib} MiB."
        return ""

    def take(self, job: Job) -> bool:
        """Whether it got its memory, for all its nodes together; the only job gets it always."""
        with self._lock:
            if self._running and (job.memory_mib > self._left_mib or self._left < job.containers):
                return False
            self._left_mib -= job.memory_mib
            self._left -= job.containers
            self._running += 1
            return True

    def give_back(self, job: Job) -> None:
        with self._lock:
            self._left_mib += job.memory_mib
            self._left += job.containers
            self._running -= 1
        for tell in self.freed:
            tell()


def _memory_mib() -> int:
    """What the machine has, or the container that we run in may use."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # absent, or `max`
            found.append(int(path.read_text()))
    return min(found) >> 20


class Capacity:
    """The slots of one region's environments. Every method is called with `Region.lock` held."""

    def __init__(self, region: Region, machine: Machine) -> None:
        self._region, self._machine = region, machine
        self._used: defaultdict[str, float] = defaultdict(float)  # ARN of an environment → vCPUs of the jobs in it
        self._largest: dict[tuple[str, ...], tuple[tuple[str, int, int, int], ...]] = {}

    def room(self, job: Job, queue: JobQueue, closed: set[str]) -> Room | Wait:
        """Where a queue's first job may run. `closed` are ARNs of environments that the head of a queue of higher priority waits for."""
        found = [self._region.environment(arn) for arn in queue.environments]
        environments = [one for one in found if one is not None and (job.nodes is None or takes_nodes(one))]
        if not environments and any(found):
            return Wait(JOB_REQUIREMENT)
        if environments and all(one.status == "INVALID" for one in environments):
            return Wait(INVALID)
        if environments and all(job.vcpus > most_vcpus(one) for one in environments):
            return Wait(MAX_RESOURCE)
        able = [one for one in environments if job.vcpus <= most_vcpus(one) and self._has_instance_for(one, job)]
        if environments and not able:
            return Wait(JOB_REQUIREMENT)
        if lack := self._machine.lacks(job):
            return Wait(lack, others_pass=True)
        for environment in able:
            free = most_vcpus(environment) - self._used[environment.arn]
            if environment.takes_jobs and environment.arn not in closed and job.vcpus <= free:
                return Room(environment) if self._machine.take(job) else Wait()
        return Wait()

    def begin(self, job: Job, environment: ComputeEnvironment) -> None:
        job.environment = environment.arn
        self._used[environment.arn] += job.vcpus

    def end(self, job: Job) -> None:
        """Its vCPUs are free; its memory is given back to the machine by whoever holds no lock."""
        self._used[job.environment] -= job.vcpus

    def used(self, environment: ComputeEnvironment) -> float:
        return self._used[environment.arn]

    def scale(self, queued: Mapping[str, float], *, may_fall: bool) -> bool:
        """Let desired vCPUs of managed EC2 environments follow `queued` (by ARN) and what runs; whether one is above what it needs."""
        idle = False
        for environment in self._region.environments.values():
            if is_fargate(environment) or not environment.resources:
                continue
            wanted = math.ceil(self._used[environment.arn] + queued.get(environment.arn, 0.0))
            wanted = max(environment.min_vcpus, min(environment.max_vcpus, wanted))
            if wanted > environment.desired_vcpus or may_fall:
                environment.desired_vcpus = wanted
            idle = idle or environment.desired_vcpus > wanted
        return idle

    def _has_instance_for(self, environment: ComputeEnvironment, job: Job) -> bool:
        asked = environment.resources.get("instanceTypes")
        if not asked or is_fargate(environment):
            return True
        key = tuple(asked)
        if key not in self._largest:
            self._largest[key] = tuple(_sizes(key))
        sizes = self._largest[key]
        wanted_vcpus, wanted_mib, wanted_gpus = job.on_one_machine
        wanted_type = "" if job.nodes is None else job.nodes.instance_type
        return not sizes or any(
            wanted_vcpus <= vcpus and wanted_mib <= memory_mib and wanted_gpus <= gpus and wanted_type in ("", name)
            for name, vcpus, memory_mib, gpus in sizes
        )


def is_fargate(environment: ComputeEnvironment) -> bool:
    return str(environment.resources.get("type", "")).startswith("FARGATE")


def takes_nodes(environment: ComputeEnvironment) -> bool:
    """Whether multi-node parallel jobs may run there: neither UNMANAGED, nor Spot, nor Fargate, nor ECS's managed instances.

    Source: batch/latest/userguide/mnp-ce, botocore batch:ComputeResource.type
    """
    return environment.resources.get("type") == "EC2"


def most_vcpus(environment: ComputeEnvironment) -> float:
    """`maxvCpus`; an unmanaged environment is this machine, which takes what comes."""
    return environment.max_vcpus if environment.resources else math.inf


def _sizes(asked: Iterable[str]) -> Iterable[tuple[str, int, int, int]]:
    """Name, vCPUs, memory (MiB) and GPUs of every instance type meant; none when the local AWS knows none of them."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES  # takes a second to import

    types: Mapping[str, Any] = INSTANCE_TYPES
    for name in asked:
        families = _FAMILIES.get(name, (name,))
        for found, told in types.items():
            if found == name or found.partition(".")[0] in families:
                gpus = (told.get("GpuInfo") or {}).get("Gpus", ())
                yield (
                    found,
                    told["VCpuInfo"]["DefaultVCpus"],
                    told["MemoryInfo"]["SizeInMiB"],
                    sum(one["Count"] for one in gpus),
                )
