"""The HTTP endpoints of a function: a REST API of API Gateway, a Function URL, both, or none.

Closed unless the definition says otherwise: callers sign their requests, and IAM decides. `auth: none` is said aloud by whoever plans it.
"""

from __future__ import annotations

from collections.abc import Iterable

from scar.aws import tags
from scar.aws.resources.function_url import FunctionUrl
from scar.aws.resources.rest_api import RestApi, digest
from scar.aws.resources.rest_api_routes import PROXY, Route, uri
from scar.design.iam import Statement
from scar.design.site import Site
from scar.errors import UsageError
from scar.fdl.model import ApiGateway, Function
from scar.plan.resource import Id, Resource


def statements(fn: Function, site: Site) -> tuple[Statement, ...]:
    """What a function with an endpoint may do besides: invoke itself, so that it can answer a request at once and run it after."""
    if fn.api_gateway is None and fn.function_url is None:
        return ()
    own = site.arn("lambda", f"function:{fn.name}")
    return ({"Sid": "AnswerAtOnce", "Effect": "Allow", "Action": ["lambda:InvokeFunction"], "Resource": [own]},)


def resources(fn: Function, site: Site) -> Iterable[Resource]:
    """What makes the endpoints, all of it after the function. Raises UsageError for an API in another region than its function."""
    if fn.api_gateway is not None:
        yield _rest_api(fn, fn.api_gateway, site)
    if fn.function_url is not None:
        yield FunctionUrl(fn.name, fn.function_url.auth)


def kinds(fn: Function) -> tuple[str, ...]:
    """What the function's mark tells of its endpoints, so that they are asked for where there are some."""
    api = fn.api_gateway
    return (
        *(("api",) if api is not None else ()),
        *(("key",) if api is not None and api.auth == "api_key" else ()),
        *(("url",) if fn.function_url is not None else ()),
    )


def listing(fn: Function) -> dict[str, str]:
    """What the function's own tags tell of its endpoints: which functions have a URL, AWS does not list."""
    return {} if fn.function_url is None else {tags.URL: fn.function_url.auth}


def _rest_api(fn: Function, api: ApiGateway, site: Site) -> RestApi:
    if api.region not in {None, site.region}:
        raise UsageError(
            f"the API is to stand in {api.region}, but the function in {site.region}",
            where=f"{fn.name}: api_gateway.region",
            fix="Leave `api_gateway.region` out: the API is made beside the function.",
        )
    arn = site.arn("lambda", f"function:{fn.name}")
    path = f"/{api.path_part}"
    routes = tuple(
        Route(
            path=one,
            method=api.http_method,
            authorization="AWS_IAM" if api.auth == "iam" else "NONE",
            key_required=api.auth == "api_key",
            uri=uri(site.region, site.partition, arn),
        )
        for one in (("/", PROXY) if path == PROXY else (path,))  # `{proxy+}` is every path but the root itself
    )
    return RestApi(
        name=api.name or fn.name,
        function=fn.name,
        stage=api.stage_name,
        auth=api.auth,
        routes=routes,
        tags=tags.of_function(fn.name, fn.lambda_.tags, _api_listing(api)),
        serves=digest(routes),
        after=(Id("function", fn.name),),
    )


def _api_listing(api: ApiGateway) -> dict[str, str]:
    """What `ls` shows, and what is not asked of each API: a path is among it when it is not every path."""
    said = {tags.STAGE: api.stage_name, tags.AUTH: api.auth}
    return said if api.path_part == PROXY[1:] else {**said, tags.PATH: tags.packed([api.path_part])}
