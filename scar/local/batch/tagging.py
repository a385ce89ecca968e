"""Tags of what the control plane holds, by ARN. Tags of jobs are the jobs' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import ClientError_, check_tags
from scar.local.batch.records import ComputeEnvironment, JobDefinition, JobQueue, Region, SchedulingPolicy, named

Asked = Mapping[str, Any]
Tagged = ComputeEnvironment | JobDefinition | JobQueue | SchedulingPolicy

MOST: Final = 50  # botocore batch:TagrisTagsMap


class Tagging:
    """Actions on the tables of a region, whose lock the caller holds."""

    def list(self, region: Region, request: Asked) -> dict[str, Any]:
        return {"tags": dict(_tagged(region, request).tags)}

    def tag(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _tagged(region, request)
        check_tags(request["tags"])
        tags = {**found.tags, **request["tags"]}
        if len(tags) > MOST:
            raise ClientError_(f"A resource can have at most {MOST} tags")
        found.tags = tags
        return {}

    def untag(self, region: Region, request: Asked) -> dict[str, Any]:
        found = _tagged(region, request)
        found.tags = {key: value for key, value in found.tags.items() if key not in request["tagKeys"]}
        return {}


def is_job(arn: str) -> bool:
    return ":job/" in arn


def _tagged(region: Region, request: Asked) -> Tagged:
    arn = str(request["resourceArn"])
    kind = arn.removeprefix(region.arn("")).partition("/")[0]
    found: Tagged | None = None
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
    return found
