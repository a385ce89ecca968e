"""The jobs of the local Batch: what SubmitJob and its siblings answer, and what makes accepted jobs run.

SubmitJob ─► submitting ─► a record on disk ─► Scheduler (one thread for each region) ─► Attempt in a sandbox ─► its end, retried or final
DescribeJobs, ListJobs ─► listing
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.local.batch.records import Region
from scar.local.batch.service import Handler
from scar.local.functions.configuration import LogSink, Rootfs
from scar.local.registry import RegistryData
from scar.local.sandbox.spec import Choice

STOP_S: Final = 30.0  # between SIGTERM and SIGKILL; docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the local Batch is compared with AWS's: `second_s` is how long a second of a request's timeouts lasts."""

    second_s: float = 1.0
    stop_s: float = STOP_S
    idle_s: float = 1.0  # an environment without work falls back to its minimum after so long


class Jobs:
    """service.JobsPart. `endpoint` answers where the local AWS listens, as sandboxes see it; `engine` chooses the sandbox engine and may
    fail (ScarError); `state` is a folder of its own. `tell` takes a line for the daemon's log; `persist` saves moto's services of these names."""

    def __init__(
        self,
        regions: Callable[[str, str], Region],
        *,
        state: Path,
        endpoint: Callable[[], str],
        log: LogSink,
        registry: RegistryData,
        engine: Callable[[], Choice],
        rootfs: Rootfs,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda _: None,
        persist: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        raise NotImplementedError

    @property
    def actions(self) -> Mapping[str, Handler]:
        raise NotImplementedError

    def unfinished(self, region: Region, queue_arn: str) -> int:
        """How many of a queue's jobs have not ended."""
        raise NotImplementedError

    def end_queue(self, region: Region, queue_arn: str) -> None:
        """End every unfinished job of a queue that is being deleted."""
        raise NotImplementedError

    def page(self, path: str, authorization: str | None) -> Any:
        """What `/_scar/batch/<path>` says (credentials of jobs, and `reclaim/<job id>`, which takes a job's host away); None: no such page."""
        raise NotImplementedError

    def status(self) -> Mapping[str, Any]:
        """What `scar local status` shows; plain values only."""
        raise NotImplementedError

    def start(self) -> None:
        """Go on with what an earlier daemon accepted."""
        raise NotImplementedError

    def stop(self) -> None:
        """End every attempt. What has not ended stays on disk for the next start."""
        raise NotImplementedError
