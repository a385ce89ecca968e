"""Batch's API as one callable: an operation and its body in, a status and a document out.

It knows which part answers an operation, that a change is on disk before it is answered, and when what Batch does in its own time
(CREATING → VALID, DELETING → gone) is due. The jobs are plugged in (`JobsPart`); the way in from the network is `door`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from scar.local.batch import door, shapes
from scar.local.batch.checks import CHANGING, ClientError_, Request
from scar.local.batch.definitions import Definitions
from scar.local.batch.environments import Environments
from scar.local.batch.policies import Policies
from scar.local.batch.queues import Queues
from scar.local.batch.records import Region
from scar.local.batch.settling import Settling
from scar.local.batch.store import Store
from scar.local.batch.surroundings import Moto, Surroundings
from scar.local.batch.tagging import Tagging, is_job
from scar.local.refusal import RefusalError

SETTLE_S: Final = 0.2  # AWS takes seconds to minutes

Handler = Callable[[Region, Mapping[str, Any]], dict[str, Any]]  # raises RefusalError (checks.ClientError_)


class JobsPart(Protocol):
    """The part that runs jobs.

    1. `actions` has a handler for each operation on jobs, by its API name (`SubmitJob`); also for `TagResource` and its siblings, which
       get the ARNs of jobs only. Handlers are called on many threads at once, without `Region.lock`; the request is a `checks.Request`.
       What they answered is on disk.
    2. `unfinished` counts a queue's jobs that are neither SUCCEEDED nor FAILED; `end_queue` begins to end them. Both are called without the lock.
    3. `start` is called once, after the control plane has been loaded; `stop` ends what runs.
    """

    @property
    def actions(self) -> Mapping[str, Handler]: ...

    def unfinished(self, region: Region, queue_arn: str) -> int: ...

    def end_queue(self, region: Region, queue_arn: str) -> None: ...

    def page(self, path: str, authorization: str | None) -> Any: ...

    def status(self) -> Mapping[str, Any]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Batch:
    """Batch in every region of every account. Everything it must not forget lies below `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        jobs: Callable[[Callable[[str, str], Region]], JobsPart],
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = SETTLE_S,
        around: Callable[[Region], Surroundings] = lambda region: Moto(region.account, region.region),
        persist: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """`settle_s`: how long CREATING, UPDATING and DELETING last at least. `persist` saves moto's services of these names.
        Raises StateDamagedError for a file that does not add up."""
        self._store = Store(folder)
        self._settling = Settling(clock, settle_s)
        self._jobs = jobs(self._store.region)
        self._persist = persist
        self._environments = Environments(around, self._later)
        self._queues = Queues(self._later, self._ended)
        self._reads, self._writes = self._control()
        for region in self._store.regions():
            self._resume(region)

    def handle(self, account: str, region: str, operation: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Do one operation, named as in its path (`createjobqueue`), and answer HTTP status and document."""
        try:
            return 200, self.answer(account, region, operation, content)
        except RefusalError as refusal:
            return refusal.status, {"__type": refusal.code, "code": refusal.code, "message": refusal.message}

    def respond(
        self, account: str, region: str, method: str, target: str, content: bytes
    ) -> tuple[int, dict[str, Any]]:
        """The same by HTTP method and path with query: `/v1/submitjob`, `/v1/tags/<arn>?tagKeys=a`."""
        try:
            return self.handle(account, region, *door.operation(method, target, content))
        except RefusalError as refusal:
            return refusal.status, {"__type": refusal.code, "code": refusal.code, "message": refusal.message}

    def answer(self, account: str, region: str, operation: str, content: bytes) -> dict[str, Any]:
        """The same, with refusals raised. What was changed is on disk when this returns."""
        name = shapes.operation_named(operation)
        request = Request(shapes.checked(name, door.document(content)), len(content))
        held = self._store.region(account, region)
        self._settling.run_due()
        if name in self._jobs.actions and ("resourceArn" not in request or is_job(request["resourceArn"])):
            return self._jobs.actions[name](held, request)
        if name in self._reads:
            with held.lock:
                return self._reads[name](held, request)
        if name not in self._writes:
            raise ClientError_(f"The local Batch has no {name}.")
        with held.lock:
            answered = self._writes[name](held, request)
            held.changed.notify_all()
        self._settling.run_due()
        if name == "CreateComputeEnvironment":
            self._persist(["ec2"])  # moto makes up the default network's names anew at each start, unless it is kept
        self._store.save(held)
        return answered

    def region(self, account: str, region: str) -> Region:
        return self._store.region(account, region)

    def page(self, path: str, authorization: str | None) -> Any:
        """What `/_scar/batch/<path>` says; None when there is no such page."""
        return self._jobs.page(path, authorization)

    def changed(self, services: Collection[str]) -> None:
        """These services of moto's have changed: what stands on them is looked at again."""
        if "iam" in services:
            for region in self._store.regions():
                self._environments.look_again(region)

    def start(self) -> None:
        """Let time pass: only after what the environments ask for (roles, subnets) has been loaded."""
        self._settling.start()
        self._jobs.start()

    def stop(self) -> None:
        self._settling.stop()
        self._jobs.stop()

    def status(self) -> Mapping[str, Any]:
        """What `scar local status` shows; plain values only."""
        regions = self._store.regions()
        return {
            "compute_environments": sum(len(region.environments) for region in regions),
            "job_queues": sum(len(region.queues) for region in regions),
            "job_definitions": sum(
                one.active for region in regions for each in list(region.definitions.values()) for one in each
            ),
            **self._jobs.status(),
        }

    def _control(self) -> tuple[Mapping[str, Handler], Mapping[str, Handler]]:
        environments, queues = self._environments, self._queues
        definitions, policies, tagging = Definitions(), Policies(), Tagging()
        reads: dict[str, Handler] = {
            "DescribeComputeEnvironments": environments.describe,
            "DescribeJobQueues": queues.describe,
            "DescribeJobDefinitions": definitions.describe,
            "DescribeSchedulingPolicies": policies.describe,
            "ListSchedulingPolicies": policies.list,
            "ListTagsForResource": tagging.list,
        }
        writes: dict[str, Handler] = {
            "CreateComputeEnvironment": environments.create,
            "UpdateComputeEnvironment": environments.update,
            "DeleteComputeEnvironment": environments.delete,
            "CreateJobQueue": queues.create,
            "UpdateJobQueue": queues.update,
            "DeleteJobQueue": queues.delete,
            "RegisterJobDefinition": definitions.register,
            "DeregisterJobDefinition": definitions.deregister,
            "CreateSchedulingPolicy": policies.create,
            "UpdateSchedulingPolicy": policies.update,
            "DeleteSchedulingPolicy": policies.delete,
            "TagResource": tagging.tag,
            "UntagResource": tagging.untag,
        }
        return reads, writes

    def _resume(self, region: Region) -> None:
        for environment in region.environments.values():
            if environment.status in CHANGING:
                self._environments.settle(region, environment)
        for queue in region.queues.values():
            if queue.status in CHANGING:
                self._queues.settle(region, queue)

    def _later(self, region: Region, settled: Callable[[], bool]) -> None:
        def step() -> bool:
            if not settled():
                return False
            self._store.save(region)
            with region.lock:
                region.changed.notify_all()
            return True

        self._settling.later(step)

    def _ended(self, region: Region, queue_arn: str) -> bool:
        if self._jobs.unfinished(region, queue_arn):
            self._jobs.end_queue(region, queue_arn)
        return self._jobs.unfinished(region, queue_arn) == 0
