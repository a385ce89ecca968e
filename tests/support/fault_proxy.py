"""What does the product do when AWS answers late, wrong, twice or not at all? A proxy before the local AWS that breaks what it is told to.

It stands on 127.0.0.1 before any AWS endpoint and understands every service: whose request it is says the signature, which
operation it is says botocore's own model. Rules name service, operation and which of the matching requests are meant:

    with FaultProxy(local.url) as proxy:
        proxy.add("batch", "SubmitJob", Lose(), times=1)          # applied, and the answer never comes back
        proxy.add("batch", "ListJobs", Answer({"jobSummaryList": []}), times=2)
        proxy.chance(choice.random("here"), 0.05, [Throttle(), Lose()])   # of all other requests about every twentieth

Whatever was done to a request stands in `story`, and `told()` is that for the message of an assertion.

Two ways lead through it. A command or a boto3 client is given `AWS_ENDPOINT_URL=proxy.endpoint` instead of the local AWS's own address. What
runs in a sandbox of the local AWS finds `AWS_ENDPOINT_URL` set by it, which a function cannot change; botocore and the agent prefer
`AWS_ENDPOINT_URL_<SERVICE>`, so the function's own environment (`lambda.environment`, `batch.environment`) names the proxy there:
`{"AWS_ENDPOINT_URL_BATCH": proxy.endpoint}`. Sandboxes share the network of this machine, so 127.0.0.1 is the same one.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tests.support.faults import (
    Alter,
    Answer,
    Cut,
    Drop,
    Elsewhere,
    Empty,
    ErrorInside,
    Fault,
    Flip,
    Headers,
    Lose,
    OtherPath,
    Refuse,
    Reply,
    Slow,
    Stale,
    Then,
    Throttle,
    instead,
    spoil,
)
from tests.support.loopback import Handler, Loopback
from tests.support.operations import Request, called, operations

__all__ = [
    "Alter",
    "Answer",
    "Chance",
    "Cut",
    "Drop",
    "Elsewhere",
    "Empty",
    "ErrorInside",
    "Fault",
    "FaultProxy",
    "Flip",
    "Headers",
    "Lose",
    "OtherPath",
    "Refuse",
    "Request",
    "Rule",
    "Slow",
    "Stale",
    "Then",
    "Throttle",
]  # fmt: skip

_MOST_KEPT_BYTES = 1 << 20  # of an answer that may come again as a stale one
_READS = ("List", "Describe", "Get", "Head")


def any_request(_: Request) -> bool:
    return True


@dataclass
class Rule:
    """`skip` matching requests pass untouched, then `times` (None: all) have the fault, then all pass again."""

    service: str
    operation: str
    fault: Fault
    skip: int = 0
    times: int | None = 1
    where: Callable[[Request], bool] = any_request
    met: int = 0

    def take(self, request: Request) -> Fault | None:
        if (request.service, request.operation) != (self.service, self.operation) or not self.where(request):
            return None
        self.met += 1
        taken = self.met > self.skip and (self.times is None or self.met <= self.skip + self.times)
        return self.fault if taken else None


@dataclass
class Chance:
    """Of the requests that `where` means about `rate` get one of the faults, until `most` did (None: no end).

    Which ones depends on the seed, on what is asked and on how often it was asked before: not on the order in which requests of
    several threads come.
    """

    seed: int
    rate: float
    faults: Sequence[Fault]
    where: Callable[[Request], bool] = any_request
    most: int | None = None
    asked: Counter[str] = field(default_factory=Counter)
    taken: int = 0

    def take(self, request: Request) -> Fault | None:
        if not self.where(request) or self.taken == self.most:
            return None
        self.asked[request.name] += 1
        drawn = random.Random(f"{self.seed} {request.name} {self.asked[request.name]}")
        if drawn.random() >= self.rate:
            return None
        self.taken += 1
        return drawn.choice(self.faults)


@dataclass
class FaultProxy(Loopback):
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs; `requests` holds all that was answered."""

    behind: str
    rules: list[Rule | Chance] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    _before: dict[tuple[str, str, bytes], Reply] = field(default_factory=dict)
    _came: int = 0
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
        where: Callable[[Request], bool] = any_request,
    ) -> Rule:
        """From now on. Of several rules for one request the first that applies is obeyed; each counts for itself."""
        assert operation in operations(service), f"{service} has no operation {operation}"
        rule = Rule(service, operation, fault, skip, times, where)
        with self._lock:
            self.rules.append(rule)
        return rule

    def chance(
        self,
        drawn: random.Random,
        rate: float,
        faults: Sequence[Fault],
        *,
        where: Callable[[Request], bool] = any_request,
        most: int | None = None,
    ) -> Chance:
        """From now on, for any request of any service. One number is drawn: the same one breaks the same requests."""
        chance = Chance(drawn.getrandbits(32), rate, tuple(faults), where, most)
        with self._lock:
            self.rules.append(chance)
        return chance

    def calls(self, service: str, operation: str) -> list[Request]:
        """What came of one operation, answered or not."""
        with self._lock:
            return [item for item in self.requests if (item.service, item.operation) == (service, operation)]

    def told(self) -> str:
        """What was broken, in order."""
        with self._lock:
            return "\n".join(["broken:", *self.story]) if self.story else "nothing was broken"

    def fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            self._came += 1
            taken = [fault for rule in self.rules if (fault := rule.take(request)) is not None]
        if not taken:
            return None
        self.broke(request, taken[0])
        return taken[0]

    def broke(self, request: Request, fault: Fault) -> None:
        with self._lock:
            self.story.append(f"  #{self._came} {request.name}: {fault}")

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def before(self, request: Request) -> Reply | None:
        """What the same request was answered last."""
        with self._lock:
            return self._before.get((request.method, request.path, request.body))

    def keep(self, request: Request, reply: Reply) -> None:
        if request.operation.startswith(_READS) and len(reply.body) <= _MOST_KEPT_BYTES:
            with self._lock:
                self._before[request.method, request.path, request.body] = reply


