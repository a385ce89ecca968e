"""How much fits where on the way of an event, and how much of it this function takes up before any event comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from faassupervisor import contract, hops
from faassupervisor.hops import Hop
from scar.aws import tags
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.job_queue import JobQueue
from scar.design.job import main_target
from scar.fdl.model import Function
from scar.plan.resource import Resource

BY_REFERENCE: Final = "by reference"
REFUSED: Final = "refused"
_EVENTS: Final = (hops.SYNC_INVOKE, hops.ASYNC_INVOKE, hops.SUBMIT_JOB, hops.ECS_OVERRIDES)  # what an event rides in
_OF_JOBS: Final = (hops.JOB_DEFINITION, hops.SUBMIT_JOB, hops.ECS_OVERRIDES)
_EMPTY_EVENT: Final = "{}"
_REQUEST_ID: Final = "00000000-0000-0000-0000-000000000000"
_RUN: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Size:
    """One hop. `taken` is what is sent over it before anything of an event is, None where nothing is. `larger` says what becomes of what
    does not fit.
    """

    hop: Hop
    taken: int | None
    larger: str

    @property
    def left(self) -> int:
        return self.hop.room - (self.taken or 0)


def sizes(fn: Function, resources: Iterable[Resource]) -> tuple[Size, ...]:
    """Every hop that an event of the function may take, in the order of the way, as its design (`resources`) has it."""
    taken = _taken(fn, resources)
    mine = [hop for hop in hops.HOPS if fn.jobs is not None or hop not in _OF_JOBS]
    return tuple(Size(hop, taken.get(hop), _larger(fn, hop)) for hop in mine)


def _larger(fn: Function, hop: Hop) -> str:
    return BY_REFERENCE if hop in _EVENTS and fn.lambda_.spill else REFUSED


def _taken(fn: Function, resources: Iterable[Resource]) -> Mapping[Hop, int]:
    found: dict[Hop, int] = {}
    queue = definition = ""
    for resource in resources:
        match resource:
            case LambdaFunction():
                found[hops.LAMBDA_ENVIRONMENT] = hops.environment_bytes(dict(resource.environment))
            case JobDefinition():
                definition = resource.name
                asked: dict[str, Any] = json.loads(resource.request)
                said = {"jobDefinitionName": definition, "tags": tags.written(resource.tags), **asked}
                found[hops.JOB_DEFINITION] = hops.sent_bytes(said)
            case JobQueue():
                queue = resource.name
            case _:
                pass
    if queue and definition:
        overrides = _overrides(fn)
        name = contract.job_name(fn.name, _RUN, 1)
        request = {"jobName": name, "jobQueue": queue, "jobDefinition": definition, **_where(fn, overrides)}
        found |= {hops.SUBMIT_JOB: hops.sent_bytes(request), hops.ECS_OVERRIDES: hops.characters(overrides)}
    return found


def _overrides(fn: Function) -> dict[str, Any]:
    """What is overridden of a job's container for an event of nothing."""
    task = contract.Task(fn.name, _REQUEST_ID, _RUN, 1, event=_EMPTY_EVENT)
    return {"environment": [{"name": contract.TASK, "value": task.to_json().decode()}]}


def _where(fn: Function, overrides: dict[str, Any]) -> dict[str, Any]:
    """A multi-node job is given its task on the main node only."""
    target = None if fn.jobs is None else main_target(fn.jobs)
    if target is None:
        return {"containerOverrides": overrides}
    return {"nodeOverrides": {"nodePropertyOverrides": [{"targetNodes": target, "containerOverrides": overrides}]}}
