"""Job definitions: registered in revisions, described, deregistered. Nothing of one ever changes but whether it is active."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from faassupervisor.hops import JOB_DEFINITION
from scar.local.batch import shapes
from scar.local.batch.checks import (
    ClientError_,
    check_name,
    check_retry,
    check_size,
    check_tags,
    check_timeout,
    executing,
)
from scar.local.batch.containers import check_container
from scar.local.batch.nodes import check_nodes
from scar.local.batch.paging import PAGE, page
from scar.local.batch.records import JobDefinition, Region
from scar.local.batch.tasks import check_task

Asked = Mapping[str, Any]

PRIORITIES: Final = (0, 9999)  # botocore batch:RegisterJobDefinitionRequest.schedulingPriority
_KINDS: Final = ("containerProperties", "ecsProperties", "eksProperties")
_STATES: Final = {"ACTIVE": True, "INACTIVE": False}
# Lists that a description always has (example of batch/latest/APIReference/API_DescribeJobDefinitions)
_LISTS: Final = (
    "command", "volumes", "environment", "mountPoints", "ulimits", "resourceRequirements", "secrets",
)  # fmt: skip


class Definitions:
    """Actions on the tables of a region, whose lock the caller holds."""

    def register(self, region: Region, request: Asked) -> dict[str, Any]:
        check_definition(request)
        name = str(request["jobDefinitionName"])
        revisions = region.definitions.setdefault(name, [])
        number = len(revisions) + 1
        arn = region.arn(f"job-definition/{name}:{number}")
        kept = {key: value for key, value in request.items() if key not in ("jobDefinitionName", "tags")}
        tags = dict(request.get("tags") or {})
        revisions.append(JobDefinition(name=name, revision=number, arn=arn, request=kept, tags=tags))
        return {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": number}

    def deregister(self, region: Region, request: Asked) -> dict[str, Any]:
        asked = str(request["jobDefinition"])
        if not re.search(r":[0-9]+$", asked):
            raise ClientError_(f"Job definition must be given with its revision: {asked}")
        found = region.definition(asked)
        if found is None:
            raise ClientError_(f"Job definition {asked} does not exist")
        found.active = False  # again is fine, and jobs that were submitted with it go on
        return {}

    def describe(self, region: Region, request: Asked) -> dict[str, Any]:
        """By names with revisions, or by one name and a status, or all."""
        asked, name = request.get("jobDefinitions") or [], request.get("jobDefinitionName")
        if asked and (name or request.get("status")):
            # botocore: "This parameter can't be used with other parameters."
            raise ClientError_("jobDefinitions can't be used with jobDefinitionName or status")
        if len(asked) > PAGE:
            raise ClientError_(f"jobDefinitions can have at most {PAGE} entries")
        if asked:
            named = [region.definition(one) for one in asked]
            found = list({one.arn: one for one in named if one is not None}.values())
        else:
            found = self._matching(region, name, request.get("status"))
        chosen, more = page(request, found, lambda one: f"{one.name}:{one.revision:010}")
        return {"jobDefinitions": [description(one) for one in chosen], **more}

    def _matching(self, region: Region, name: str | None, status: str | None) -> list[JobDefinition]:
        if status is not None and status not in _STATES:
            raise ClientError_(f"Status {status} is not valid; it is one of {', '.join(_STATES)}")
        names = list(region.definitions) if name is None else [name]
        every = [one for each in names for one in region.definitions.get(each, ())]
        return [one for one in every if status is None or one.active == _STATES[status]]


def description(definition: JobDefinition) -> dict[str, Any]:
    """A definition as DescribeJobDefinitions shows it."""
    request = dict(definition.request)
    if (container := request.get("containerProperties")) is not None:
        request["containerProperties"] = {**{name: [] for name in _LISTS}, **container}
    return {
        **shapes.shown("JobDefinition", request),
        "jobDefinitionName": definition.name,
        "jobDefinitionArn": definition.arn,
        "revision": definition.revision,
        "status": "ACTIVE" if definition.active else "INACTIVE",
        "containerOrchestrationType": "ECS",
        "tags": dict(definition.tags),
    }


def check_definition(request: Asked) -> None:
    """Refuse what Batch does not register."""
    check_size(request, JOB_DEFINITION, "Job definition")
    check_name(str(request["jobDefinitionName"]), "Job Definition")
    check_retry(request.get("retryStrategy"))
    check_timeout(request.get("timeout"))
    check_tags(request.get("tags") or {})
    least, most = PRIORITIES
    if not least <= request.get("schedulingPriority", least) <= most:
        raise executing(f"schedulingPriority must be between {least} and {most}.")
    capabilities = request.get("platformCapabilities") or ["EC2"]
    if len(capabilities) != 1:
        raise executing("platformCapabilities supports exactly one value.")
    fargate = capabilities == ["FARGATE"]
    given = [name for name in _KINDS if request.get(name) is not None]
    if request["type"] == "multinode":
        _check_multinode(request, given, fargate=fargate)
    else:
        _check_single(request, given, fargate=fargate, managed=capabilities == ["MANAGED_INSTANCES"])


def _check_multinode(request: Asked, given: list[str], *, fargate: bool) -> None:
    if fargate:
        raise executing("Fargate does not support MNP jobs")
    if request.get("nodeProperties") is None:
        raise executing("nodeProperties is required for multinode jobs.")
    if given:
        raise executing(f"{given[0]} can't be used with nodeProperties.")
    check_nodes(request["nodeProperties"])


def _check_single(request: Asked, given: list[str], *, fargate: bool, managed: bool) -> None:
    if request.get("nodeProperties") is not None:
        raise executing("nodeProperties is for jobs of type multinode.")
    if len(given) != 1:
        found = "none" if not given else " and ".join(given)
        raise executing(f"A container job has one of {', '.join(_KINDS)}; here: {found}.")
    if "eksProperties" in given:
        raise ClientError_("The local Batch runs no jobs on EKS.")
    if "ecsProperties" in given:
        check_task(request["ecsProperties"], fargate=fargate)
    elif managed:
        raise executing("MANAGED_INSTANCES jobs must use ecsProperties.")
    else:
        check_container(request["containerProperties"], fargate=fargate)
