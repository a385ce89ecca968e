"""What moto forgets of REST APIs, put right: media types, tags, what a deployment serves, errors for what is absent or there already.

moto keeps the settings of REST APIs, and these names of its are wrapped; its own execute-api is never asked. Imported when API Gateway is first
asked for anything: moto's part of it takes a second to import.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import unquote

from moto.apigateway.exceptions import (
    BadRequestException,
    ConflictException,
    RestAPINotFound,
    UsagePlanNotFoundException,
)
from moto.apigateway.models import APIGatewayBackend, RestAPI
from moto.apigateway.responses import APIGatewayResponse

from scar.local import hooks as moto_names
from scar.local.http.routing import SERVES

# moto's names, and the parameters that they must still take.
NAMES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "moto.apigateway.responses:APIGatewayResponse.create_rest_api": ("self",),
    "moto.apigateway.responses:APIGatewayResponse.tag_resource": ("self",),
    "moto.apigateway.responses:APIGatewayResponse.untag_resource": ("self",),
    "moto.apigateway.models:APIGatewayBackend.delete_rest_api": ("self", "function_id"),
    "moto.apigateway.models:APIGatewayBackend.delete_usage_plan": ("self", "usage_plan_id"),
    "moto.apigateway.models:APIGatewayBackend.delete_api_key": ("self", "api_key_id"),
    "moto.apigateway.models:APIGatewayBackend.put_method": ("self", "function_id", "resource_id", "method_type"),
    "moto.apigateway.models:APIGatewayBackend.create_usage_plan_key": ("self", "usage_plan_id", "payload"),
    "moto.apigateway.models:RestAPI.create_deployment": ("self", "name", "description"),
    "moto.apigateway.models:RestAPI.apply_patch_operations": ("self", "patch_operations"),
}

_Replacement = Callable[[Callable[..., Any]], Callable[..., Any]]
_SLASH: Final = "~1"


def install() -> Callable[[], None]:
    """Put the corrections in place; what is answered takes them away again."""
    moto_names.check(NAMES)
    undo = ExitStack()
    for owner, name, replacement in _REPLACED:
        original = vars(owner)[name]
        undo.callback(setattr, owner, name, original)
        setattr(owner, name, replacement(original))
    return undo.close


def _create_rest_api(original: Callable[..., Any]) -> Callable[..., Any]:
    """moto drops the media types."""

    def replacement(response: APIGatewayResponse) -> Any:
        before = set(response.backend.apis)
        answer = original(response)
        for api_id in set(response.backend.apis) - before:
            api = response.backend.apis[api_id]
            api.binaryMediaTypes = list(response._get_param("binaryMediaTypes") or api.binaryMediaTypes)
        return answer

    return replacement


def _patch(original: Callable[..., Any]) -> Callable[..., Any]:
    """A media type is a part of the path (`/binaryMediaTypes/*~1*`); moto looks for it in the value."""

    def replacement(api: RestAPI, operations: list[dict[str, Any]]) -> None:
        rest = []
        for operation in operations:
            head, _, kind = operation["path"].removeprefix("/").partition("/")
            if head != "binaryMediaTypes" or not kind:
                rest.append(operation)
            elif operation["op"] == "add":
                api.binaryMediaTypes = [*api.binaryMediaTypes, kind.replace(_SLASH, "/")]
            elif operation["op"] == "remove":
                api.binaryMediaTypes = [one for one in api.binaryMediaTypes if one != kind.replace(_SLASH, "/")]
        original(api, rest)

    return replacement


def _tagged(api_of: Callable[[APIGatewayResponse], RestAPI | None], change: Callable[[RestAPI, Any], None]) -> Any:
    """moto tags stages only."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(response: APIGatewayResponse) -> Any:
            api = api_of(response)
            if api is None:
                return original(response)
            change(api, response)
            return "{}"

        return replacement

    return wrap


