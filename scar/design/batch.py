"""Modes `batch` and `lambda-batch`: what a function has besides, so that its runs can be jobs.

One compute environment and one queue before it, the function's own or shared under a label; the definition of its jobs, with their log,
and a role for each who acts: the job, ECS, and the machines. Where it is deployed is not in the image: the function is told in its
environment what its queue and definition are called, and a job in its definition where the function's state is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faassupervisor import contract
from scar.aws import names, tags
from scar.aws.resources.batch_share import BatchShare
from scar.aws.resources.compute_environment import ComputeEnvironment
from scar.aws.resources.failure_rule import FailureRule
from scar.aws.resources.instance_profile import InstanceProfile
from scar.aws.resources.invoke_config import InvokeConfig
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.job_queue import JobQueue, TimeLimit
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.machines import Machines
from scar.aws.resources.role import Role, canonical
from scar.aws.tags import Pairs
from scar.design import code as codes
from scar.design import iam, job
from scar.design.lambda_ import Jobs, with_jobs
from scar.design.site import Made, Site
from scar.errors import UsageError
from scar.fdl.model import Batch, ComputeResources, Function
from scar.plan.resource import Id, Resource

# Why Batch lets a job wait at the head of the queue; source: batch/latest/userguide/job_stuck_in_runnable
WAITING_FOR = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
)
OLD_TEMPLATE = "faas-supervisor"  # made by earlier versions to install the agent, which is in the jobs' image now
STRATEGIES = {"EC2": "BEST_FIT_PROGRESSIVE", "SPOT": "SPOT_PRICE_CAPACITY_OPTIMIZED"}


@dataclass(frozen=True, slots=True)
class _Place:
    """What queue and compute environment are called, whose they are, and where the marks are that keep them."""

    name: str
    function: str
    shared: str | None
    tags: Pairs
    after: tuple[Id, ...]


def design(fn: Function, site: Site, made: Made) -> Iterable[Resource]:
    """Every resource of the function, in no particular order: `needs` has the order."""
    batch = fn.jobs
    assert batch is not None, "a mode with jobs"
    code = codes.design(fn, site, made)
    state = Id("state bucket", names.state_bucket(site.account, site.region))
    place, marks = _place(fn, batch, state)
    definition = _definition(fn, batch, site, code, state)
    queue = _queue(batch, place)
    jobs = Jobs(
        before=(
            *marks,
            *_environment(fn, batch, site, place),
            queue,
            *_roles(fn, site, code),
            _log_group(fn, site),
            definition,
        ),
        behind=_way_back(fn, site),
        variables=_variables(batch, queue, definition),
        statements=iam.hand_over(fn, site, queue.name),
        places=((place.name, batch.shared or ""),),
    )
    return with_jobs(fn, site, code, jobs)


def _variables(batch: Batch, queue: JobQueue, definition: JobDefinition) -> dict[str, str]:
    """Where the function hands its records over, and to which node of a multi-node job."""
    target = job.main_target(batch)
    nodes = {} if target is None else {contract.JOB_NODES: target}
    return {contract.JOB_QUEUE: queue.name, contract.JOB_DEFINITION: definition.name, **nodes}


def _way_back(fn: Function, site: Site) -> tuple[FailureRule, InvokeConfig]:
    """What Lambda gives up on returns to the function, which hands it over: by the default event bus, for no function is its own destination."""
    name = names.failure_rule(fn.name)
    rule = FailureRule(
        name=name,
        arn=site.arn("events", f"rule/{name}"),
        function=fn.name,
        function_arn=site.arn("lambda", f"function:{fn.name}"),
        tags=tags.of_function(fn.name, fn.lambda_.tags),
    )
    return rule, InvokeConfig(fn.name, on_failure=site.arn("events", "event-bus/default"), after=(rule.id,))


def _place(fn: Function, batch: Batch, state: Id) -> tuple[_Place, tuple[BatchShare, ...]]:
    """The marks are written before anything is made that they keep."""
    name = names.batch_place(fn.name, fargate=batch.fargate, shared=batch.shared)
    if batch.shared is None:
        return _Place(name, fn.name, None, tags.of_function(fn.name, fn.lambda_.tags), (state,)), ()
    share = BatchShare(
        name, fn.name, state.name, note=f"shared as {batch.shared}: goes with the last function that does"
    )
    return _Place(name, fn.name, batch.shared, tags.of_shared(batch.shared), (state, share.id)), (share,)


def _environment(fn: Function, batch: Batch, site: Site, place: _Place) -> Iterable[Resource]:
    """The compute environment, and the role and instance profile of its machines where it has some that are not the user's."""
    after = place.after
    profile: str | None = None
    if batch.type == "MANAGED" and not batch.fargate:
        given = batch.compute_resources.instance_role
        profile = _in_account(given, site) if given is not None else names.instance_role(place.name, site.region)
        if given is None:
            role = _instance_role(site, place)
            yield role
            note = "by which the machines come by their role"
            made = InstanceProfile(
                role.name, role.name, fn.name, place.shared, place.tags, after=place.after, note=note
            )
            yield made
            after = (*after, made.id)
    yield ComputeEnvironment(
        name=place.name,
        function=place.function,
        shared=place.shared,
        managed=batch.type == "MANAGED",
        state=batch.state,
        service_role=None if batch.service_role is None else _in_account(batch.service_role, site),
        resources=_machines(fn, batch, site, profile) if batch.type == "MANAGED" else None,
        tags=place.tags,
        after=after,
        note=_told(fn, batch, site),
    )


