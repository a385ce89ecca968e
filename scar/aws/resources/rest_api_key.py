"""The API key of a function's REST API, and the usage plan by which it opens the API's stage. The key's value is AWS's choice and is never read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.tags import Pairs


def opens(aws: Aws, function: str, api_id: str, stage: str) -> bool:
    """Whether the function's key, and no other, opens the stage."""
    plans = _plans(aws, function)
    if len(plans) != 1 or not _holds(plans[0], api_id, stage):
        return False
    keys = aws.apigateway.get_usage_plan_keys(usagePlanId=plans[0]["id"])["items"]
    return [key["name"] for key in keys] == [names.api_key(function)]


def make(aws: Aws, function: str, api_id: str, stage: str, tags_: Pairs) -> None:
    """Each part that is missing. A key that is there stays: its users have it."""
    name, written = names.api_key(function), tags.written(tags_)
    key = next(iter(_keys(aws, function)), None) or aws.apigateway.create_api_key(name=name, enabled=True, tags=written)
    plans = _plans(aws, function)
    for surplus in plans[1:]:
        _delete_plan(aws, surplus)
    plan = plans[0] if plans else None
    if plan is None:
        stages = [{"apiId": api_id, "stage": stage}]
        plan = aws.apigateway.create_usage_plan(name=name, apiStages=stages, tags=written)
    elif not _holds(plan, api_id, stage):
        _detach(aws, plan)
        add = [{"op": "add", "path": "/apiStages", "value": f"{api_id}:{stage}"}]
        aws.apigateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=add)
    try:
        aws.apigateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    except ClientError as error:
        if code_of(error) != "ConflictException":  # it is in the plan already
            raise


def remove(aws: Aws, function: str) -> None:
    """The plan first, for it holds the API's stage. What is absent is passed over."""
    for plan in _plans(aws, function):
        _delete_plan(aws, plan)
    for key in _keys(aws, function):
        with passing_over_absence():
            aws.apigateway.delete_api_key(apiKey=key["id"])


def is_left(aws: Aws, function: str) -> bool:
    return bool(_plans(aws, function) or _keys(aws, function))


def _delete_plan(aws: Aws, plan: Mapping[str, Any]) -> None:
    _detach(aws, plan)
    with passing_over_absence():
        aws.apigateway.delete_usage_plan(usagePlanId=plan["id"])


def _detach(aws: Aws, plan: Mapping[str, Any]) -> None:
    """A plan with stages cannot be deleted; source: apigateway DeleteUsagePlan, as Terraform's provider goes about it."""
    away = [
        {"op": "remove", "path": "/apiStages", "value": f"{held['apiId']}:{held['stage']}"}
        for held in plan.get("apiStages") or ()
    ]
    if away:
        aws.apigateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=away)


def _holds(plan: Mapping[str, Any], api_id: str, stage: str) -> bool:
    return [(held["apiId"], held["stage"]) for held in plan.get("apiStages") or ()] == [(api_id, stage)]


def _plans(aws: Aws, function: str) -> list[Mapping[str, Any]]:
    pages = aws.apigateway.get_paginator("get_usage_plans").paginate(PaginationConfig={"PageSize": 500})
    return [plan for page in pages for plan in page["items"] if _is_of(plan, function)]


def _keys(aws: Aws, function: str) -> list[Mapping[str, Any]]:
    pages = aws.apigateway.get_paginator("get_api_keys").paginate(
        nameQuery=names.api_key(function), includeValues=False, PaginationConfig={"PageSize": 500}
    )
    return [key for page in pages for key in page["items"] if _is_of(key, function)]


def _is_of(item: Mapping[str, Any], function: str) -> bool:
    return dict(item.get("tags") or {}).get(tags.FUNCTION) == function


@contextmanager
def passing_over_absence() -> Iterator[None]:
    """What is to be deleted may be gone already."""
    try:
        yield
    except ClientError as error:
        if not is_absent(error):
            raise
