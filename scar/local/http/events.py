"""What a function is given of a request: format 1.0, as REST APIs send it, and 2.0, as Function URLs do.

Sources: apigateway/latest/developerguide/set-up-lambda-proxy-integrations (input format), lambda/latest/dg/urls-invocation (payloads).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from scar.local.http.requests import Request
from scar.local.http.routing import Api, Url

# Between two machines only; a gateway does not hand them on.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What a Function URL passes as text; all else is in base64.
_TEXT: Final = ("text/", "application/json", "application/javascript", "application/xml", "application/x-ndjson")


@dataclass(frozen=True, slots=True)
class Who:
    """The caller, as far as it was found out. Empty where nobody asked."""

    account: str = ""
    access_key: str = ""
    arn: str = ""
    user: str = ""
    api_key: str = ""


def version_1(request: Request, api: Api, path: str, who: Who, request_id: str) -> dict[str, Any]:
    headers = [*_passed_on(request), *_forwarded(request)]
    query = parse_qsl(request.raw_query, keep_blank_values=True)
    now = time.time()
    body, encoded = _binary(request.body) if _is_binary(api, request) else _text(request.body)
    return {
        "resource": api.path,
        "path": path,
        "httpMethod": request.method,
        "headers": dict(headers),
        "multiValueHeaders": _several(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _several(query) or None,
        "pathParameters": api.parameters,
        "stageVariables": None,
        "requestContext": {
            "resourceId": api.resource_id,
            "resourcePath": api.path,
            "httpMethod": request.method,
            "extendedRequestId": request_id,
            "requestTime": _clock(now),
            "path": f"/{api.stage}{path}",
            "accountId": api.account,
            "protocol": request.protocol,
            "stage": api.stage,
            "domainPrefix": api.id,
            "requestTimeEpoch": int(now * 1000),
            "requestId": request_id,
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": who.account or None,
                "cognitoIdentityId": None,
                "caller": who.user or None,
                "sourceIp": request.source_ip,
                "principalOrgId": None,
                "accessKey": who.access_key or None,
                "cognitoAuthenticationType": None,
                "cognitoAuthenticationProvider": None,
                "userArn": who.arn or None,
                "userAgent": request.header("user-agent") or None,
                "user": who.user or None,
                **({"apiKey": who.api_key} if who.api_key else {}),
            },
            "domainName": f"{api.id}.execute-api.{api.region}.amazonaws.com",
            "deploymentId": "",
            "apiId": api.id,
        },
        "body": body,
        "isBase64Encoded": encoded,
    }


def version_2(request: Request, url: Url, path: str, who: Who, request_id: str) -> dict[str, Any]:
    passed = [*_passed_on(request), *_forwarded(request)]
    cookies = [part.strip() for name, value in passed if name.lower() == "cookie" for part in value.split(";")]
    headers = {name.lower(): ",".join(values) for name, values in _several(passed, lower=True).items()}
    query = parse_qsl(request.raw_query, keep_blank_values=True)
    kind = request.header("content-type").lower()
    body, encoded = _text(request.body) if kind.startswith(_TEXT) else _binary(request.body)
    domain = f"{url.id}.lambda-url.{url.function.region}.on.aws"
    context: dict[str, Any] = {
        "accountId": who.account or "anonymous",
        "apiId": url.id,
        "domainName": domain,
        "domainPrefix": url.id,
        "http": {
            "method": request.method,
            "path": path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _clock(time.time()),
        "timeEpoch": int(time.time() * 1000),
    }
    if who.arn:
        iam = {"accessKey": who.access_key, "accountId": who.account, "callerId": who.user, "cognitoIdentity": None}
        context["authorizer"] = {"iam": {**iam, "principalOrgId": None, "userArn": who.arn, "userId": who.user}}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.raw_query,
        **({"cookies": cookies} if cookies else {}),
        "headers": {name: value for name, value in headers.items() if name != "cookie"},
        **(
            {"queryStringParameters": {name: ",".join(values) for name, values in _several(query).items()}}
            if query
            else {}
        ),
        "requestContext": context,
        **({"body": body} if body is not None else {}),
        "isBase64Encoded": encoded,
    }


def _passed_on(request: Request) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP)


def _forwarded(request: Request) -> Iterable[tuple[str, str]]:
    port = request.host.rpartition(":")[2] if request.host.rpartition(":")[2].isdecimal() else "80"
    yield from (("X-Forwarded-For", request.source_ip), ("X-Forwarded-Port", port), ("X-Forwarded-Proto", "http"))


def _several(pairs: Iterable[tuple[str, str]], *, lower: bool = False) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.lower() if lower else name, []).append(value)
    return found


def _is_binary(api: Api, request: Request) -> bool:
    """A media type `*/*` is every body's, whether it says its own or not."""
    kind = request.header("content-type").partition(";")[0].strip().lower()
    return any(one in ("*/*", kind) for one in api.binary)


def _text(body: bytes) -> tuple[str | None, bool]:
    """A text that is no UTF-8 goes as binary: it would arrive as another."""
    try:
        return (body.decode(), False) if body else (None, False)
    except UnicodeDecodeError:
        return _binary(body)


def _binary(body: bytes) -> tuple[str | None, bool]:
    return (base64.b64encode(body).decode(), True) if body else (None, False)


def _clock(moment: float) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(moment))
