"""A job queue of Batch before one compute environment. It goes only when no job in it is unfinished."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import is_taken
from scar.aws.resources import batch_states as states
from scar.aws.resources import unfinished_jobs as jobs
from scar.aws.resources.batch_share import Leaving
from scar.aws.tags import Pairs
from scar.errors import ScarError
from scar.plan.resource import Id

KIND: Final = "job queue"


@dataclass(frozen=True, slots=True, order=True)
class TimeLimit:
    """What Batch does with a job that has waited `max_time_s` (600 to 86400) for the reason that it gives as its status reason."""

    reason: str
    max_time_s: int
    action: str = "CANCEL"
    state: str = "RUNNABLE"


@dataclass(frozen=True, slots=True)
class JobQueue:
    """`environment` is a compute environment's name. Without `state` the queue is looked for by name, and what is not ours is not there.

    `stop_jobs`: `delete` ends the jobs that have not finished instead of refusing to go. `leaving` is how a queue that is shared goes.
    """

    name: str
    function: str
    shared: str | None
    environment: str
    state: str
    tags: Pairs
    priority: int = 1
    time_limits: tuple[TimeLimit, ...] = ()
    status: str = states.VALID
    stop_jobs: bool = field(default=False, compare=False)
    leaving: Leaving | None = field(default=None, compare=False)
    after: tuple[Id, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return Id(KIND, self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("compute environment", self.environment), *self.after)

    def read(self, aws: Aws) -> JobQueue | None:
        found = self._ask(aws)
        if found is None or states.status_of(found) == states.DELETED:
            return None
        owned = tags.pairs(found.get("tags") or {})
        if not self.state and not tags.is_ours(owned, self.function, self.shared):
            return None
        tags.ours_only(owned, str(self.id), self.function, self.shared)
        return self._as_it_is(found, owned)

    def create(self, aws: Aws) -> None:
        try:
            aws.batch.create_job_queue(jobQueueName=self.name, tags=tags.written(self.tags), **self._settings(aws))
        except ClientError as error:
            if not is_taken(error):
                raise
            actual = self.read(aws)
            if actual is None:
                raise
            if actual != self:
                self.update(aws, actual)
            return
        self._must_be_valid(states.appeared(lambda: self._ask(aws), aws, str(self.id)))

    def update(self, aws: Aws, actual: JobQueue) -> None:
        if actual.status not in (states.VALID, states.INVALID):
            found = states.settled(lambda: self._ask(aws), aws, str(self.id))
            if found is None:
                return self.create(aws)
            actual = self._as_it_is(found, actual.tags)
        if replace(actual, tags=self.tags) != self:
            there = states.patiently(
                lambda: aws.batch.update_job_queue(jobQueue=self.name, **self._settings(aws)), aws, f"~{self.id}"
            )
            found = states.settled(lambda: self._ask(aws), aws, str(self.id)) if there else None
            if found is None:
                return self.create(aws)
            self._must_be_valid(found)
        states.retag(aws, states.arn(aws, f"job-queue/{self.name}"), actual.tags, self.tags)
        return None

    def delete(self, aws: Aws) -> None:
        """Refuses, or ends them where it may, while jobs are unfinished: those that wait already, and those that came meanwhile.

        Where other functions share the queue, only this function's jobs matter, and the queue stays.
        """
        if self.leaving is not None:
            if self.leaving.others(aws):
                self._clear(aws, all_jobs=False)
            if self.leaving.stays(aws):
                return
        found = self._ask(aws)
        if found is None or not tags.is_ours(tags.pairs(found.get("tags") or {}), self.function, self.shared):
            return
        if states.status_of(found) not in (states.VALID, states.INVALID):
            found = states.settled(lambda: self._ask(aws), aws, str(self.id))
            if found is None:
                return
        if not self.stop_jobs:
            jobs.refuse(jobs.at_a_glance(aws, self.name, None), self.function)
        if found.get("state") != states.DISABLED:
            states.patiently(
                lambda: aws.batch.update_job_queue(jobQueue=self.name, state=states.DISABLED), aws, f"-{self.id}"
            )
            states.settled(lambda: self._ask(aws), aws, str(self.id))
        self._clear(aws, all_jobs=True)
        states.patiently(lambda: aws.batch.delete_job_queue(jobQueue=self.name), aws, f"-{self.id}")
        left = states.gone(lambda: self._ask(aws), aws, str(self.id))
        if left is not None:
            self._must_be_valid(left)

    def unfinished(self, aws: Aws) -> tuple[jobs.Unfinished, ...]:
        """The function's jobs that would hold the queue; all of its jobs where the queue would go with them."""
        others = self.leaving is not None and self.leaving.others(aws)
        return jobs.at_a_glance(aws, self.name, self.function if others else None)

    def _unfinished(self, aws: Aws, *, all_jobs: bool) -> tuple[jobs.Unfinished, ...]:
        return jobs.unfinished(aws, self.name, None if all_jobs else self.function)

    def _clear(self, aws: Aws, *, all_jobs: bool) -> None:
        if self.stop_jobs:
            jobs.stop(aws, lambda: self._unfinished(aws, all_jobs=all_jobs), f"scar rm -n {self.function} --stop-jobs")
        else:
            jobs.refuse(self._unfinished(aws, all_jobs=all_jobs), self.function)

    def _ask(self, aws: Aws) -> states.Found | None:
        found = aws.batch.describe_job_queues(jobQueues=[self.name])["jobQueues"]
        return found[0] if found else None

    def _as_it_is(self, found: states.Found, owned: Pairs) -> JobQueue:
        order = sorted(found.get("computeEnvironmentOrder") or (), key=lambda item: item["order"])
        limits = (
            TimeLimit(item["reason"], item["maxTimeSeconds"], item["action"], item["state"])
            for item in found.get("jobStateTimeLimitActions") or ()
        )
        told = tuple(limits)
        return replace(
            self,
            environment=",".join(item["computeEnvironment"].rpartition("/")[2] for item in order),
            state=found.get("state", states.ENABLED),
            tags=owned,
            priority=found.get("priority", 1),
            time_limits=self.time_limits if sorted(told) == sorted(self.time_limits) else told,
            status=states.status_of(found),
        )

    def _settings(self, aws: Aws) -> dict[str, Any]:
        environment = states.arn(aws, f"compute-environment/{self.environment}")
        return {
            "state": self.state,
            "priority": self.priority,
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": environment}],
            "jobStateTimeLimitActions": [
                {"reason": item.reason, "state": item.state, "maxTimeSeconds": item.max_time_s, "action": item.action}
                for item in self.time_limits
            ],
        }

    def _must_be_valid(self, found: states.Found) -> None:
        if states.status_of(found) != states.INVALID:
            return
        reason = found.get("statusReason") or "nothing more"
        raise ScarError(
            f"{self.id} is INVALID; Batch says: {reason}",
            fix="Put right what it names, then run the same command again.",
        )
