"""What becomes of a function's answer: a status, headers and bytes, or the error that its caller gets in their place."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# Set by the server itself; what a function says of them would contradict the connection.
_OURS: Final = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def with_headers(self, *more: tuple[str, str]) -> Answer:
        return Answer(self.status, (*self.headers, *more), self.body)


class MalformedError(Exception):
    """The function's answer is none that HTTP could be made of."""


def error(status: int, message: str, kind: str, *, key: str = "message") -> Answer:
    """As API Gateway says it; Function URLs write `Message`."""
    body = json.dumps({key: message}, separators=(",", ":")).encode()
    return Answer(status, (("Content-Type", _JSON), ("x-amzn-ErrorType", kind)), body)


def of_rest_api(payload: bytes) -> Answer:
    """Raises MalformedError for what API Gateway answers with 502."""
    document = _loaded(payload)
    if not isinstance(document, dict) or set(document) - {
        "statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "cookies",
    }:  # fmt: skip
        raise MalformedError
    return _answer(document, default_type=_JSON)


def of_function_url(payload: bytes) -> Answer:
    """A document without a status code is itself the body."""
    document = _loaded(payload)
    if isinstance(document, dict) and "statusCode" in document:
        return _answer(document, default_type=_JSON)
    body = document.encode() if isinstance(document, str) else payload
    return Answer(200, (("Content-Type", _JSON),), body)


def _loaded(payload: bytes) -> object:
    try:
        return json.loads(payload or b"null")
    except ValueError as broken:
        raise MalformedError from broken


def _answer(document: Mapping[str, Any], *, default_type: str) -> Answer:
    status, body = document.get("statusCode"), document.get("body")
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        raise MalformedError
    if body is not None and not isinstance(body, str):
        raise MalformedError
    headers = [(name, value) for name, value in _headers(document) if name.lower() not in _OURS]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", default_type))
    return Answer(status, tuple(headers), _bytes(body or "", encoded=document.get("isBase64Encoded") is True))


def _bytes(body: str, *, encoded: bool) -> bytes:
    try:
        return base64.b64decode(body, validate=True) if encoded else body.encode()
    except (binascii.Error, ValueError) as broken:
        raise MalformedError from broken


def _headers(document: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    single, several = document.get("headers") or {}, document.get("multiValueHeaders") or {}
    cookies = document.get("cookies") or ()
    if not isinstance(single, dict) or not isinstance(several, dict) or not isinstance(cookies, list | tuple):
        raise MalformedError
    found = [(name, _text(value)) for name, value in single.items() if name not in several]
    for name, values in several.items():
        found += [(name, _text(value)) for value in (values if isinstance(values, list) else [values])]
    return [*found, *(("Set-Cookie", _text(cookie)) for cookie in cookies)]


def _text(value: object) -> str:
    if isinstance(value, dict | list) or value is None:
        raise MalformedError
    return str(value).lower() if isinstance(value, bool) else str(value)
