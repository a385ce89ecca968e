"""How Batch is asked over HTTP: `POST /v1/<operation>` with a JSON document, and tags below `/v1/tags/<arn>`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from scar.local.address import Environ, caller
from scar.local.refusal import RefusalError

_REGION: Final = "us-east-1"  # of a request that names none
_REGIONS: Final = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,2}-[0-9]{1,2}")

_TAGS: Final = "/v1/tags/"
_TAG_OPERATIONS: Final = {"GET": "listtagsforresource", "POST": "tagresource", "DELETE": "untagresource"}


class Door:
    """Batch as a WSGI application. Refusals are raised: whoever calls words them as the protocol wants."""

    def __init__(self, answer: Callable[[str, str, str, bytes], dict[str, Any]]) -> None:
        """`answer` is service.Batch.answer."""
        self._answer = answer

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        who = caller(environ)
        path = quote(environ.get("PATH_INFO", "").encode("latin-1"))
        target = f"{path}?{environ.get('QUERY_STRING', '')}"
        region = who.region or _REGION
        if not _REGIONS.fullmatch(region):
            raise RefusalError(403, "InvalidSignatureException", "Credential should be scoped to a valid region.")
        name, content = operation(environ["REQUEST_METHOD"], target, environ["wsgi.input"].read())
        answered = self._answer(_account(who.access_key), region, name, content)
        body = json.dumps(answered).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def _account(access_key: str | None) -> str:
    """As moto tells it: the account that made the key, or its own one for all others."""
    from moto.iam.models import get_account_id_from

    return str(get_account_id_from(access_key or ""))


def operation(method: str, target: str, content: bytes) -> tuple[str, bytes]:
    """The operation's name in lower case, and its parameters as a JSON document. `target` is as on the wire, with its query."""
    parts = urlsplit(target)
    path = parts.path
    if path.startswith(_TAGS) and method in _TAG_OPERATIONS:
        arn = unquote(path.removeprefix(_TAGS))
        return _TAG_OPERATIONS[method], _of_tags(method, arn, parts.query, content)
    if method != "POST" or not path.startswith("/v1/"):
        raise RefusalError(404, "UnknownOperationException", f"Batch does not know {method} {path}.")
    return path.removeprefix("/v1/"), content


def _of_tags(method: str, arn: str, query: str, content: bytes) -> bytes:
    given: dict[str, Any] = {}
    if method == "DELETE":
        given = {"tagKeys": parse_qs(query).get("tagKeys", [])}
    elif method == "POST":
        given = document(content)
    return json.dumps(given | {"resourceArn": arn}).encode()


def document(content: bytes) -> dict[str, Any]:
    """A request's body."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "SerializationException", "The request is no JSON document.") from error
    if not isinstance(found, dict):
        raise RefusalError(400, "SerializationException", "The request is no JSON object.")
    return found
