"""The definition of a function's jobs: what RegisterJobDefinition is asked for, and that it fits."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from faassupervisor import contract, hops
from scar.aws import names, tags
from scar.aws.resources.role import canonical
from scar.aws.tags import Pairs
from scar.design.site import Site
from scar.errors import UsageError
from scar.fdl.model import Batch, Function

# A job is started again only when its machine was taken away: `Host EC2 (instance i-…) terminated.` for EC2 and Spot
# (batch/latest/userguide/bestpractices), `Your Spot Task was interrupted.` for Fargate Spot (AmazonECS/latest/developerguide/fargate-capacity-
# providers). What matches nothing would be retried, so the last two match everything, with a reason and without.
EVALUATE: Final = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onStatusReason": "Your Spot Task was interrupted.", "action": "RETRY"},
    {"onStatusReason": "*", "action": "EXIT"},
    {"onReason": "*", "action": "EXIT"},
)
_ARCHITECTURES: Final = {"x86_64": "X86_64", "arm64": "ARM64"}


def name(fn: Function, batch: Batch, site: Site, image: str) -> str:
    """Made of what it says. Raises UsageError for a definition that Batch would not take."""
    asked = request(fn, batch, site, image)
    said = names.job_definition(fn.name, hashlib.sha256(canonical(asked).encode()).hexdigest())
    size = hops.sent_bytes({"jobDefinitionName": said, "tags": tags.written(tags_of(fn)), **asked})
    if not hops.JOB_DEFINITION.fits(size):
        fix = hops.JOB_DEFINITION.fix
        raise UsageError(hops.JOB_DEFINITION.refusal(size), where=f"{fn.name}: batch.environment", fix=fix)
    return said


def tags_of(fn: Function) -> Pairs:
    return tags.of_function(fn.name, fn.lambda_.tags)


def request(fn: Function, batch: Batch, site: Site, image: str) -> dict[str, Any]:
    """RegisterJobDefinition's parameters, without the name and the tags."""
    return {
        "type": "container",
        "platformCapabilities": ["FARGATE" if batch.fargate else "EC2"],
        "containerProperties": {
            "image": image,
            "jobRoleArn": site.role_arn(names.job_role(fn.name, site.region)),
            "executionRoleArn": site.role_arn(names.execution_role(fn.name, site.region)),
            "resourceRequirements": _resources(batch),
            "environment": [
                {"name": name, "value": value} for name, value in sorted(environment(fn, batch, site).items())
            ],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": names.batch_log_group(fn.name),
                    "awslogs-region": site.region,
                    "awslogs-stream-prefix": fn.name,
                },
            },
            **(_fargate(fn, batch, site) if batch.fargate else {}),
        },
        "timeout": {"attemptDurationSeconds": batch.timeout},
        "retryStrategy": {"attempts": batch.attempts, "evaluateOnExit": [dict(rule) for rule in EVALUATE]},
        "propagateTags": True,
    }


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
    return f"{batch.vcpus} vCPU{'' if batch.vcpus == '1' else 's'}, {batch.memory} MiB{gpu}, at most {batch.timeout} s"


def _resources(batch: Batch) -> list[dict[str, str]]:
    wanted = [("VCPU", batch.vcpus), ("MEMORY", str(batch.memory)), *([("GPU", "1")] if batch.enable_gpu else [])]
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
