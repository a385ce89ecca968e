"""Which REST APIs in API Gateway are ours? Found by their tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.aws import tags
from scar.aws.clients import Aws

PAGE: Final = 500  # the most that GetRestApis answers at once


def mine(aws: Aws, function: str) -> list[Mapping[str, Any]]:
    """The function's APIs, the oldest first. There is one, unless two commands made it at once."""
    found = [api for api in all_of_ours(aws) if dict(api.get("tags") or {}).get(tags.FUNCTION) == function]
    return sorted(found, key=lambda api: (str(api.get("createdDate", "")), api["id"]))


def all_of_ours(aws: Aws) -> list[Mapping[str, Any]]:
    """Every API of a function of ours. Calls: one per 500 of all."""
    pages = aws.apigateway.get_paginator("get_rest_apis").paginate(PaginationConfig={"PageSize": PAGE})
    return [api for page in pages for api in page["items"] if tags.FUNCTION in (api.get("tags") or {})]
