"""Whom does a request to an endpoint mean: which API, stage and route, or which function's URL? Read from the host, else from the path.

http://<api id>.execute-api.<region>.amazonaws.com/<stage>/<path>      as on AWS; `.localhost` in the place of `.amazonaws.com` too
http://127.0.0.1:PORT/_aws/execute-api/<api id>/<stage>/<path>         where no name leads here
http://<url id>.lambda-url.<region>.on.aws/<path>                      and `.localhost`
http://127.0.0.1:PORT/_aws/lambda-url/<url id>/<path>
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Final

from moto.awslambda.models import LambdaFunction, lambda_backends

from scar.local.http.hooks import URL_PATH, url_id

SERVES: Final = "scar_serves"  # on a deployment of moto's: the media types and routes that it had when it was made
API_PATH: Final = "/_aws/execute-api/"
_API_HOST: Final = re.compile(
    r"([a-z0-9]+)\.execute-api\.([a-z0-9-]+\.)?(amazonaws\.com|localhost)(:\d+)?", re.IGNORECASE
)
_URL_HOST: Final = re.compile(r"([a-z0-9]+)\.lambda-url\.([a-z0-9-]+\.)?(on\.aws|localhost)(:\d+)?", re.IGNORECASE)
_MODELS: Final = "moto.apigateway.models"
_INTEGRATION: Final = re.compile(r"arn:[^:]+:apigateway:([^:]+):lambda:path/[^/]+/functions/(arn:[^/]+)/invocations")


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names, whether or not it is there. `path` is what is left for the endpoint, as sent."""

    kind: str  # "api" or "url"
    id: str
    stage: str
    path: str


@dataclass(frozen=True, slots=True)
class Api:
    """A route of a stage, as it was deployed. `path` is the resource's pattern; `function` an ARN, None for an integration that is none of Lambda."""

    id: str
    account: str
    region: str
    stage: str
    resource_id: str
    path: str
    parameters: dict[str, str] | None
    method: str
    authorization: str
    key_required: bool
    binary: tuple[str, ...]
    function: str | None
    limit_s: float | None
    integration: str


@dataclass(frozen=True, slots=True)
class Url:
    id: str
    auth: str
    function: LambdaFunction


def named(host: str, raw_path: str) -> Named | None:
    """None for a request to anything else."""
    if found := _API_HOST.fullmatch(host):
        stage, _, rest = raw_path.removeprefix("/").partition("/")
        return Named("api", found[1].lower(), stage, f"/{rest}")
    if found := _URL_HOST.fullmatch(host):
        return Named("url", found[1].lower(), "$default", raw_path or "/")
    if raw_path.startswith(API_PATH):
        api_id, _, below = raw_path.removeprefix(API_PATH).partition("/")
        stage, _, rest = below.partition("/")
        return Named("api", api_id, stage, f"/{rest}")
    if raw_path.startswith(URL_PATH):
        url_id, _, rest = raw_path.removeprefix(URL_PATH).partition("/")
        return Named("url", url_id, "$default", f"/{rest}")
    return None


def has_stage(api_id: str, stage: str) -> bool:
    found = _api(api_id)
    return found is not None and stage in found[2].stages


def route(asked: Named, method: str) -> Api | None:
    """The route that a deployed stage has for a path and a method; None when it has none."""
    found = _api(asked.id)
    if found is None or asked.stage not in found[2].stages:
        return None
    account, region, api = found
    deployment = api.deployments.get(api.stages[asked.stage].deployment_id)
    serves: tuple[tuple[str, ...], dict[str, Any]] = getattr(deployment, SERVES, ((), {}))
    binary, served = serves
    best = _best(served, asked.path)
    if best is None:
        return None
    path, parameters = best
    settings = served[path].get(method) or served[path].get("ANY")
    if settings is None:
        return None
    integration = settings.method_integration
    uri = _INTEGRATION.fullmatch(str(integration.uri or "")) if integration is not None else None
    limit_ms = integration.timeout_in_millis if integration is not None else None
    resource = next((one.id for one in api.resources.values() if one.get_path() == path), "")
    return Api(
        id=asked.id,
        account=account,
        region=region,
        stage=asked.stage,
        resource_id=resource,
        path=path,
        parameters=parameters,
        method=settings.http_method,
        authorization=str(settings.authorization_type or "NONE"),
        key_required=str(settings.api_key_required).lower() == "true",
        binary=tuple(binary),
        function=uri[2] if uri else None,
        limit_s=int(limit_ms) / 1000 if limit_ms else None,
        integration=str(integration.integration_type) if integration is not None else "",
    )


def url(asked: Named) -> Url | None:
    for _, _, backend in list(lambda_backends.iter_backends()):
        for group in list(backend._lambdas._functions.values()):
            config = getattr(group["latest"], "url_config", None)
            if config is not None and url_id(config.url) == asked.id:
                return Url(asked.id, str(config.config["AuthType"]), group["latest"])
    return None


def key_opens(value: str, api: Api) -> bool:
    """Whether an API key's value is that of an enabled key of a usage plan that has this stage."""
    backend = _backends()[api.account][api.region]
    here = {"apiId": api.id, "stage": api.stage}
    for plan in list(backend.usage_plans.values()):
        if not any(here.items() <= held.items() for held in plan.api_stages):
            continue
        for key_id in backend.usage_plan_keys.get(plan.id, {}):
            key = backend.keys.get(key_id)
            if key is not None and key.enabled and key.value == value:
                return True
    return False


def _api(api_id: str) -> tuple[str, str, Any] | None:
    if _MODELS not in sys.modules:  # nobody has made an API; to look would import it
        return None
    for account, region, backend in list(_backends().iter_backends()):
        if api_id in backend.apis:
            return account, region, backend.apis[api_id]
    return None


def _backends() -> Any:
    from moto.apigateway.models import apigateway_backends

    return apigateway_backends


def _best(served: dict[str, Any], path: str) -> tuple[str, dict[str, str] | None] | None:
    """The most exact of the patterns that a path fits: words before `{name}` before `{name+}`."""
    found = [
        (pattern, match)
        for pattern in served
        if (match := _pattern(pattern).fullmatch(path.rstrip("/") or "/")) is not None
    ]
    if not found:
        return None
    pattern, match = min(found, key=lambda one: (one[0].count("+}"), one[0].count("{"), -len(one[0])))
    return pattern, match.groupdict() or None


def _pattern(pattern: str) -> re.Pattern[str]:
    parts = []
    for part in pattern.strip("/").split("/"):
        if part.startswith("{") and part.endswith("+}"):
            parts.append(f"(?P<{part[1:-2]}>.+)")
        elif part.startswith("{"):
            parts.append(f"(?P<{part[1:-1]}>[^/]+)")
        else:
            parts.append(re.escape(part))
    return re.compile("/" + "/".join(parts))
