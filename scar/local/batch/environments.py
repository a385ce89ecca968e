"""Compute environments: made, changed, described, deleted, and what becomes of them in Batch's own time.

CREATING ─► VALID or INVALID ◄─► UPDATING        DISABLED and in no queue ─► DELETING ─► gone
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from scar.local.batch import shapes
from scar.local.batch.checks import ClientError_, check_deletable, check_name, check_tags, check_updatable, executing
from scar.local.batch.compute import BEST_FIT, FARGATE, check_resources, is_fargate
from scar.local.batch.paging import named_page
from scar.local.batch.records import ComputeEnvironment, Region
from scar.local.batch.surroundings import BATCH, SPOT_FLEET, Surroundings

Asked = Mapping[str, Any]
Later = Callable[[Region, Callable[[], bool]], None]  # settles something of a region, which is then saved

MOST: Final = 50  # of a region; docs.aws.amazon.com/batch/latest/userguide/service_limits.html
LINKED_ROLE: Final = "role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
HEALTHY: Final = "ComputeEnvironment Healthy"
# docs.aws.amazon.com/batch/latest/userguide/updating-compute-environments.html: all others need an infrastructure update
_SCALING: Final = frozenset({"minvCpus", "maxvCpus", "desiredvCpus"})
_FARGATE_UPDATES: Final = frozenset({"maxvCpus", "subnets", "securityGroupIds"})  # ibid.
_NOT_KEPT: Final = frozenset({"updateToLatestImageVersion"})  # says how to update, not what to be
_POLICY: Final = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30}  # botocore batch:UpdatePolicy


class Environments:
    """Actions on the tables of a region, whose lock the caller holds."""

    def __init__(self, around: Callable[[Region], Surroundings], later: Later) -> None:
        self._around, self._later = around, later

    def create(self, region: Region, request: Asked) -> dict[str, Any]:
        name = str(request["computeEnvironmentName"])
        check_name(name, "Compute environment")
        check_tags(request.get("tags") or {})
        _check_kind(request)
        if name in region.environments:
            raise ClientError_("Object already exists")
        if len(region.environments) >= MOST:
            raise executing(f"A region can have at most {MOST} compute environments.")
        kept = {key: value for key, value in request.items() if key not in ("computeEnvironmentName", "state", "tags")}
        kept["serviceRole"] = _role_arn(region, request.get("serviceRole"))
        made = ComputeEnvironment(
            name=name,
            arn=region.arn(f"compute-environment/{name}"),
            request=kept,
            state=request.get("state", "ENABLED"),
            tags=dict(request.get("tags") or {}),
            uuid=str(uuid.uuid4()),
        )
        made.desired_vcpus = int(made.resources.get("desiredvCpus", made.min_vcpus))
        region.environments[name] = made
        self.settle(region, made)
        return _named(made)

    def update(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        check_updatable(found.status)
        changed = dict(request.get("computeResources") or {})
        kept = {**found.request, **_changed_role(region, found, request)}
        if changed:
            _check_update(found, changed)
            kept["computeResources"] = _merged(found.resources, changed)
            desired = {name: changed[name] for name in ("desiredvCpus",) if name in changed}
            check_resources(kept["computeResources"] | desired, creating=False)
        if request.get("updatePolicy") is not None:
            kept["updatePolicy"] = {**_POLICY, **found.request.get("updatePolicy", {}), **request["updatePolicy"]}
        for name in ("unmanagedvCpus", "context", "ecsSettings"):
            if name in request:
                kept[name] = request[name]
        found.request = kept
        found.state = request.get("state", found.state)
        wanted = int(changed.get("desiredvCpus", found.desired_vcpus))
        found.desired_vcpus = max(found.min_vcpus, min(wanted, found.max_vcpus))
        found.status, found.status_reason = "UPDATING", ""
        self.settle(region, found)
        return _named(found)

    def delete(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        check_deletable(found.status, found.state, "compute environment")
        if any(found.arn in queue.environments for queue in region.queues.values()):
            # github.com/hashicorp/terraform-provider-aws/issues/2044
            raise ClientError_("Cannot delete, found existing JobQueue relationship")
        found.status, found.status_reason = "DELETING", ""
        self.settle(region, found)
        return {}

    def describe(self, region: Region, request: Asked) -> dict[str, Any]:
        chosen, more = named_page(request, "computeEnvironments", region.environment, region.environments)
        return {"computeEnvironments": [_description(region, one) for one in chosen], **more}

    def settle(self, region: Region, environment: ComputeEnvironment) -> None:
        """Let an environment that is changing come to rest in Batch's own time; also after a restart."""
        self._later(region, lambda: self._settled(region, environment))

    def look_again(self, region: Region) -> None:
        """Roles have changed: an environment that is VALID may have lost its own. Batch notices when it next needs it; here, soon."""
        if region.environments:
            self._later(region, lambda: self._looked(region))

    def _looked(self, region: Region) -> bool:
        with region.lock:
            valid = [one for one in region.environments.values() if one.status == "VALID"]
        problems = [(one, self._roles_problem(region, one)) for one in valid]
        with region.lock:
            for environment, problem in problems:
                if problem is not None and environment.status == "VALID":
                    environment.status, environment.status_reason = "INVALID", problem
        return True

    def _settled(self, region: Region, environment: ComputeEnvironment) -> bool:
        problem = self._problem(region, environment)
        with region.lock:
            match environment.status:
                case "DELETING" if problem is not None and problem == self._role_problem(region, environment):
                    # Batch can take nothing down without its role (batch/latest/userguide/invalid_compute_environment.html)
                    environment.status, environment.status_reason = "INVALID", problem
                case "DELETING":
                    region.environments.pop(environment.name, None)
                    environment.status = "DELETED"
                case "CREATING" | "UPDATING":
                    environment.status = "VALID" if problem is None else "INVALID"
                    environment.status_reason = problem or HEALTHY
                case _:
                    pass
        return True

    def _problem(self, region: Region, environment: ComputeEnvironment) -> str | None:
        """Why Batch finds an environment INVALID, or None."""
        around, resources = self._around(region), environment.resources
        template = resources.get("launchTemplate") or {}
        asked: list[Callable[[], str | None]] = [
            lambda: self._roles_problem(region, environment),
            lambda: around.subnets(resources.get("subnets") or ()),
            lambda: around.security_groups(resources.get("securityGroupIds") or ()),
        ]
        if template:
            asked.append(lambda: around.launch_template(_template(template)))
        return _first(asked)

    def _roles_problem(self, region: Region, environment: ComputeEnvironment) -> str | None:
        around, resources = self._around(region), environment.resources
        asked: list[Callable[[], str | None]] = [lambda: self._role_problem(region, environment)]
        if "instanceRole" in resources:
            asked.append(lambda: around.instance_profile(resources["instanceRole"]))
        if "spotIamFleetRole" in resources:
            asked.append(lambda: around.role(resources["spotIamFleetRole"], SPOT_FLEET))
        return _first(asked)

    def _role_problem(self, region: Region, environment: ComputeEnvironment) -> str | None:
        role = str(environment.request["serviceRole"])
        return None if _is_linked(role) else self._around(region).role(role, BATCH)


