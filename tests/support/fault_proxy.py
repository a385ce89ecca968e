"""What does the product do when AWS answers late, wrong, twice or not at all? A proxy before the local AWS that breaks what it is told to.

It stands on 127.0.0.1 before any AWS endpoint and understands every service: whose request it is says the signature, which
operation it is says botocore's own model. Rules name service, operation and which of the matching requests are meant:

    with FaultProxy(local.url) as proxy:
        proxy.add("batch", "SubmitJob", Lose(), times=1)          # applied, and the answer never comes back
        proxy.add("batch", "ListJobs", Answer({"jobSummaryList": []}), times=2)

Two ways lead through it. A command or a boto3 client is given `AWS_ENDPOINT_URL=proxy.endpoint` instead of the local AWS's own address. What
runs in a sandbox of the local AWS finds `AWS_ENDPOINT_URL` set by it, which a function cannot change; botocore and the agent prefer
`AWS_ENDPOINT_URL_<SERVICE>`, so the function's own environment (`lambda.environment`, `batch.environment`) names the proxy there:
`{"AWS_ENDPOINT_URL_BATCH": proxy.endpoint}`. Sandboxes share the network of this machine, so 127.0.0.1 is the same one.
"""

from __future__ import annotations

import functools
import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore.model import OperationModel

from tests.support.loopback import Handler, Loopback

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d{8}/[^/,\s]*/([^/,\s]+)/aws4_request")


@dataclass(frozen=True)
class Refuse:
    """Not forwarded: an error answer with `status` and AWS's error `code`."""

    status: int
    code: str = "InternalFailure"
    message: str = "as the test wants"


@dataclass(frozen=True)
class Lose:
    """Forwarded and applied; the connection ends without an answer."""


@dataclass(frozen=True)
class Cut:
    """Forwarded and applied; of the answer's body only the first `after` bytes come, though its whole length was told."""

    after: int = 0


@dataclass(frozen=True)
class Slow:
    """Forwarded after `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """Not forwarded: this document, with success. An empty or a stale answer is one of these."""

    document: Mapping[str, Any]


@dataclass(frozen=True)
class Alter:
    """Forwarded; the answer's JSON document is what `change` makes of it."""

    change: Callable[[Any], Any]


Fault = Refuse | Lose | Cut | Slow | Answer | Alter


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


@dataclass
class Rule:
    """`skip` matching requests pass untouched, then `times` (None: all) have the fault, then all pass again."""

    service: str
    operation: str
    fault: Fault
    skip: int = 0
    times: int | None = 1
    where: Callable[[Request], bool] = lambda _: True
    met: int = 0

    def take(self, request: Request) -> bool:
        if (request.service, request.operation) != (self.service, self.operation) or not self.where(request):
            return False
        self.met += 1
        return self.met > self.skip and (self.times is None or self.met <= self.skip + self.times)


@dataclass
class FaultProxy(Loopback):
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs; `requests` holds all that was answered."""

    behind: str
    rules: list[Rule] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    def add(
        self,
        service: str,
        operation: str,
        fault: Fault,
        *,
        skip: int = 0,
        times: int | None = 1,
        where: Callable[[Request], bool] = lambda _: True,
    ) -> Rule:
        """From now on. Of several rules for one request the first that applies is obeyed; each counts for itself."""
        assert operation in operations(service), f"{service} has no operation {operation}"
        rule = Rule(service, operation, fault, skip, times, where)
        with self._lock:
            self.rules.append(rule)
        return rule

    def calls(self, service: str, operation: str) -> list[Request]:
        """What came of one operation, answered or not."""
        with self._lock:
            return [item for item in self.requests if (item.service, item.operation) == (service, operation)]

    def fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            taken = [rule.fault for rule in self.rules if rule.take(request)]
        return taken[0] if taken else None

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)


class _Handler(Handler):
    def _serve(self) -> None:
        proxy = self.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "100-continue" in headers.get("expect", ""):
            self.send_response_only(100)
            self.end_headers()
        body = self._body(headers)
        service, operation = called(self.command, self.path, headers, body)
        request = Request(service, operation, self.command, self.path, headers, body)
        fault = proxy.fault_of(request)
        if isinstance(fault, Refuse):
            status, sent, answer = fault.status, *refusal(service, fault)
        elif isinstance(fault, Answer):
            status, sent, answer = 200, {"Content-Type": "application/json"}, json.dumps(fault.document).encode()
        else:
            if isinstance(fault, Slow):
                time.sleep(fault.seconds)
            status, sent, answer = forward(request, proxy.behind)
        lost = isinstance(fault, Lose)
        proxy.note(Request(service, operation, self.command, self.path, headers, body, None if lost else status))
        if lost:
            self.close_connection = True
            return
        if isinstance(fault, Alter):
            answer = json.dumps(fault.change(json.loads(answer))).encode()
        lengths = [sent.pop(name) for name in list(sent) if name.lower() == "content-length"]
        told = lengths[0] if lengths and self.command == "HEAD" else str(len(answer))
        self.send_response_only(status)
        for name, value in {**sent, "Content-Length": told}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer[: fault.after] if isinstance(fault, Cut) else answer)
        if isinstance(fault, Cut):
            self.wfile.flush()
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _serve

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def forward(request: Request, behind: str) -> tuple[int, dict[str, str], bytes]:
    """What stands behind answers: status, headers, body. The signed `Host` stays as it came."""
    connection = http.client.HTTPConnection(urlsplit(behind).netloc)
    dropped = {"expect", "connection", "transfer-encoding", "content-length"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    try:
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        dropped = {"connection", "server", "date", "transfer-encoding"}
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
        return answer.status, kept, answer.read()
    finally:
        connection.close()


def refusal(service: str, fault: Refuse) -> tuple[dict[str, str], bytes]:
    """An error in the words of the service's protocol."""
    if operations(service) and protocol(service) in {"json", "rest-json"}:
        document = json.dumps({"__type": fault.code, "message": fault.message}).encode()
        return {"Content-Type": "application/json", "x-amzn-ErrorType": fault.code}, document
    error = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
    text = error if service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
    return {"Content-Type": "text/xml"}, text.encode()


def called(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Service and operation of a request; '' for what cannot be told."""
    found = _SCOPE.search(headers.get("authorization", ""))
    service = found[1] if found else ""
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
    return str(_model(service).metadata["protocol"])


@functools.cache
def operations(service: str) -> Mapping[str, tuple[str, re.Pattern[str], frozenset[str]]]:
    """Operation → method, pattern of its path, and what the query and the headers must have for it; empty for no service of AWS."""
    if service not in botocore.session.get_session().get_available_services():
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
    return botocore.session.get_session().get_service_model(service)
