"""Tags of what the control plane holds, by ARN. Tags of jobs are the jobs' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import ClientError_, check_tags
from scar.local.batch.records import Region, named

Asked = Mapping[str, Any]

MOST: Final = 50  # botocore batch:TagrisTagsMap


class Tagging:
    """Actions on the tables of a region, whose lock the caller holds."""

    def list(self, region: Region, request: Asked) -> dict[str, Any]:
        return {"tags": dict(_tags(region, request))}

    def tag(self, region: Region, request: Asked) -> dict[str, Any]:
        tags = _tags(region, request)
        check_tags(request["tags"])
        if len(tags.keys() | request["tags"].keys()) > MOST:
            raise ClientError_(f"A resource can have at most {MOST} tags")
        tags.update(request["tags"])
        return {}

    def untag(self, region: Region, request: Asked) -> dict[str, Any]:
        tags = _tags(region, request)
        for key in request["tagKeys"]:
            tags.pop(key, None)
        return {}


def is_job(arn: str) -> bool:
    return ":job/" in arn


def _tags(region: Region, request: Asked) -> dict[str, str]:
    arn = str(request["resourceArn"])
    kind = arn.removeprefix(region.arn("")).partition("/")[0]
    found: Any = None
    match kind:
        case "compute-environment":
            found = named(region.environments, arn)
        case "job-queue":
            found = named(region.queues, arn)
        case "scheduling-policy":
            found = named(region.policies, arn)
        case "job-definition" if ":" in arn.removeprefix(region.arn("")):
            found = region.definition(arn)
        case _:
            pass
    if found is None:
        raise ClientError_(f"Resource {arn} does not exist")
    tags: dict[str, str] = found.tags
    return tags