def _api_of(response: APIGatewayResponse) -> RestAPI | None:
    kind, _, api_id = unquote(unquote(response.path.split("/tags/")[1])).partition("::/")[2].partition("/")
    if kind != "restapis" or "/" in api_id:
        return None
    return response.backend.get_rest_api(api_id)


def _tag(api: RestAPI, response: Any) -> None:
    api.tags = {**api.tags, **(response._get_param("tags") or {})}


def _untag(api: RestAPI, response: Any) -> None:
    gone = set(response.querystring.get("tagKeys") or ())
    api.tags = {key: value for key, value in api.tags.items() if key not in gone}


def _delete_rest_api(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(backend: APIGatewayBackend, function_id: str) -> Any:
        if function_id not in backend.apis:
            raise RestAPINotFound
        return original(backend, function_id)

    return replacement


def _delete_usage_plan(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(backend: APIGatewayBackend, usage_plan_id: str) -> Any:
        plan = backend.usage_plans.get(usage_plan_id)
        if plan is None:
            raise UsagePlanNotFoundException
        if plan.api_stages:
            raise BadRequestException(
                f"Cannot delete Usage Plan {usage_plan_id} because it has API stages associated with it."
            )
        backend.usage_plan_keys.pop(usage_plan_id, None)
        return original(backend, usage_plan_id)

    return replacement


def _delete_api_key(original: Callable[..., Any]) -> Callable[..., Any]:
    """A key that goes leaves its plans."""

    def replacement(backend: APIGatewayBackend, api_key_id: str) -> None:
        original(backend, api_key_id)
        for keys in backend.usage_plan_keys.values():
            keys.pop(api_key_id, None)

    return replacement


def _put_method(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(
        backend: APIGatewayBackend, function_id: str, resource_id: str, method_type: str, *args: Any, **more: Any
    ) -> Any:
        if method_type in backend.get_resource(function_id, resource_id).resource_methods:
            raise ConflictException("Method already exists for this resource")
        return original(backend, function_id, resource_id, method_type, *args, **more)

    return replacement


def _create_usage_plan_key(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(backend: APIGatewayBackend, usage_plan_id: str, payload: dict[str, Any]) -> Any:
        if payload["keyId"] in backend.usage_plan_keys.get(usage_plan_id, {}):
            raise ConflictException(f"{payload['keyId']} is already subscribed to this usage plan")
        return original(backend, usage_plan_id, payload)

    return replacement


def _create_deployment(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stage serves what its deployment found, whatever the API has become since."""

    def replacement(api: RestAPI, name: str, description: str, stage_variables: Any = None) -> Any:
        methods = [method for resource in api.resources.values() for method in resource.resource_methods.values()]
        if not methods:
            raise BadRequestException("The REST API doesn't contain any methods")
        if any(method.method_integration is None for method in methods):
            raise BadRequestException("No integration defined for method")
        deployment = original(api, name, description, stage_variables)
        served = {
            resource.get_path(): copy.deepcopy(resource.resource_methods)
            for resource in api.resources.values()
            if resource.resource_methods
        }
        setattr(deployment, SERVES, (tuple(api.binaryMediaTypes), served))
        return deployment

    return replacement


_REPLACED: Final[tuple[tuple[type, str, _Replacement], ...]] = (
    (APIGatewayResponse, "create_rest_api", _create_rest_api),
    (APIGatewayResponse, "tag_resource", _tagged(_api_of, _tag)),
    (APIGatewayResponse, "untag_resource", _tagged(_api_of, _untag)),
    (APIGatewayBackend, "delete_rest_api", _delete_rest_api),
    (APIGatewayBackend, "delete_usage_plan", _delete_usage_plan),
    (APIGatewayBackend, "delete_api_key", _delete_api_key),
    (APIGatewayBackend, "put_method", _put_method),
    (APIGatewayBackend, "create_usage_plan_key", _create_usage_plan_key),
    (RestAPI, "create_deployment", _create_deployment),
    (RestAPI, "apply_patch_operations", _patch),
)
