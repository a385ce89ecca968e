"""What a compute environment's resources may be: members that its type has, numbers that fit each other, one architecture.

Source: botocore batch:ComputeResource; the texts are Batch's, as users have reported them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import ClientError_, executing

Resources = Mapping[str, Any]

FARGATE: Final = frozenset({"FARGATE", "FARGATE_SPOT"})
BEST_FIT: Final = "BEST_FIT"  # what Batch takes when no strategy is given
# botocore batch:ComputeResource: "This parameter isn't applicable to jobs that are running on Fargate resources."
_NOT_FARGATE: Final = (
    "allocationStrategy", "minvCpus", "desiredvCpus", "instanceTypes", "imageId", "ec2KeyPair", "instanceRole", "tags", "placementGroup",
    "bidPercentage", "spotIamFleetRole", "launchTemplate", "ec2Configuration", "scalingPolicy",
)  # fmt: skip
_FARGATE_SUBNETS: Final = 16
_FARGATE_GROUPS: Final = 5
_TEMPLATE_OVERRIDES: Final = 10
# botocore batch:Ec2Configuration.imageType; Amazon Linux 2 cannot be chosen for new environments since 2026-06-30
_IMAGES: Final = ("ECS_AL2023", "ECS_AL2023_NVIDIA")
_OLD_IMAGES: Final = ("ECS_AL2", "ECS_AL2_NVIDIA")
_DEFAULTS: Final = {"optimal": "x86_64", "default_x86_64": "x86_64", "default_arm64": "arm64"}
_INSTANCE_TYPE: Final = re.compile(r"[a-z][a-z0-9-]*[0-9][a-z0-9-]*(\.[a-z0-9-]+)?")
# Graviton families end in `g` and what more they have (m6g, c7gn, r8gd), after the generation; a1 and the older t4g are the same.
_GRAVITON: Final = re.compile(r"(a1|[a-z]+[0-9]+g[a-z]*(-[a-z0-9]+)?)(\..+)?")


def is_fargate(resources: Resources) -> bool:
    return resources.get("type") in FARGATE


def architecture(resources: Resources) -> str | None:
    """The processors of an environment's machines; None for Fargate, whose jobs choose themselves."""
    kinds = {_architecture(one) for one in resources.get("instanceTypes") or ()}
    return None if is_fargate(resources) or len(kinds) != 1 else kinds.pop()


def _architecture(instance_type: str) -> str:
    if instance_type in _DEFAULTS:
        return _DEFAULTS[instance_type]
    return "arm64" if _GRAVITON.fullmatch(instance_type) else "x86_64"


def check_resources(resources: Resources, *, creating: bool) -> None:
    """Refuse `computeResources` that Batch does not take; after an update: what the members come to together."""
    if resources["type"] == "ECS_MANAGED_INSTANCES":
        raise ClientError_("The local Batch has no ECS Managed Instances.")
    if not resources.get("subnets"):
        raise executing("subnets is required.")
    if resources["maxvCpus"] < 0 or resources.get("minvCpus", 0) < 0:
        raise executing("vCPUs must not be negative.")
    if is_fargate(resources):
        _check_fargate(resources)
    else:
        _check_ec2(resources, creating=creating)


def _check_fargate(resources: Resources) -> None:
    for name in _NOT_FARGATE:
        if name in resources:
            raise executing(f"{name} is not applicable for Fargate.")
    groups = resources.get("securityGroupIds") or ()
    if not groups:
        raise executing("securityGroupIds is required for Fargate.")
    if len(groups) > _FARGATE_GROUPS:
        raise executing(f"Fargate supports a maximum of {_FARGATE_GROUPS} security groups.")
    if len(resources["subnets"]) > _FARGATE_SUBNETS:
        raise executing(f"Fargate supports a maximum of {_FARGATE_SUBNETS} subnets.")


def _check_ec2(resources: Resources, *, creating: bool) -> None:
    least, most = resources.get("minvCpus", 0), resources["maxvCpus"]
    if most < least:
        raise executing("maxvCpus should be greater than or equal to minvCpus.")
    if not least <= resources.get("desiredvCpus", least) <= most:
        raise executing("desiredvCpus should be between minvCpus and maxvCpus.")
    if not resources.get("instanceTypes"):
        raise executing("instanceTypes is required.")
    if not resources.get("instanceRole"):
        raise executing("Instance role is required.")
    if not resources.get("securityGroupIds") and not resources.get("launchTemplate"):
        raise executing("securityGroupIds or a launchTemplate is required.")
    if not 0 <= resources.get("bidPercentage", 100) <= 100:
        raise executing("Bid percentage must be between 0 to 100.")
    _check_types(resources["instanceTypes"])
    _check_strategy(resources)
    _check_template(resources.get("launchTemplate") or {})
    _check_images(resources, creating=creating)


def _check_types(types: list[str]) -> None:
    for one in types:
        if one not in _DEFAULTS and not _INSTANCE_TYPE.fullmatch(one):
            raise executing(f"Instance type {one} is not valid.")
    if len({_architecture(one) for one in types}) > 1:
        raise executing("arm-based instance type cannot be used with other instance types")


def _check_strategy(resources: Resources) -> None:
    strategy, spot = resources.get("allocationStrategy", BEST_FIT), resources["type"] == "SPOT"
    if strategy.startswith("SPOT_") and not spot:
        raise executing(f"Allocation strategy {strategy} is not valid for EC2.")
    if spot and strategy == BEST_FIT and not resources.get("spotIamFleetRole"):
        raise executing("compute resource spotIamFleetRole is required.")


def _check_template(template: Mapping[str, Any]) -> None:
    """botocore batch:LaunchTemplateSpecification."""
    if template and bool(template.get("launchTemplateId")) == bool(template.get("launchTemplateName")):
        raise executing("Either launchTemplateId or launchTemplateName must be specified, but not both.")
    if not re.fullmatch(r"([0-9]+|\$Default|\$Latest)?", template.get("version", "")):
        raise executing("LaunchTemplateVersion must be either empty or a number or $Default or $Latest")
    if len(template.get("overrides") or ()) > _TEMPLATE_OVERRIDES:
        raise executing(f"A launch template can have at most {_TEMPLATE_OVERRIDES} overrides.")


def _check_images(resources: Resources, *, creating: bool) -> None:
    chosen = resources.get("ec2Configuration") or []
    if len(chosen) > 2:
        raise executing("ec2Configuration can have one or two entries.")
    for one in chosen:
        kind, own = one["imageType"], one.get("imageIdOverride") or resources.get("imageId")
        if kind not in (*_IMAGES, *_OLD_IMAGES):
            raise executing(f"Image type {kind} is not valid.")
        if creating and kind in _OLD_IMAGES and not own:
            raise executing(f"Image type {kind} is no longer available for new compute environments.")
