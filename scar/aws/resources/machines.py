"""The machines of a compute environment: which, how many, where; and what of that AWS lets one change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Batch takes these two for the same (user guide, compute-environments: since 2025-11).
_SYNONYMS: Final = {"optimal": "default_x86_64"}
_BEST_FIT: Final = "BEST_FIT"
# Scaling updates; any other member is an infrastructure update (user guide, updating-compute-environments).
_SCALING: Final = ("min_vcpus", "max_vcpus")


@dataclass(frozen=True, slots=True)
class Machines:
    """`type` is EC2, SPOT, FARGATE or FARGATE_SPOT; for the last two only `max_vcpus`, `subnets` and `security_groups` mean something.

    `instance_role` is an instance profile, by ARN or by name. `desired_vcpus` is where Batch starts; then it moves it by itself.
    """

    type: str
    allocation_strategy: str | None
    min_vcpus: int
    max_vcpus: int
    desired_vcpus: int = field(compare=False)
    instance_types: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    instance_role: str | None = None
    launch_template: str | None = None
    placement_group: str | None = None

    @property
    def fargate(self) -> bool:
        return self.type.startswith("FARGATE")

    @classmethod
    def of(cls, found: Mapping[str, Any], wanted: Machines | None) -> Machines:
        """`computeResources` as Batch describes them, in the order and the spelling of what is wanted where they mean the same."""
        like = wanted if wanted is not None else cls("", None, 0, 0, 0)
        role, template = found.get("instanceRole"), found.get("launchTemplate") or {}
        return cls(
            type=found["type"],
            # Batch takes BEST_FIT where none was given (botocore batch:ComputeResource.allocationStrategy).
            allocation_strategy=None
            if found["type"].startswith("FARGATE")
            else found.get("allocationStrategy", _BEST_FIT),
            min_vcpus=found.get("minvCpus") or 0,
            max_vcpus=found["maxvCpus"],
            desired_vcpus=found.get("desiredvCpus") or 0,
            instance_types=_alike(found.get("instanceTypes") or (), like.instance_types),
            subnets=_alike(found.get("subnets") or (), like.subnets),
            security_groups=_alike(found.get("securityGroupIds") or (), like.security_groups),
            instance_role=like.instance_role if _last(role) == _last(like.instance_role) else role,
            launch_template=_template(template, like.launch_template),
            placement_group=found.get("placementGroup") or None,
        )

    def request(self) -> dict[str, Any]:
        """`computeResources` of CreateComputeEnvironment."""
        place = {"subnets": list(self.subnets), "securityGroupIds": list(self.security_groups)}
        if self.fargate:
            return {"type": self.type, "maxvCpus": self.max_vcpus, **place}
        return {
            "type": self.type,
            **_given("allocationStrategy", self.allocation_strategy),
            "minvCpus": self.min_vcpus,
            "maxvCpus": self.max_vcpus,
            "desiredvCpus": self.desired_vcpus,
            "instanceTypes": list(self.instance_types),
            **place,
            **_given("instanceRole", self.instance_role),
            **_given("launchTemplate", self._template()),
            **_given("placementGroup", self.placement_group),
        }

    def update_of(self, actual: Machines) -> dict[str, Any]:
        """`computeResources` of UpdateComputeEnvironment: what differs, and no other member.

        What is desired now is Batch's own business, unless the new minimum is above it: it may be raised and never lowered.
        """
        wire = {
            "type": self.type,
            "allocation_strategy": self.allocation_strategy,
            "min_vcpus": self.min_vcpus,
            "max_vcpus": self.max_vcpus,
            "instance_types": list(self.instance_types),
            "subnets": list(self.subnets),
            "security_groups": list(self.security_groups),
            "instance_role": self.instance_role,
            # An empty name takes a launch template away (botocore batch:ComputeResourceUpdate.launchTemplate).
            "launch_template": self._template() or {"launchTemplateName": ""},
            "placement_group": self.placement_group or "",
        }
        changes = {_WIRE[name]: value for name, value in wire.items() if getattr(self, name) != getattr(actual, name)}
        if not self.fargate and self.min_vcpus > actual.desired_vcpus:
            changes["desiredvCpus"] = self.min_vcpus
        return changes

    def replaces(self, actual: Machines) -> bool:
        """Whether running machines are replaced by others: an infrastructure update."""
        return not self.fargate and bool(self._infrastructure(actual))

    def never_becomes(self, actual: Machines, *, custom_role: bool) -> str | None:
        """What AWS would refuse to change, in words; None: nothing."""
        if self.fargate != actual.fargate or (self.fargate and self.type != actual.type):
            return f"a compute environment of type {actual.type} never becomes one of type {self.type}"
        changed = self._infrastructure(actual)
        if self.fargate or not changed:
            return None
        if _BEST_FIT in (actual.allocation_strategy, self.allocation_strategy):
            return f"with the allocation strategy BEST_FIT Batch changes nothing but the numbers of vCPUs ({', '.join(changed)})"
        if custom_role:
            return f"under a service role of one's own Batch changes nothing but the numbers of vCPUs ({', '.join(changed)})"
        return None

    def _infrastructure(self, actual: Machines) -> list[str]:
        return [
            name for name in _WIRE if name not in _SCALING and getattr(self, name) != getattr(actual, name)
        ]  # in the words of this class

    def _template(self) -> dict[str, str] | None:
        if self.launch_template is None:
            return None
        return {
            "launchTemplateId" if self.launch_template.startswith("lt-") else "launchTemplateName": self.launch_template
        }


_WIRE: Final = {
    "type": "type",
    "allocation_strategy": "allocationStrategy",
    "min_vcpus": "minvCpus",
    "max_vcpus": "maxvCpus",
    "instance_types": "instanceTypes",
    "subnets": "subnets",
    "security_groups": "securityGroupIds",
    "instance_role": "instanceRole",
    "launch_template": "launchTemplate",
    "placement_group": "placementGroup",
}


def _given(name: str, value: object) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _alike(found: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    same = {_SYNONYMS.get(item, item) for item in found} == {_SYNONYMS.get(item, item) for item in wanted}
    return wanted if same else tuple(found)


def _last(role: str | None) -> str | None:
    """The name at the end of an ARN."""
    return role.rpartition("/")[2] if role else None


def _template(found: Mapping[str, Any], wanted: str | None) -> str | None:
    names = (found.get("launchTemplateName"), found.get("launchTemplateId"))
    if wanted is not None and wanted in names:
        return wanted
    return next((name for name in names if name), None)
