"""API Gateway's control plane: what CreateRestApi, CreateResource, PutMethod, CreateDeployment and their like do not accept.

Source of the rules: apigateway's API reference and apigateway/latest/developerguide/limits. What depends on what is there already (a method
that exists, a plan that holds a stage) is refused in scar.local.http.api_hooks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from scar.local.address import Caller
from scar.local.refusal import RefusalError
from scar.local.services import as_json

Environ = dict[str, Any]

STAGE_PATTERN: Final = r"[a-zA-Z0-9_-]{1,128}"
PATH_PART_PATTERN: Final = r"\{[a-zA-Z0-9._-]+\+?\}|[a-zA-Z0-9._~:$!*'()@;,&=-]+"
METHODS: Final = ("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
AUTHORIZATIONS: Final = ("AWS_IAM", "COGNITO_USER_POOLS", "CUSTOM", "NONE")
LIMIT_MS: Final = (50, 29_000)  # a quota lets an account go beyond; here nobody has asked for one
API_NAME_CHARS: Final = 1024
TAGS: Final = 50

_APIS: Final = re.compile(r"/restapis/?")
_RESOURCE: Final = re.compile(r"/restapis/[^/]+/resources/[^/]+/?")
_METHOD: Final = re.compile(
    r"/restapis/[^/]+/resources/[^/]+/methods/(?P<method>[^/]+)(?P<integration>/integration)?/?"
)
_DEPLOYMENTS: Final = re.compile(r"/restapis/[^/]+/deployments/?")
_STAGES: Final = re.compile(r"/restapis/[^/]+/stages/?")


def check(environ: Environ, content: bytes, _: Caller) -> None:
    method, path, asked = environ["REQUEST_METHOD"], str(environ.get("PATH_INFO", "")), as_json(content)
    for verb, pattern, rule in _RULES:
        if verb == method and (found := pattern.fullmatch(path)):
            rule(asked, found)


def _api(asked: dict[str, Any], _: re.Match[str]) -> None:
    name = asked.get("name")
    if not isinstance(name, str) or not name:
        raise _refused("API name cannot be empty.")
    if len(name) > API_NAME_CHARS:
        raise _refused(f"API name is limited to {API_NAME_CHARS} characters.")
    if len(asked.get("tags") or ()) > TAGS:
        raise _refused(f"A resource may have at most {TAGS} tags.")


def _resource(asked: dict[str, Any], _: re.Match[str]) -> None:
    if not re.fullmatch(PATH_PART_PATTERN, str(asked.get("pathPart", ""))):
        raise _refused(
            "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the "
            "beginning and the end."
        )


def _method(asked: dict[str, Any], found: re.Match[str]) -> None:
    if found["method"] not in METHODS:
        raise _refused("Invalid HTTP method specified")
    if found["integration"]:
        _integration(asked)
    elif asked.get("authorizationType") not in AUTHORIZATIONS:
        raise _refused(f"Invalid authorization type: {asked.get('authorizationType')}")


def _integration(asked: dict[str, Any]) -> None:
    limit = asked.get("timeoutInMillis")
    if limit is not None and not LIMIT_MS[0] <= int(limit) <= LIMIT_MS[1]:
        raise _refused(f"Timeout should be between {LIMIT_MS[0]} ms and {LIMIT_MS[1]} ms")
    if asked.get("type") == "AWS_PROXY" and asked.get("httpMethod") != "POST":
        raise _refused("Lambda functions are invoked by POST: httpMethod of the integration must be POST")


def _deployment(asked: dict[str, Any], _: re.Match[str]) -> None:
    stage = asked.get("stageName")
    if stage is not None and not re.fullmatch(STAGE_PATTERN, str(stage)):
        raise _refused("Stage name only allows a-zA-Z0-9_-")


def _refused(message: str) -> RefusalError:
    return RefusalError(400, "BadRequestException", message)


_RULES: Final[tuple[tuple[str, re.Pattern[str], Callable[[dict[str, Any], re.Match[str]], None]], ...]] = (
    ("POST", _APIS, _api),
    ("POST", _RESOURCE, _resource),
    ("PUT", _METHOD, _method),
    ("POST", _DEPLOYMENTS, _deployment),
    ("POST", _STAGES, _deployment),
)
