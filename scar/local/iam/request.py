"""One request as IAM sees it: which service, which operation, with which parameters. Read from the wire, before anything else sees it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote

# Services of REST, by the name that they are signed for: what botocore calls them. What is not here is named in a header or a form.
_REST: Final = {"lambda": "lambda", "batch": "batch", "scheduler": "scheduler", "elasticfilesystem": "efs"}


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is decoded, `raw_path` as on the wire; `headers` have lower-case names. `operation` is '' where the service has none (S3, API Gateway)."""

    service: str
    region: str
    account: str
    partition: str
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    operation: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def arn(self, resource: str, *, service: str | None = None, region: str | None = None) -> str:
        """In the caller's account and region, unless the service has none."""
        where = self.region if region is None else region
        return f"arn:{self.partition}:{service or self.service}:{where}:{self.account}:{resource}"

    def text(self, name: str) -> str:
        """A parameter that is a text; '' when it is absent."""
        found = self.parameters.get(name)
        return found if isinstance(found, str) else ""


def operation_of(
    service: str,
    method: str,
    raw_path: str,
    *,
    query: Mapping[str, Sequence[str]],
    headers: Mapping[str, str],
    body: bytes,
) -> tuple[str, dict[str, Any]]:
    """The operation's name in the API, and its parameters; ('', {}) for what no service of these protocols would know."""
    if target := headers.get("x-amz-target"):
        return target.rpartition(".")[2], _document(body)
    if service in _REST:
        return _rest(_REST[service], method, raw_path, query, body)
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = {
            name: values[0]
            for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()
        }
        return form.get("Action", ""), form
    flat = {name: values[0] for name, values in query.items()}
    return flat.get("Action", ""), flat


def _rest(
    model: str, method: str, raw_path: str, query: Mapping[str, Sequence[str]], body: bytes
) -> tuple[str, dict[str, Any]]:
    for verb, pattern, name in _operations(model):
        if verb == method and (found := pattern.fullmatch(raw_path)):
            labels = {label: unquote(value) for label, value in found.groupdict().items()}
            flat = {key: values[0] for key, values in query.items()}
            return name, {**flat, **_document(body), **labels}
    return "", {}


@functools.cache
def _operations(model: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """The operations of a service's model, those with the most literal path first. A version in a path may be any that botocore knows."""
    from botocore.loaders import Loader

    found = []
    for name, operation in Loader().load_service_model(model, "service-2")["operations"].items():
        path = operation["http"]["requestUri"].partition("?")[0]
        found.append((len(re.sub(r"\{[^}]*\}", "", path)), operation["http"]["method"], _pattern(path), name))
    return tuple((verb, pattern, name) for _, verb, pattern, name in sorted(found, key=lambda one: (-one[0], one[3])))


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", path.rstrip("/"))
    return re.compile("".join(map(_part, parts)) + "/?")


def _part(text: str) -> str:
    if not text.startswith("{"):
        return re.escape(text)
    label = re.sub(r"\W", "_", text.strip("{}+"))
    return f"(?P<{label}>.+)" if text.endswith("+}") else f"(?P<{label}>[^/]+)"


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
