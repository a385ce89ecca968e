"""What a function may have in Batch, by name: every place that its mark lists, its jobs' definitions, roles and log.

To be observed: what is there and ours comes back, all else is absent. Queues come before compute environments, those before profiles and
roles, and all before the state bucket, whose mark is how the rest is found again.
"""

from __future__ import annotations

from typing import Final

from scar.aws import names
from scar.aws.clients import Aws
from scar.aws.resources.batch_share import BatchShare, Leaving, sharers
from scar.aws.resources.compute_environment import ComputeEnvironment
from scar.aws.resources.failure_rule import FailureRule
from scar.aws.resources.instance_profile import InstanceProfile
from scar.aws.resources.invoke_config import InvokeConfig
from scar.aws.resources.job_definition import OldDefinitions
from scar.aws.resources.job_queue import JobQueue
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.role import Role
from scar.aws.tags import Pairs
from scar.plan.resource import Id, Resource

OWN: Final = ""  # the label of a place that is not shared


def own_places(name: str) -> Pairs:
    """Where a function's own queue may be, whatever its machines."""
    return tuple((names.batch_place(name, fargate=fargate), OWN) for fargate in (False, True))


def resources(aws: Aws, name: str, places: Pairs) -> tuple[Resource, ...]:
    """Everything to look for. Of a shared place that others use and this function does not, there is nothing."""
    state = Id("state bucket", names.state_bucket(aws.account, aws.region))
    roles = [
        Role(role, name, "", None, (), after=(state,))
        for role in (names.job_role(name, aws.region), names.execution_role(name, aws.region))
    ]
    group = names.batch_log_group(name)
    log_group = LogGroup(group, f"arn:{aws.partition}:logs:{aws.region}:{aws.account}:log-group:{group}", None, ())
    # A job that came at the last moment stops the queue from going, and needs all of these.
    needed = (state, log_group.id, *(role.id for role in roles), Id("repository", names.repository(name)))
    definitions = old_definitions(name, frozenset(), after=needed)
    rule = names.failure_rule(name)
    arn = f"arn:{aws.partition}:%s:{aws.region}:{aws.account}:%s"
    failures = FailureRule(rule, arn % ("events", f"rule/{rule}"), name, arn % ("lambda", f"function:{name}"), ())
    found: list[Resource] = [InvokeConfig(name, "", after=(failures.id,)), failures, *roles, log_group, definitions]
    for place, label in places:
        found += _place(aws, name, place, label or None, (state, definitions.id))
    return tuple(found)


def old_definitions(name: str, keep: frozenset[str], after: tuple[Id, ...] = ()) -> OldDefinitions:
    return OldDefinitions(name, keep, after=after)


def _place(aws: Aws, name: str, place: str, shared: str | None, after: tuple[Id, ...]) -> list[Resource]:
    state_bucket = after[0].name
    share: list[Resource] = []
    leaving: Leaving | None = None
    note = ""
    if shared is not None:
        users = sharers(aws, place)
        others = users - {name}
        if others and name not in users:
            return []
        if others:
            note = f"stays: {', '.join(sorted(others))} {'use' if len(others) > 1 else 'uses'} it, too"
        share = [BatchShare(place, name, state_bucket)]
        leaving = Leaving(place, name)
    marks = (*after, *(resource.id for resource in share))
    machines = names.instance_role(place, aws.region)
    role = Role(machines, name, "", None, (), shared=shared, leaving=leaving, after=marks, note=note)
    profile = InstanceProfile(machines, "", name, shared, (), leaving=leaving, after=(*marks, role.id), note=note)
    environment = ComputeEnvironment(
        name=place,
        function=name,
        shared=shared,
        managed=True,
        state="",
        service_role=None,
        resources=None,
        tags=(),
        leaving=leaving,
        after=(*marks, role.id, profile.id),
        note=note,
    )
    queue = JobQueue(
        name=place,
        function=name,
        shared=shared,
        environment=place,
        state="",
        tags=(),
        leaving=leaving,
        after=marks,
        note=note,
    )
    return [*share, role, profile, environment, queue]
