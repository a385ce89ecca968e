"""Which operation of Batch does an HTTP request ask for? `POST /v1/<operation>`, and tags below `/v1/tags/<arn>`."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from scar.local.refusal import RefusalError

_TAGS: Final = "/v1/tags/"
_TAG_OPERATIONS: Final = {"GET": "listtagsforresource", "POST": "tagresource", "DELETE": "untagresource"}


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
