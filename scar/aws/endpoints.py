"""Which functions have an HTTP endpoint, and where? Asked by whoever shows endpoints or calls one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import is_absent, mapped
from scar.aws.rest_apis import all_of_ours, mine

Auth = Literal["iam", "none", "api_key"]
Kind = Literal["api gateway", "function url"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way in over HTTP. `url` has no `/` at its end; in the local AWS it is what `curl` can use there.

    `service` is what a request is signed for where `auth` is `iam`; `key_name` names the API key where it is `api_key`, which is never shown.
    """

    function: str
    kind: Kind
    url: str
    auth: Auth
    service: str
    key_name: str = ""

    @property
    def public(self) -> bool:
        """Whether anyone on the internet can run the function through it."""
        return self.auth == "none"


def endpoints(aws: Aws) -> Mapping[str, tuple[Endpoint, ...]]:
    """Every function of ours in this region that has endpoints, the REST API first.

    Calls: one per 500 REST APIs of all, one per 100 functions that have a URL, and one for each of these.
    """
    found: dict[str, tuple[Endpoint, ...]] = {}
    with mapped("list HTTP endpoints"):
        for endpoint in [*_rest_apis(aws), *_urls(aws)]:
            found[endpoint.function] = (*found.get(endpoint.function, ()), endpoint)
    return found


def endpoints_of(aws: Aws, function: str) -> tuple[Endpoint, ...]:
    """Those of one function; empty: it has none. Two calls."""
    with mapped(f"look for HTTP endpoints of {function}"):
        return (*(_rest_api(aws, api) for api in mine(aws, function)[:1]), *_url(aws, function))


def _rest_apis(aws: Aws) -> Iterator[Endpoint]:
    seen: set[str] = set()
    for api in sorted(all_of_ours(aws), key=lambda api: (str(api.get("createdDate", "")), api["id"])):
        endpoint = _rest_api(aws, api)
        if endpoint.function not in seen:
            seen.add(endpoint.function)
            yield endpoint


def _rest_api(aws: Aws, api: Mapping[str, Any]) -> Endpoint:
    said: Mapping[str, str] = api["tags"]
    function, auth = said[tags.FUNCTION], cast("Auth", said.get(tags.AUTH, "iam"))
    where = urlsplit(aws.apigateway.meta.endpoint_url)
    stage, path = said.get(tags.STAGE, ""), "".join(f"/{one}" for one in tags.unpacked(said.get(tags.PATH, "")))
    if (where.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        suffix = "amazonaws.com.cn" if aws.partition == "aws-cn" else "amazonaws.com"
        base = f"https://{api['id']}.execute-api.{aws.region}.{suffix}"
    else:  # an AWS that has no names of its own in the DNS
        base = f"{where.scheme}://{where.netloc}/_aws/execute-api/{api['id']}"
    key_name = names.api_key(function) if auth == "api_key" else ""
    return Endpoint(function, "api gateway", f"{base}/{stage}{path}", auth, "execute-api", key_name)


def _urls(aws: Aws) -> Iterator[Endpoint]:
    pages = aws.tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": tags.URL}], ResourceTypeFilters=["lambda:function"], PaginationConfig={"PageSize": 100}
    )
    for page in pages:
        for item in page["ResourceTagMappingList"]:
            yield from _url(aws, item["ResourceARN"].rpartition(":")[2])


def _url(aws: Aws, function: str) -> Iterator[Endpoint]:
    try:
        found = aws.lambda_.get_function_url_config(FunctionName=function)
    except ClientError as error:
        if is_absent(error):
            return
        raise
    auth: Auth = "none" if found["AuthType"] == "NONE" else "iam"
    yield Endpoint(function, "function url", found["FunctionUrl"].rstrip("/"), auth, "lambda")
