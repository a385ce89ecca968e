"""A compute environment of Batch: the machines that jobs run on, from none to so many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import is_related, is_taken
from scar.aws.resources import batch_states as states
from scar.aws.resources.batch_share import Leaving
from scar.aws.resources.machines import Machines
from scar.aws.tags import Pairs
from scar.aws.wait import until
from scar.errors import ConflictError, ScarError
from scar.plan.resource import Id

KIND: Final = "compute environment"
ROLE_DEADLINE_S: Final = 120.0  # a new role or instance profile is known to Batch within seconds, rarely a minute
# The longest that Batch grants the jobs on machines that are replaced (botocore batch:UpdatePolicy; the guide speaks of 360 minutes).
LAST_JOBS_MIN: Final = 360

# Batch's own role, which it names where none was given.
_LINKED_ROLE: Final = "AWSServiceRoleForBatch"
# `CLIENT_ERROR - User: batch.amazonaws.com is not authorized to perform: sts:AssumeRole on resource …` and
# `CLIENT_ERROR - Invalid IamInstanceProfile: …` (hashicorp/terraform-provider-aws#21281, Netflix/metaflow-tools#9).
_OF_A_ROLE: Final = re.compile(r"\brole\b|instance ?profile|assumerole|not authorized", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ComputeEnvironment:
    """`shared` is the label of the functions that share it, None for one function's own. `resources` is None for an unmanaged one.

    `service_role` is None for Batch's own role. `status` is VALID unless Batch has not finished, or failed, making it so; `reason` is what
    it says of that. Without `state` it is looked for by name, and what is not ours is not there; `leaving` is then how what is shared goes.
    """

    name: str
    function: str
    shared: str | None
    managed: bool
    state: str
    service_role: str | None
    resources: Machines | None
    tags: Pairs
    status: str = states.VALID
    reason: str = field(default="", compare=False)
    leaving: Leaving | None = field(default=None, compare=False)
    after: tuple[Id, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return Id(KIND, self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    def read(self, aws: Aws) -> ComputeEnvironment | None:
        found = self._ask(aws)
        if states.status_of(found) == states.DELETED or found is None:
            return None
        owned = tags.pairs(found.get("tags") or {})
        if not self.state and not tags.is_ours(owned, self.function, self.shared):
            return None
        tags.ours_only(owned, str(self.id), self.function, self.shared)
        actual = self._as_it_is(found, owned)
        if self.state and actual.status != "DELETING":
            self._refuse_what_never_changes(actual)
        return actual

    def create(self, aws: Aws) -> None:
        """Asks again while Batch does not yet know a role, or makes it anew when that turned it INVALID; then waits until it is VALID."""
        refusals: list[str] = []
        started = aws.clock.monotonic()

        def attempt() -> bool | None:
            try:
                aws.batch.create_compute_environment(**self._request())
            except ClientError as error:
                message = str(error)
                if is_taken(error):
                    return self._take_over(aws)
                if not _OF_A_ROLE.search(message):
                    raise
                refusals.append(message)
                return None
            found = states.appeared(lambda: self._ask(aws), aws, str(self.id))
            if states.status_of(found) == states.VALID:
                return True
            reason = str(found.get("statusReason", ""))
            patient = aws.clock.monotonic() - started < min(ROLE_DEADLINE_S, aws.patience_s)
            if not (_OF_A_ROLE.search(reason) and patient):
                raise self._invalid(reason)
            refusals.append(reason)
            self._remove(aws, found)
            return None

        def what() -> str:
            return f"Batch to accept the roles of {self.name}; it said: {refusals[-1] if refusals else 'nothing'}"

        until(attempt, deadline_s=min(ROLE_DEADLINE_S, aws.patience_s), what=what, clock=aws.clock)

    def update(self, aws: Aws, actual: ComputeEnvironment) -> None:
        """Sends what differs. An INVALID one is sent its state again, and made anew if that does not help and no queue holds it."""
        if actual.status not in (states.VALID, states.INVALID):
            found = states.settled(lambda: self._ask(aws), aws, str(self.id))
            if found is None:
                return self.create(aws)
            actual = self._as_it_is(found, actual.tags)
        self._refuse_what_never_changes(actual)
        changes = self._changes(actual)
        if actual.status == states.INVALID or changes:
            try:
                self._send(aws, {"state": self.state, **changes})
            except ClientError:
                if actual.status != states.INVALID:
                    raise  # else it is made anew, if it can be
            found = states.settled(lambda: self._ask(aws), aws, str(self.id))
            if found is None or (states.status_of(found) == states.INVALID and self._remove(aws, found)):
                return self.create(aws)
            if states.status_of(found) == states.INVALID:
                raise self._invalid(str(found.get("statusReason", "")))
        states.retag(aws, self._arn(aws), actual.tags, self.tags)
        return None

    def delete(self, aws: Aws) -> None:
        if self.leaving is not None and self.leaving.stays(aws):
            return
        found = self._ask(aws)
        if found is None or not tags.is_ours(tags.pairs(found.get("tags") or {}), self.function, self.shared):
            return
        if not self._remove(aws, found):
            raise ConflictError(
                f"{self.id} is still used by a job queue that scar did not make",
                fix="Remove that queue, or take the environment out of it; then run the same command again.",
            )

    def _ask(self, aws: Aws) -> states.Found | None:
        found = aws.batch.describe_compute_environments(computeEnvironments=[self.name])["computeEnvironments"]
        return found[0] if found else None

    def _arn(self, aws: Aws) -> str:
        return states.arn(aws, f"compute-environment/{self.name}")

    def _as_it_is(self, found: states.Found, owned: Pairs) -> ComputeEnvironment:
        role = str(found.get("serviceRole") or "")
        resources: Mapping[str, Any] = found.get("computeResources") or {}
        return replace(
            self,
            managed=found.get("type", "MANAGED") == "MANAGED",
            state=found.get("state", states.ENABLED),
            service_role=None if not role or role.endswith(f"/{_LINKED_ROLE}") else _spelled(role, self.service_role),
            resources=Machines.of(resources, self.resources) if resources else None,
            tags=owned,
            status=states.status_of(found),
            reason=str(found.get("statusReason", "")),
        )

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = {
            "computeEnvironmentName": self.name,
            "type": "MANAGED" if self.managed else "UNMANAGED",
            "state": self.state,
            "tags": tags.written(self.tags),
        }
        if self.service_role is not None:
            request["serviceRole"] = self.service_role
        if self.resources is not None:
            request["computeResources"] = self.resources.request()
        return request

    def _changes(self, actual: ComputeEnvironment) -> dict[str, Any]:
        """What UpdateComputeEnvironment is sent beside the state; empty when nothing differs."""
        changes: dict[str, Any] = {}
        if self.state != actual.state:
            changes["state"] = self.state
        if self.service_role != actual.service_role:
            changes["serviceRole"] = self.service_role
        if self.resources is not None and actual.resources is not None and self.resources != actual.resources:
            changes["computeResources"] = self.resources.update_of(actual.resources)
            if self.resources.replaces(actual.resources):
                changes["updatePolicy"] = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": LAST_JOBS_MIN}
        return changes

    def _refuse_what_never_changes(self, actual: ComputeEnvironment) -> None:
        why = self._never_changes(actual)
        if why is None:
            return
        whose = "" if self.shared is None else " The other functions that share it must be removed, too."
        raise ConflictError(
            f"{self.id}: {why}",
            fix=f"Remove it with `scar rm -n {self.function}`, then run this again.{whose}",
        )

    def _never_changes(self, actual: ComputeEnvironment) -> str | None:
        """What AWS would refuse to change, in words (Batch user guide, updating-compute-environments; API reference)."""
        if self.managed != actual.managed:
            return "a managed compute environment never becomes an unmanaged one, nor the other way round"
        if (self.service_role is None) != (actual.service_role is None):
            return "a compute environment cannot change between Batch's own service role and another one"
        if self.resources is None or actual.resources is None:
            return None
        return self.resources.never_becomes(actual.resources, custom_role=actual.service_role is not None)

    def _take_over(self, aws: Aws) -> bool | None:
        """It is there after all: ours from an answer that was lost (finish it), or another's (refuse)."""
        actual = self.read(aws)
        if actual is None:
            return None
        if actual != self:
            self.update(aws, actual)
        return True

    def _send(self, aws: Aws, changes: Mapping[str, Any]) -> None:
        def send() -> object:
            return aws.batch.update_compute_environment(computeEnvironment=self.name, **changes)

        states.patiently(send, aws, f"a change of {self.id}")

    def _remove(self, aws: Aws, found: states.Found) -> bool:
        """Disable, delete and see it gone. Answers False, and leaves it as it was, when a queue holds it."""
        ask = lambda: self._ask(aws)  # noqa: E731  # the one question of this method
        if states.status_of(found) not in (states.VALID, states.INVALID):
            settled = states.settled(ask, aws, str(self.id))
            if settled is None:
                return True
            found = settled
        was = str(found.get("state", states.ENABLED))
        if was != states.DISABLED:
            self._send(aws, {"state": states.DISABLED})
            states.settled(ask, aws, str(self.id))
        if not self._sent_away(aws):
            if was != states.DISABLED:
                self._send(aws, {"state": was})
                states.settled(ask, aws, str(self.id))
            return False
        left = states.gone(ask, aws, str(self.id))
        if left is not None:
            raise self._invalid(str(left.get("statusReason", "")))
        return True

    def _sent_away(self, aws: Aws) -> bool:
        """Ask for the deletion. A queue that went a moment ago still holds it for a while (hashicorp/terraform-provider-aws#46925)."""

        def attempt() -> bool | None:
            try:
                states.patiently(
                    lambda: aws.batch.delete_compute_environment(computeEnvironment=self.name), aws, f"-{self.id}"
                )
            except ClientError as error:
                if not is_related(error):
                    raise
                return False if self._queues(aws) else None
            return True

        what = f"Batch to forget the queue of {self.id}"
        return until(attempt, deadline_s=aws.patience_s, what=what, clock=aws.clock)

    def _queues(self, aws: Aws) -> bool:
        """Whether any queue that is not on its way out holds it."""
        mine = self._arn(aws)
        return any(
            order["computeEnvironment"] in (mine, self.name)
            for page in aws.batch.get_paginator("describe_job_queues").paginate()
            for queue in page["jobQueues"]
            if queue.get("status") not in ("DELETING", states.DELETED)
            for order in queue.get("computeEnvironmentOrder", ())
        )

    def _invalid(self, reason: str) -> ScarError:
        return ScarError(
            f"{self.id} is INVALID; Batch says: {reason or 'nothing more'}",
            fix="Put right what it names, then run the same command again.",
        )


def _spelled(found: str, wanted: str | None) -> str:
    """A role may be given by its name or its ARN; the one that is wanted where both mean the same."""
    same = wanted is not None and found.rpartition("/")[2] == wanted.rpartition("/")[2]
    return wanted if same and wanted is not None else found
