"""The routes of a REST API: which requests go to which function, and what a caller must bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from scar.aws.clients import Aws

PROXY: Final = "/{proxy+}"
_PAGE: Final = 500

Authorization = Literal["AWS_IAM", "NONE"]


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """Requests of `method` (or ANY) to `path` go to `uri`: a function, as API Gateway writes it."""

    path: str
    method: str
    authorization: str
    key_required: bool
    uri: str
    type: str = "AWS_PROXY"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def wire(self) -> tuple[str, str, str, bool, str, str]:
        return (self.path, self.method, self.authorization, self.key_required, self.uri, self.type)


def uri(region: str, partition: str, function_arn: str) -> str:
    """How an integration names a function; source: apigateway PutIntegration."""
    return f"arn:{partition}:apigateway:{region}:lambda:path/2015-03-31/functions/{function_arn}/invocations"


def routes(aws: Aws, api_id: str) -> tuple[Route, ...]:
    """Every route of the API as it is, deployed or not. A method without an integration is one whose `uri` is empty."""
    return tuple(
        sorted(
            _route(resource["path"], name, method)
            for resource in _resources(aws, api_id).values()
            for name, method in (resource.get("resourceMethods") or {}).items()
        )
    )


def put_routes(aws: Aws, api_id: str, wanted: tuple[Route, ...], *, root: str | None = None) -> None:
    """Make the API have these routes and no others. `root` is the root resource of an API that has nothing else yet.

    Nothing of it is seen by callers before it is deployed, so a method that differs is simply made anew.
    """
    found: Mapping[str, Mapping[str, Any]] = {"/": {"id": root, "path": "/"}} if root else _resources(aws, api_id)
    paths = {route.path for route in wanted}
    for path, there in sorted(found.items(), reverse=True):
        if path != "/" and not any(one == path or one.startswith(f"{path}/") for one in paths):
            aws.apigateway.delete_resource(restApiId=api_id, resourceId=there["id"])
            continue
        for method in there.get("resourceMethods") or {}:
            if not any((route.path, route.method) == (path, method) for route in wanted):
                aws.apigateway.delete_method(restApiId=api_id, resourceId=there["id"], httpMethod=method)
    for route in wanted:
        resource: Mapping[str, Any] = found.get(route.path) or aws.apigateway.create_resource(
            restApiId=api_id, parentId=found["/"]["id"], pathPart=route.path.removeprefix("/")
        )
        methods: Mapping[str, Any] = resource.get("resourceMethods") or {}
        if route.method in methods and _route(route.path, route.method, methods[route.method]) == route:
            continue
        _put_route(aws, api_id, resource["id"], route, stands=route.method in methods)


def _put_route(aws: Aws, api_id: str, resource_id: str, route: Route, *, stands: bool) -> None:
    where = {"restApiId": api_id, "resourceId": resource_id, "httpMethod": route.method}
    if stands:
        aws.apigateway.delete_method(**where)
    aws.apigateway.put_method(**where, authorizationType=route.authorization, apiKeyRequired=route.key_required)
    # A function is always called by POST, whatever the method of the request.
    aws.apigateway.put_integration(**where, type=route.type, integrationHttpMethod="POST", uri=route.uri)


def _resources(aws: Aws, api_id: str) -> dict[str, Mapping[str, Any]]:
    pages = aws.apigateway.get_paginator("get_resources").paginate(
        restApiId=api_id, embed=["methods"], PaginationConfig={"PageSize": _PAGE}
    )
    return {resource["path"]: resource for page in pages for resource in page["items"]}


def _route(path: str, name: str, method: Mapping[str, Any]) -> Route:
    integration: Mapping[str, Any] = method.get("methodIntegration") or {}
    return Route(
        path,
        name,
        str(method.get("authorizationType") or ""),
        bool(method.get("apiKeyRequired")),
        str(integration.get("uri") or ""),
        str(integration.get("type") or ""),
    )
