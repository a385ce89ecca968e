"""S3 before the agent: a proxy that one function tells what to break, and a server without end. What can break says `tests.support.faults`."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.loopback import Handler, Loopback

Rule = Callable[[Request], Fault | None]


def nothing(_: Request) -> None:
    """Break nothing: the requests are what matters."""


class FaultyS3(FaultProxy):
    """A FaultProxy whose `rule` is asked about every request; what `add` and `chance` say comes first."""

    def __init__(self, behind: str, rule: Rule = nothing) -> None:
        super().__init__(behind)
        self.rule = rule

    def fault_of(self, request: Request) -> Fault | None:
        fault = super().fault_of(request)
        if fault is None and (fault := self.rule(request)) is not None:
            self.broke(request, fault)
        return fault

    def count(self, method: str, part: str = "") -> int:
        return sum(request.method == method and part in request.path for request in self.requests)


def once(matches: Callable[[Request], bool], fault: Fault) -> Rule:
    """Break the first request that matches."""
    left = [fault]
    return lambda request: left.pop() if left and matches(request) else None


def always(matches: Callable[[Request], bool], fault: Fault) -> Rule:
    return lambda request: fault if matches(request) else None


class BottomlessS3(Loopback):
    """Any GET answers `size` bytes that nobody keeps; what is put is counted and dropped. For transfers too large for a fake to hold."""

    def __init__(self, size: int) -> None:
        self.size, self.received = size, 0

    @property
    def handler(self) -> type[Handler]:
        return _BottomlessHandler


class _BottomlessHandler(Handler):
    def do_GET(self) -> None:
        size = self.owner.size
        self._head(size)
        block = bytes(1 << 20)
        for start in range(0, size, len(block)):
            self.wfile.write(block[: size - start])

    def do_PUT(self) -> None:
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        left = int(self.headers["Content-Length"])
        self.owner.received += left
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self._head(0)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = b"<X><UploadId>u</UploadId></X>"
        self._head(len(text))
        self.wfile.write(text)

    def _head(self, length: int) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"0-1"')
        self.end_headers()
