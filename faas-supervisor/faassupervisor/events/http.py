"""Requests to the function's HTTP endpoint, as API Gateway (REST and HTTP APIs) and function URLs hand them over: formats 1.0 and 2.0.

The body is the input file, byte for byte: data, whatever it looks like. Of the rest a script finds the method, the path and the query
parameters as variables (`variables`), and all of it in its event, without what proves who the caller is.

`X-Amz-Invocation-Type: Event` asks for a run that nobody waits for. That run comes as an event of our own making: the same request with
`FORWARDED` beside it, which no client can write, as its words end up inside the fields.

A payload is a request when it has a method, a path and a request context; `{"httpMethod": …, "body": …}` alone is the user's data.
Sources: apigateway/latest/developerguide/set-up-lambda-proxy-integrations, http-api-develop-integrations-lambda, lambda/latest/dg/urls-invocation.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from faassupervisor import contract
from faassupervisor.events import fields
from faassupervisor.events.items import HttpItem, Known, Outcome, Payload, Refused

FORWARDED: Final = "scar:forwarded"  # beside the request: the id of the invocation that promised this run
# One variable may have 128 KiB in Linux; API Gateway takes 10 KB of line and headers.
MOST_QUERY_BYTES: Final = 64 * 1024
MOST_PARAMETERS: Final = 500
_METHOD: Final = re.compile("[A-Z]{1,32}")
_PARAMETER: Final = re.compile("[A-Za-z0-9_]{1,128}")
_ASYNCHRONOUS: Final = ("x-amz-invocation-type", "event")
_SECRET: Final = re.compile(
    "authori[sz]ation|x-auth|cookie|token|secret|passw|credential|signature|session|api-?key|private-?key|client-?cert"
)
_SECRET_CONTEXT: Final = frozenset({"apikey", "accesskey", "authentication", "clientcert"})
_SIGNED_QUERY: Final = "x-amz-"  # of a request that is signed in its query


def parse(payload: Payload, _known: Known) -> Sequence[Outcome] | None:
    """One request, or why it is none that can be served; None when the payload is something else."""
    document = payload.document
    if not isinstance(document, dict) or not is_request(document):
        return None
    try:
        return (_item(document),)
    except _BadRequest as error:
        return (Refused(str(error), of_http=True),)


def is_request(document: object) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("requestContext"), dict):
        return False
    if document.get("version") == "2.0":
        return isinstance(document["requestContext"].get("http"), dict) and isinstance(document.get("rawPath"), str)
    return (
        isinstance(document.get("httpMethod"), str) and isinstance(document.get("path"), str) and "headers" in document
    )


def variables(item: HttpItem) -> Mapping[str, str]:
    """What the script finds in its environment: of several values of a parameter the last."""
    named = {f"{contract.QUERY_PREFIX}{name}": value for name, value in item.query}
    return {**named, contract.HTTP_METHOD: item.method, contract.HTTP_PATH: item.path}


class _BadRequest(Exception):  # noqa: N818  # becomes a Refused
    pass


def _item(document: Mapping[str, Any]) -> HttpItem:
    newer = document.get("version") == "2.0"
    method = document["requestContext"]["http"].get("method") if newer else document["httpMethod"]
    path = document["rawPath"] if newer else document["path"]
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise _BadRequest(f"the method {fields.short(method)} is none of HTTP")
    if "\0" in path or not fields.is_unicode(path) or len(path) > MOST_QUERY_BYTES:
        raise _BadRequest(f"the path {fields.short(path)} cannot be used")
    query = tuple(_without_signature(_query_2(document) if newer else _query_1(document)))
    _check(query)
    public = _without_secrets(document, query, newer=newer)
    headers = tuple(_headers(public))
    return HttpItem(
        event=fields.dumped(public),
        method=method,
        path=path,
        body=_body(document),
        headers=headers,
        query=query,
        asynchronous=any(name == _ASYNCHRONOUS[0] and value.lower() == _ASYNCHRONOUS[1] for name, value in headers),
        forwarded=isinstance(document.get(FORWARDED), str),
    )


def _body(document: Mapping[str, Any]) -> bytes:
    body = document.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise _BadRequest("the body is no text")
    try:
        if document.get("isBase64Encoded") is True:
            return base64.b64decode(body, validate=True)
        return body.encode()
    except (binascii.Error, ValueError) as error:
        raise _BadRequest("the body is not what it is said to be: base64, or UTF-8") from error


def _query_1(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    several = document.get("multiValueQueryStringParameters")
    if isinstance(several, dict):
        for name, values in several.items():
            yield from ((name, _string(value)) for value in (values if isinstance(values, list) else [values]))
        return
    single = document.get("queryStringParameters")
    if isinstance(single, dict):
        yield from ((name, _string(value)) for name, value in single.items())


def _query_2(document: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    raw = document.get("rawQueryString") or ""
    if not isinstance(raw, str) or len(raw) > 3 * MOST_QUERY_BYTES:
        raise _BadRequest("the query is too long")
    try:
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError as error:  # also UnicodeDecodeError
        raise _BadRequest(
            f"the query cannot be read: it is not UTF-8, or has more than {MOST_PARAMETERS} parameters"
        ) from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _BadRequest("a query parameter is no text")
    return value


def _without_signature(query: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in query if not name.lower().startswith(_SIGNED_QUERY))


def _check(query: Sequence[tuple[str, str]]) -> None:
    size = 0
    if len(query) > MOST_PARAMETERS:
        raise _BadRequest(f"the query has more than {MOST_PARAMETERS} parameters")
    for name, value in query:
        if not _PARAMETER.fullmatch(name):
            raise _BadRequest(
                f"the query parameter {fields.short(name)}: only letters, digits and _ may be in its name"
            )
        if "\0" in value or not fields.is_unicode(value):
            raise _BadRequest(f"the query parameter {fields.short(name)} has a value that cannot be used")
        size += len(value.encode())
    if size > MOST_QUERY_BYTES:
        raise _BadRequest(f"the query's values have {size} bytes; {MOST_QUERY_BYTES} are the limit")


def _headers(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    several, single = document.get("multiValueHeaders"), document.get("headers")
    if isinstance(several, dict):
        for name, values in several.items():
            if isinstance(values, list):
                yield from ((name.lower(), value) for value in values if isinstance(value, str))
    elif isinstance(single, dict):
        yield from ((name.lower(), value) for name, value in single.items() if isinstance(value, str))


def _without_secrets(
    document: Mapping[str, Any], query: Sequence[tuple[str, str]], *, newer: bool
) -> Mapping[str, Any]:
    """The request as its script may read it, and as it may travel further: it still parses to the same item."""
    kept = {name: value for name, value in document.items() if name != "cookies"}
    for name in ("headers", "multiValueHeaders"):
        headers = kept.get(name)
        if isinstance(headers, dict):
            kept[name] = {header: value for header, value in headers.items() if not _SECRET.search(header.lower())}
    kept["requestContext"] = _public(document["requestContext"])
    if newer:
        kept["rawQueryString"] = urlencode(query)
    for name in ("queryStringParameters", "multiValueQueryStringParameters"):
        parameters = kept.get(name)
        if isinstance(parameters, dict):
            kept[name] = {key: value for key, value in parameters.items() if not key.lower().startswith(_SIGNED_QUERY)}
    return kept


def _public(value: object) -> object:
    if isinstance(value, dict):
        return {name: _public(inner) for name, inner in value.items() if not _is_secret(name)}
    return [_public(inner) for inner in value] if isinstance(value, list) else value


def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_CONTEXT or _SECRET.search(name.lower()) is not None


def asks(body: bytes) -> bool:
    """Whether a payload is a request at all, however little of it can be understood."""
    try:
        return is_request(json.loads(body))
    except (ValueError, RecursionError):
        return False
