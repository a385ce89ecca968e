"""How a record becomes one Batch job: what is sent, how its size is counted, and what is done when the answer is in doubt.

SubmitJob has no idempotency token, so a job's name is its identity: `contract.job_name` gives each hand-over its own, and when it is
unclear whether a job was made, Batch is asked for the name. ListJobs may be behind, so a doubt ends in a failure and never in a second
submission: the next attempt looks again. (Two jobs of one name would still publish once: the second finds its claim taken.)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError
from urllib3.exceptions import HTTPError

from faassupervisor import contract, hops, spill
from faassupervisor.contract import Task
from faassupervisor.deadline import Deadline
from faassupervisor.errors import HandOverError
from faassupervisor.hops import Hop

if TYPE_CHECKING:
    from mypy_boto3_batch.client import BatchClient

    from faassupervisor.state import State

T = TypeVar("T")

_THROTTLED: Final = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"})
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_MOST_S: Final = 60.0  # then Lambda's own retry is the cheaper way to wait
_KEPT_S: Final = 0.5  # for the ledger's last word


class _AgainError(Exception):
    """Nothing was done: the request may be sent again. `perhaps` says that it may have been done after all."""

    def __init__(self, reason: str, *, perhaps: bool = False) -> None:
        super().__init__(reason)
        self.perhaps = perhaps


class _LostError(Exception):
    """The request went out and no answer came."""


class _Patience:
    """Growing pauses within the time that is left."""

    def __init__(self, deadline: Deadline, pause: Callable[[float], None]) -> None:
        self._end_s = deadline.for_agent_s() - min(_MOST_S, max(0.0, deadline.for_agent_s() - _KEPT_S))
        self._deadline, self._pause, self._next_s = deadline, pause, _FIRST_PAUSE_S

    def wait(self, what: str) -> None:
        """Raises HandOverError with `what` when no time is left for another try."""
        pause_s = self._next_s * (0.5 + random.random() / 2)  # noqa: S311  # thousands may be throttled together
        if self._deadline.for_agent_s() - pause_s <= self._end_s:
            raise HandOverError(what)
        self._pause(pause_s)
        self._next_s = min(self._next_s * 2, _LONGEST_PAUSE_S)


class Batch:
    """The queue and the job definition of one function. `main_node` is the `targetNodes` of the one node of a multi-node job that gets the
    task, None where a job has one. `pause` is `time.sleep`, but for tests.
    """

    def __init__(
        self,
        client: BatchClient,
        queue: str,
        definition: str,
        *,
        main_node: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._queue, self._definition, self._pause = client, queue, definition, pause
        self._main_node = main_node

    def hand_over(self, task: Task, name: str, deadline: Deadline, *, continued: bool) -> str:
        """The id of the one job of this name. `continued` says that an earlier attempt may have made it already.

        Raises HandOverError when there is none or nobody can tell. The usual case is one call.
        """
        patience = _Patience(deadline, self._pause)
        try:
            found = self._find(name, patience) if continued else None
            while found is None:
                try:
                    found = self._submit(task, name)
                except _AgainError as error:
                    patience.wait(f"{self._failed(name)}: {error}")
                    found = self._find(name, patience) if error.perhaps else None
                except _LostError as error:
                    found = self._look(name, patience, str(error))
        finally:
            # Lambda freezes us now. A connection that Batch closes meanwhile would look like a lost answer the next time.
            self._client.close()
        return found

    def request(self, task: Task, name: str) -> dict[str, Any]:
        overrides = _overrides(task)
        where: dict[str, Any] = {"containerOverrides": overrides}
        if self._main_node is not None:
            node = {"targetNodes": self._main_node, "containerOverrides": overrides}
            where = {"nodeOverrides": {"nodePropertyOverrides": [node]}}
        return {"jobName": name, "jobQueue": self._queue, "jobDefinition": self._definition, **where}

    def too_large(self, task: Task, name: str) -> tuple[Hop, int] | None:
        """The first hop that the task does not fit through, and its size there."""
        sizes = (
            (hops.ECS_OVERRIDES, hops.characters(_overrides(task))),
            (hops.SUBMIT_JOB, hops.sent_bytes(self.request(task, name))),
        )
        return next(((hop, size) for hop, size in sizes if not hop.fits(size)), None)

    def _submit(self, task: Task, name: str) -> str:
        answer = self._ask(lambda: self._client.submit_job(**self.request(task, name)))
        if not answer.get("jobId"):
            raise _LostError("SubmitJob's answer names no job")
        return answer["jobId"]

    def _look(self, name: str, patience: _Patience, reason: str) -> str:
        """Until the job shows itself, or time is over."""
        while True:
            patience.wait(
                f"{self._failed(name)}: {reason}; no job of this name is seen yet. It was not submitted again; "
                "the next attempt looks for it first"
            )
            found = self._find(name, patience)
            if found is not None:
                return found

    def _find(self, name: str, patience: _Patience) -> str | None:
        """The oldest job of exactly this name, whatever its status."""
        while True:
            try:
                jobs = self._ask(lambda: self._named(name))
            except (_AgainError, _LostError) as error:
                patience.wait(f"{self._failed(name)}: Batch cannot be asked whether it is there already: {error}")
                continue
            oldest = min(jobs, key=lambda job: job.get("createdAt", 0), default=None)
            return None if oldest is None else str(oldest["jobId"])

    def _named(self, name: str) -> Sequence[Any]:
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=self._queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        found: list[Any] = []
        for page in pages:
            if "jobSummaryList" not in page:  # to botocore a body that was cut is an answer without members
                raise _LostError("ListJobs's answer holds no list")
            found += [job for job in page["jobSummaryList"] if job["jobName"] == name]
        return found

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClientError as error:
            told, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            reason = f"{told.get('Code', '')}: {told.get('Message', '')}"
            if status == 429 or told.get("Code") in _THROTTLED:
                raise _AgainError(reason) from error
            if status >= 500:
                raise _AgainError(reason, perhaps=True) from error
            raise HandOverError(f"{self._failed(None)}: {self._explained(status, reason.rstrip('.'))}") from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise _AgainError(str(error)) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise _LostError(str(error)) from error

    def _failed(self, name: str | None) -> str:
        job = f"job {name}" if name else "the record"
        return f"{job} could not be handed over to Batch queue {self._queue}"

    def _explained(self, status: int, reason: str) -> str:
        if status == 403:
            return (
                f"access denied; the function's role needs batch:SubmitJob on the queue and on job definition {self._definition}, "
                f"and batch:ListJobs ({reason})"
            )
        return f"{reason}. Is the queue enabled, and is job definition {self._definition} there? `scar init` makes both anew"


def _overrides(task: Task) -> dict[str, Any]:
    """What a job's container is given: each node of a multi-node job is a task of ECS with overrides of its own."""
    return {"environment": [{"name": contract.TASK, "value": task.to_json().decode()}]}


def task_that_fits(batch: Batch, task: Task, event: bytes, name: str, state: State, *, may_spill: bool) -> Task:
    """The task with the event in it when every hop takes it, else with a reference to the event. Raises HandOverError when neither may be."""
    try:
        inline = replace(task, event=event.decode(), reference=None)
    except UnicodeDecodeError:  # JSON in UTF-16: Lambda takes it
        reason = "the event is not UTF-8."
    else:
        large = batch.too_large(inline, name)
        if large is None:
            return inline
        hop, size = large
        reason = f"{hop.refusal(size)}. {hop.fix}"
    if not may_spill:
        raise HandOverError(
            f"{reason} (This function's `lambda.spill` is false, so the event may not go through the state bucket.)"
        )
    return replace(task, event=None, reference=spill.put(state, event))