class _Handler(Handler):
    def _serve(self) -> None:
        proxy: FaultProxy = self.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "100-continue" in headers.get("expect", ""):
            self.send_response_only(100)
            self.end_headers()
        body = self._body(headers)
        service, operation = called(self.command, self.path, headers, body)
        request = Request(service, operation, self.command, self.path, headers, body)
        fault = proxy.fault_of(request)
        lost = isinstance(fault, Lose | Drop)
        reply = None if isinstance(fault, Drop) else self._reply(proxy, request, fault)
        proxy.note(replace(request, status=None if lost or reply is None else reply.status))
        if lost or reply is None:
            self.close_connection = True
            return
        self._send(reply)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _serve

    def _reply(self, proxy: FaultProxy, request: Request, fault: Fault | None) -> Reply:
        given = instead(fault, request, proxy.before(request))
        if given is not None:
            return given
        if isinstance(fault, Slow):
            time.sleep(fault.seconds)
        reply = forward(replace(request, path=fault.path) if isinstance(fault, OtherPath) else request, proxy.behind)
        if isinstance(fault, Then):
            fault.call()
        if isinstance(fault, Lose):
            fault.then()
        proxy.keep(request, reply)
        return spoil(fault, request, reply)

    def _send(self, reply: Reply) -> None:
        body = b"" if self.command == "HEAD" else reply.body
        lengths = [value for name, value in reply.headers.items() if name.lower() == "content-length"]
        told = reply.length or (lengths[0] if lengths and self.command == "HEAD" else str(len(body)))
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", told)
        self.end_headers()
        self.wfile.write(body[: reply.sent])
        if reply.sent is not None or reply.length is not None:
            self.wfile.flush()
            self.close_connection = True

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def forward(request: Request, behind: str) -> Reply:
    """What stands behind answers. The signed `Host` stays as it came."""
    connection = http.client.HTTPConnection(urlsplit(behind).netloc)
    dropped = {"expect", "connection", "transfer-encoding", "content-length"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    try:
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        dropped = {"connection", "server", "date", "transfer-encoding"}
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
        return Reply(answer.status, kept, answer.read())
    finally:
        connection.close()