def _first(asked: list[Callable[[], str | None]]) -> str | None:
    return next((problem for ask in asked if (problem := ask()) is not None), None)


def _check_kind(request: Asked) -> None:
    resources = request.get("computeResources")
    if request.get("eksConfiguration") is not None:
        raise ClientError_("The local Batch runs no jobs on EKS.")
    if request["type"] == "UNMANAGED":
        if resources is not None and is_fargate(resources):
            raise executing("Cannot create an UNMANAGED Fargate Compute Environment.")
        if not request.get("serviceRole"):  # botocore batch:CreateComputeEnvironmentRequest.serviceRole
            raise executing("serviceRole is required for UNMANAGED compute environments.")
        return
    if resources is None:
        raise executing("computeResources is required for MANAGED compute environments.")
    if "unmanagedvCpus" in request:
        raise executing("unmanagedvCpus is only for UNMANAGED compute environments.")
    check_resources(resources, creating=True)


def _existing(region: Region, request: Asked) -> ComputeEnvironment:
    asked = str(request["computeEnvironment"])
    found = region.environment(asked)
    if found is None:
        raise ClientError_(f"Compute environment {asked} does not exist")
    return found


def _is_linked(role: str) -> bool:
    return role.endswith(f":{LINKED_ROLE}")


def _role_arn(region: Region, role: str | None) -> str:
    """Batch's own role is made when it is first needed, and belongs to the account, not to us."""
    if role is None:
        return f"arn:aws:iam::{region.account}:{LINKED_ROLE}"
    return role if role.startswith("arn:") else f"arn:aws:iam::{region.account}:role/{role.strip('/')}"


