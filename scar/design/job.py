"""The definition of a function's jobs: what RegisterJobDefinition is asked for, and that it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from faassupervisor import contract, hops
from scar.aws import names, tags
from scar.aws.resources.role import canonical
from scar.aws.tags import Pairs
from scar.design.network_access import job_volumes
from scar.design.site import Site
from scar.errors import UsageError
from scar.fdl.model import Batch, Function
from scar.fdl.nodes import NodeGroup

# A job is started again only when its machine was taken away: `Host EC2 (instance i-…) terminated.` for EC2 and Spot
# (batch/latest/userguide/bestpractices), `Your Spot Task was interrupted.` for Fargate Spot (AmazonECS/latest/developerguide/fargate-capacity-
# providers). What matches nothing would be retried, so the last two match everything, with a reason and without.
EVALUATE: Final = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onStatusReason": "Your Spot Task was interrupted.", "action": "RETRY"},
    {"onStatusReason": "*", "action": "EXIT"},
    {"onReason": "*", "action": "EXIT"},
)
LAST_WORDS_S: Final = 15  # of a job's time, so that its main node can still say who never came
LEAST_SHARED_MEMORY_MIB: Final = 64  # a container's own when nothing is said: docs.docker.com, docker run --shm-size
_ARCHITECTURES: Final = {"x86_64": "X86_64", "arm64": "ARM64"}


@dataclass(frozen=True, slots=True)
class Images:
    """What jobs run, as a job definition names it: the function's `own` image, and those of ranges of nodes that name another."""

    own: str
    others: Mapping[str, str] = field(default_factory=dict)

    def of(self, group: NodeGroup) -> str:
        return self.own if group.image is None else self.others[group.image]


def name(fn: Function, batch: Batch, site: Site, images: Images) -> str:
    """Made of what it says. Raises UsageError for a definition that Batch would not take."""
    asked = request(fn, batch, site, images)
    said = names.job_definition(fn.name, hashlib.sha256(canonical(asked).encode()).hexdigest())
    size = hops.sent_bytes({"jobDefinitionName": said, "tags": tags.written(tags_of(fn)), **asked})
    if not hops.JOB_DEFINITION.fits(size):
        fix = hops.JOB_DEFINITION.fix
        raise UsageError(hops.JOB_DEFINITION.refusal(size), where=f"{fn.name}: batch.environment", fix=fix)
    return said


def tags_of(fn: Function) -> Pairs:
    return tags.of_function(fn.name, fn.lambda_.tags)


def request(fn: Function, batch: Batch, site: Site, images: Images) -> dict[str, Any]:
    """RegisterJobDefinition's parameters, without the name and the tags."""
    return {
        **(_nodes(fn, batch, site, images) if batch.nodes else _container(fn, batch, site, images)),
        "timeout": {"attemptDurationSeconds": batch.timeout},
        "retryStrategy": {"attempts": batch.attempts, "evaluateOnExit": [dict(rule) for rule in EVALUATE]},
        "propagateTags": True,
    }


def main_target(batch: Batch) -> str | None:
    """`targetNodes` of the main node, which alone is given a task; None for jobs of one machine."""
    main = batch.multi_node_parallel.main_node_index
    return f"{main}:{main}" if batch.nodes else None


def _container(fn: Function, batch: Batch, site: Site, images: Images) -> dict[str, Any]:
    properties = _properties(fn, site, images.own, _resources(batch.vcpus, batch.memory, gpu=batch.enable_gpu))
    return {
        "type": "container",
        "platformCapabilities": ["FARGATE" if batch.fargate else "EC2"],
        "containerProperties": {
            **properties,
            "environment": _pairs(environment(fn, batch, site)),
            **(_fargate(fn, batch, site) if batch.fargate else {}),
        },
    }


def _nodes(fn: Function, batch: Batch, site: Site, images: Images) -> dict[str, Any]:
    """Ranges that have no node in common, the main node alone in one: nothing is left to an order of precedence."""
    several = batch.multi_node_parallel
    return {
        "type": "multinode",
        "nodeProperties": {
            "numNodes": several.number_nodes,
            "mainNode": several.main_node_index,
            "nodeRangeProperties": [
                {"targetNodes": group.target, "container": _node(fn, batch, site, images, group)}
                for group in batch.nodes
            ],
        },
    }