def _instance_role(site: Site, place: _Place) -> Role:
    return Role(
        name=names.instance_role(place.name, site.region),
        function=place.function,
        trust=canonical(iam.trust("ec2")),
        policy=None,
        tags=place.tags,
        attached=(iam.ecs_instance_policy(site),),
        shared=place.shared,
        after=place.after,
        note="for the machines that run jobs",
    )


def _machines(fn: Function, batch: Batch, site: Site, profile: str | None) -> Machines:
    wanted = batch.compute_resources
    subnets, groups = _network(fn, wanted, site)
    if batch.fargate:
        return Machines(wanted.type, None, 0, wanted.max_v_cpus, 0, subnets=subnets, security_groups=groups)
    return Machines(
        type=wanted.type,
        allocation_strategy=wanted.allocation_strategy or STRATEGIES[wanted.type],
        min_vcpus=wanted.min_v_cpus,
        max_vcpus=wanted.max_v_cpus,
        desired_vcpus=max(wanted.desired_v_cpus, wanted.min_v_cpus),
        instance_types=_instance_types(fn, wanted),
        subnets=subnets,
        security_groups=groups,
        instance_role=profile,
        launch_template=None if wanted.launch_template_name == OLD_TEMPLATE else wanted.launch_template_name,
        placement_group=wanted.placement_group,
    )


def _instance_types(fn: Function, wanted: ComputeResources) -> tuple[str, ...]:
    return wanted.instance_types or (f"default_{fn.lambda_.architecture}",)


def _network(fn: Function, wanted: ComputeResources, site: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Subnets and security groups: the definition's, and what it leaves open from the site's network."""
    if wanted.subnets and wanted.security_group_ids:
        return wanted.subnets, wanted.security_group_ids
    if site.network is None:
        raise UsageError(
            "there is no default VPC to take subnets and security groups from",
            where=f"{fn.name}: batch.compute_resources.subnets",
            fix="Name `subnets` and `security_group_ids`.",
        )
    return wanted.subnets or site.network.subnets, wanted.security_group_ids or site.network.security_groups


def _queue(batch: Batch, place: _Place) -> JobQueue:
    return JobQueue(
        name=place.name,
        function=place.function,
        shared=place.shared,
        environment=place.name,
        state=batch.state,
        tags=place.tags,
        priority=batch.priority,
        time_limits=tuple(TimeLimit(reason, batch.max_runnable_time) for reason in WAITING_FOR),
        after=place.after,
        note=f"waits for compute environment {place.name}; a job that finds no room for {batch.max_runnable_time} s is cancelled",
    )


def _definition(fn: Function, batch: Batch, site: Site, code: codes.Design, state: Id) -> JobDefinition:
    before = [resource.id for resource in code.made if resource.id.kind in {"repository", "image"}]
    roles = (names.job_role(fn.name, site.region), names.execution_role(fn.name, site.region))
    images = job.Images(code.job_image, code.node_images)
    return JobDefinition(
        name=job.name(fn, batch, site, images),
        function=fn.name,
        request=canonical(job.request(fn, batch, site, images)),
        tags=job.tags_of(fn),
        after=(*before, *(Id("role", role) for role in roles), Id("log group", names.batch_log_group(fn.name)), state),
        note=job.told(batch),
    )


def _roles(fn: Function, site: Site, code: codes.Design) -> tuple[Role, Role]:
    """Of the job, and of ECS, which starts it."""
    trust = canonical(iam.trust("ecs-tasks"))
    own = tags.of_function(fn.name, fn.lambda_.tags)
    execution = iam.execution_policy(fn, site, code.job_repository)
    return (
        Role(names.job_role(fn.name, site.region), fn.name, trust, canonical(iam.job_policy(fn, site)), own, note="for jobs"),
        Role(
            names.execution_role(fn.name, site.region), fn.name, trust, canonical(execution), own,
            note="for ECS: pulls the jobs' image and writes their log",
        ),
    )  # fmt: skip


def _log_group(fn: Function, site: Site) -> LogGroup:
    name = names.batch_log_group(fn.name)
    return LogGroup(
        name=name,
        arn=site.arn("logs", f"log-group:{name}"),
        retention_days=fn.cloudwatch.log_retention_policy_in_days,
        tags=tags.of_function(fn.name, fn.lambda_.tags),
    )


def _in_account(text: str, site: Site) -> str:
    return text.replace("{account_id}", site.account)


def _told(fn: Function, batch: Batch, site: Site) -> str:
    """What a person wants to know before it is made: what it is, what it costs while nothing runs, and where it stands."""
    if batch.type == "UNMANAGED":
        return "machines are yours to start, to register and to stop"
    wanted = batch.compute_resources
    what = "" if batch.fargate else f" ({', '.join(_instance_types(fn, wanted))})"
    kept = 0 if batch.fargate else wanted.min_v_cpus
    cost = "costs nothing while no job runs" if not kept else f"{kept} vCPUs are kept and paid for, jobs or not"
    parts = [f"{wanted.type}{what}, up to {wanted.max_v_cpus} vCPUs", cost]
    if (network := site.network) is not None:
        whose = f"the default VPC {network.vpc}" if network.default else network.vpc
        missing = [
            *(["subnets"] if not wanted.subnets else []),
            *(["security group"] if not wanted.security_group_ids else []),
        ]
        parts += [f"{' and '.join(missing)} of {whose}"] if missing else []
    if wanted.placement_group is not None:
        parts.append(f"in placement group {wanted.placement_group}")
    if batch.state == "DISABLED":
        parts.append("DISABLED: runs no jobs")
    return "; ".join(parts)
