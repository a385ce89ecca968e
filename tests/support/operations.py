"""Which service of AWS is a request for, and which of its operations is it? botocore's own models say so."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore.model import OperationModel

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d{8}/([^/,\s]*)/([^/,\s]+)/aws4_request")


_NAMES = {"tagging": "resourcegroupstaggingapi"}  # where a signature calls a service otherwise than botocore


@dataclass(frozen=True)
class Request:
    """One request as it came. `status` is what was answered, None for an answer that was lost."""

    service: str
    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def region(self) -> str:
        """The region that it is signed for, '' when it is not signed."""
        found = _SCOPE.search(self.headers.get("authorization", ""))
        return found[1] if found else ""

    @property
    def name(self) -> str:
        """What it is, for who reads a failure: neither upload ids nor signatures, which differ from run to run."""
        place = urlsplit(self.path)
        part = parse_qs(place.query).get("partNumber")
        return f"{self.service or self.method} {self.operation} {place.path}" + (f" part {part[0]}" if part else "")


def called(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Service and operation of a request; '' for what cannot be told."""
    found = _SCOPE.search(headers.get("authorization", ""))
    service = found[2] if found else ""
    if target := headers.get("x-amz-target"):
        return service, target.rpartition(".")[2]
    known = operations(service)
    if not known:
        return service, ""
    if protocol(service) in {"query", "ec2"}:
        return service, parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
    place = urlsplit(path)
    given = parse_qs(place.query, keep_blank_values=True).keys() | headers.keys()
    fitting = [
        (len(needed), -len(name), name)
        for name, (verb, pattern, needed) in known.items()
        if verb == method and pattern.fullmatch(place.path) and needed <= given
    ]
    return service, max(fitting, default=(0, 0, ""))[2]  # the one that asks for most


def protocol(service: str) -> str:
    return str(_model(service).resolved_protocol)


@functools.cache
def operations(service: str) -> Mapping[str, tuple[str, re.Pattern[str], frozenset[str]]]:
    """Operation → method, pattern of its path, and what the query and the headers must have for it; empty for no service of AWS."""
    if _NAMES.get(service, service) not in botocore.session.get_session().get_available_services():
        return {}
    model = _model(service)
    return {name: _shape(model.operation_model(name)) for name in model.operation_names}


def _shape(operation: OperationModel) -> tuple[str, re.Pattern[str], frozenset[str]]:
    path, _, query = str(operation.http.get("requestUri", "/")).partition("?")
    pattern = re.sub(r"\\\{[^}]*?(\\\+)?\\\}", lambda found: ".+" if found[1] else "[^/]+", re.escape(path))
    needed = set(parse_qs(query, keep_blank_values=True))
    shape = operation.input_shape
    for name in shape.required_members if shape else ():
        wire = shape.members[name].serialization
        if wire.get("location") in {"querystring", "header"}:
            needed.add(wire["name"] if wire["location"] == "querystring" else wire["name"].lower())
    return str(operation.http.get("method", "POST")), re.compile(pattern + "/?"), frozenset(needed)


@functools.cache
def _model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(_NAMES.get(service, service))