def _changed_role(region: Region, found: ComputeEnvironment, request: Asked) -> dict[str, str]:
    if request.get("serviceRole") is None:
        return {}
    wanted = _role_arn(region, request["serviceRole"])
    if _is_linked(wanted) != _is_linked(found.request["serviceRole"]):
        # botocore batch:UpdateComputeEnvironmentRequest.serviceRole
        raise ClientError_("A service-linked role can't be changed to a regular IAM role, nor the other way round.")
    return {"serviceRole": wanted}


def _check_update(found: ComputeEnvironment, changed: Asked) -> None:
    """docs.aws.amazon.com/batch/latest/userguide/updating-compute-environments.html."""
    if not found.resources:
        raise executing("computeResources is only for MANAGED compute environments.")
    differing = {name for name, value in changed.items() if name in _NOT_KEPT or found.resources.get(name) != value}
    if is_fargate(found.resources):
        if other := sorted(differing - _FARGATE_UPDATES):
            raise executing(f"{other[0]} is not applicable for Fargate.")
        return
    if changed.get("type") in FARGATE:
        raise executing("An EC2 compute environment can't be changed to Fargate.")
    if "desiredvCpus" in changed and changed["desiredvCpus"] < found.desired_vcpus:
        # docs.aws.amazon.com/batch/latest/userguide/error-desired-vcpus-update.html
        raise ClientError_(
            "Manually scaling down compute environment is not supported. "
            "Disconnecting job queues from compute environment will cause it to scale-down to minvCpus"
        )
    if infrastructure := sorted(differing - _SCALING):
        if not _is_linked(found.request["serviceRole"]):
            raise executing(f"Updating {infrastructure[0]} requires the service-linked role AWSServiceRoleForBatch.")
        if found.resources.get("allocationStrategy", BEST_FIT) == BEST_FIT:
            raise executing(f"Updating {infrastructure[0]} is not supported with the allocation strategy BEST_FIT.")


def _merged(present: Asked, changed: Asked) -> dict[str, Any]:
    """An empty text or template takes a member away; on Fargate an empty list changes nothing (botocore batch:ComputeResourceUpdate)."""
    merged = dict(present)
    for name, value in changed.items():
        if name in _NOT_KEPT or (value == [] and is_fargate(present)):
            continue
        if value == "" or (name == "launchTemplate" and not _template(value)):
            merged.pop(name, None)
        else:
            merged[name] = value
    merged.pop("desiredvCpus", None)  # kept beside
    return merged


def _template(template: Asked) -> str:
    return str(template.get("launchTemplateId") or template.get("launchTemplateName") or "")


def _named(environment: ComputeEnvironment) -> dict[str, Any]:
    return {"computeEnvironmentName": environment.name, "computeEnvironmentArn": environment.arn}


def _description(region: Region, environment: ComputeEnvironment) -> dict[str, Any]:
    resources = dict(environment.resources)
    if resources and not is_fargate(resources):
        resources["desiredvCpus"] = environment.desired_vcpus
        resources.setdefault("minvCpus", 0)
        resources.setdefault("ec2Configuration", [{"imageType": "ECS_AL2023"}])
        resources.setdefault("tags", {})
    managed = environment.request["type"] == "MANAGED"
    cluster = f"arn:aws:ecs:{region.region}:{region.account}:cluster/{environment.name}_Batch_{environment.uuid}"
    return {
        **shapes.shown("ComputeEnvironmentDetail", environment.request),
        **_named(environment),
        "ecsClusterArn": cluster,
        "tags": dict(environment.tags),
        "state": environment.state,
        "status": environment.status,
        "statusReason": environment.status_reason,
        **({"computeResources": resources} if managed else {}),
        "containerOrchestrationType": "ECS",
        "uuid": environment.uuid,
    }
