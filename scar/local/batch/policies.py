"""Scheduling policies: kept as AWS keeps them. The local Batch starts the jobs of a queue in the order of their submission all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import ClientError_, check_name, check_tags, executing
from scar.local.batch.paging import PAGE, page
from scar.local.batch.records import Region, SchedulingPolicy, named

Asked = Mapping[str, Any]

# botocore batch:FairsharePolicy, ShareAttributes
_BOUNDS: Final = {"shareDecaySeconds": (0, 604_800), "computeReservation": (0, 99)}
_WEIGHTS: Final = (0.0001, 999.9999)
_SHARES: Final = 500


class Policies:
    """Actions on the tables of a region, whose lock the caller holds."""

    def create(self, region: Region, request: Asked) -> dict[str, Any]:
        name = str(request["name"])
        check_name(name, "Scheduling Policy")
        check_tags(request.get("tags") or {})
        if request.get("quotaSharePolicy") is not None:
            raise executing("Quota Management feature is only supported for SageMaker Training job queues.")
        _check_fair_share(request.get("fairsharePolicy") or {})
        if name in region.policies:
            raise ClientError_("Object already exists")
        arn = region.arn(f"scheduling-policy/{name}")
        kept = {"fairsharePolicy": request["fairsharePolicy"]} if "fairsharePolicy" in request else {}
        region.policies[name] = SchedulingPolicy(name=name, arn=arn, request=kept, tags=dict(request.get("tags") or {}))
        return {"name": name, "arn": arn}

    def update(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        if "fairsharePolicy" in request:
            _check_fair_share(request["fairsharePolicy"])
            found.request = {"fairsharePolicy": request["fairsharePolicy"]}
        return {}

    def delete(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _existing(region, request)
        if any(queue.request.get("schedulingPolicyArn") == found.arn for queue in region.queues.values()):
            raise ClientError_("Cannot delete, found existing JobQueue relationship")
        del region.policies[found.name]
        return {}

    def describe(self, region: Region, request: Asked) -> dict[str, Any]:
        if len(request["arns"]) > PAGE:
            raise ClientError_(f"arns can have at most {PAGE} entries")
        found = [named(region.policies, arn) for arn in request["arns"]]
        shown = [
            {"name": one.name, "arn": one.arn, "tags": dict(one.tags), **one.request}
            for one in found
            if one is not None
        ]
        return {"schedulingPolicies": shown}

    def list(self, region: Region, request: Asked) -> dict[str, Any]:
        chosen, more = page(request, list(region.policies.values()), lambda one: one.arn)
        return {"schedulingPolicies": [{"arn": one.arn} for one in chosen], **more}


def _existing(region: Region, request: Asked) -> SchedulingPolicy:
    found = named(region.policies, str(request["arn"]))
    if found is None:
        raise ClientError_(f"SchedulingPolicy {request['arn']} not found.")
    return found


def _check_fair_share(policy: Asked) -> None:
    for name, (least, most) in _BOUNDS.items():
        if not least <= policy.get(name, least) <= most:
            raise executing(f"{name} must be between {least} and {most}.")
    shares = policy.get("shareDistribution") or []
    if len(shares) > _SHARES:
        raise executing(f"A fair-share policy supports at most {_SHARES} share identifiers.")
    if len({share["shareIdentifier"] for share in shares}) != len(shares):
        raise executing("Share identifiers must be unique.")
    for share in shares:
        if not _WEIGHTS[0] <= share.get("weightFactor", 1.0) <= _WEIGHTS[1]:
            raise executing(f"weightFactor must be between {_WEIGHTS[0]} and {_WEIGHTS[1]}.")