def _node(fn: Function, batch: Batch, site: Site, images: Images, group: NodeGroup) -> dict[str, Any]:
    several = batch.multi_node_parallel
    gang = contract.Gang(
        slots=group.slots,
        start_timeout_s=max(1, min(several.start_timeout, batch.timeout - LAST_WORDS_S)),
        input_on_workers=several.input_on_workers,
        script_on_workers=several.script_on_workers,
    )
    told = {**environment(fn, batch, site), contract.GANG: gang.to_json().decode()}
    return {
        **_properties(fn, site, images.of(group), _resources(str(group.vcpus), group.memory_mib, gpu=batch.enable_gpu)),
        "environment": _pairs(told),
        "linuxParameters": {"sharedMemorySize": shared_memory_mib(group.memory_mib)},
    }


def shared_memory_mib(memory_mib: int) -> int:
    """Half of a node's memory: what Linux gives `/dev/shm` by itself (tmpfs(5)), and MPI passes messages within a node through that.

    A container has 64 MiB without being asked (docker run --shm-size): Open MPI and MPICH die with SIGBUS when it is full. It is a bound
    and no reservation: only what is written there is taken from the memory of the job.
    """
    return max(LEAST_SHARED_MEMORY_MIB, memory_mib // 2)


def _properties(fn: Function, site: Site, image: str, resources: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "image": image,
        **job_volumes(fn),
        "jobRoleArn": site.role_arn(names.job_role(fn.name, site.region)),
        "executionRoleArn": site.role_arn(names.execution_role(fn.name, site.region)),
        "resourceRequirements": resources,
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": names.batch_log_group(fn.name),
                "awslogs-region": site.region,
                "awslogs-stream-prefix": fn.name,
            },
        },
    }


def _pairs(variables: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def environment(fn: Function, batch: Batch, site: Site) -> dict[str, str]:
    """What every job of the function finds in its environment besides its task."""
    return {
        **batch.environment,
        contract.STATE: names.state_uri(site.account, site.region, fn.name),
        "AWS_REGION": site.region,
        "AWS_DEFAULT_REGION": site.region,
    }


def told(batch: Batch) -> str:
    """For the plan."""
    gpu = ", 1 GPU" if batch.enable_gpu else ""
    if not batch.nodes:
        return f"{_size(batch.vcpus, batch.memory)}{gpu}, at most {batch.timeout} s"
    several = batch.multi_node_parallel
    sizes: dict[str, int] = {}
    for group in batch.nodes:
        size = f"{_size(str(group.vcpus), group.memory_mib)}{gpu}"
        sizes[size] = sizes.get(size, 0) + group.count
    nodes = " and ".join(f"{count} node{'' if count == 1 else 's'} of {size}" for size, count in sizes.items())
    return f"{nodes}, main node {several.main_node_index}, at most {batch.timeout} s"


def _size(vcpus: str, memory_mib: int) -> str:
    return f"{vcpus} vCPU{'' if vcpus == '1' else 's'}, {memory_mib} MiB"


def _resources(vcpus: str, memory_mib: int, *, gpu: bool) -> list[dict[str, str]]:
    wanted = [("VCPU", vcpus), ("MEMORY", str(memory_mib)), *([("GPU", "1")] if gpu else [])]
    return [{"type": kind, "value": value} for kind, value in wanted]


def _fargate(fn: Function, batch: Batch, site: Site) -> dict[str, Any]:
    """Only where we chose the subnets do we know that the way out of them needs a public address."""
    chosen = not batch.compute_resources.subnets and site.network is not None and site.network.public
    return {
        "networkConfiguration": {"assignPublicIp": "ENABLED" if chosen else "DISABLED"},
        "fargatePlatformConfiguration": {"platformVersion": "LATEST"},
        "runtimePlatform": {
            "operatingSystemFamily": "LINUX",
            "cpuArchitecture": _ARCHITECTURES[fn.lambda_.architecture],
        },
    }
