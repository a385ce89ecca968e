"""A proxy before S3 that breaks what it is told to break: bodies cut or falsified, requests refused."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.loopback import Handler, Loopback


@dataclass
class Fault:
    """What becomes of one answer: its body ends after `cut_after` bytes, byte `flip` is falsified, its length is told as `length`;
    or the request is refused with `status` and an error `code`. `lose` forwards the request and drops the answer; `path` forwards it
    under another path. `then` is called when it was forwarded."""

    cut_after: int | None = None
    flip: int | None = None
    length: int | None = None
    status: int | None = None
    code: str = ""
    lose: bool = False
    path: str | None = None
    then: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


Rule = Callable[[Request], Fault | None]


@dataclass
class FaultyS3(Loopback):
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs; `requests` holds all that came."""

    behind: str
    rule: Rule
    requests: list[Request] = field(default_factory=list)

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    def count(self, method: str, part: str = "") -> int:
        return sum(request.method == method and part in request.path for request in self.requests)


def once(matches: Callable[[Request], bool], fault: Fault) -> Rule:
    """Break the first request that matches."""
    left = [fault]
    return lambda request: left.pop() if left and matches(request) else None


def always(matches: Callable[[Request], bool], fault: Fault) -> Rule:
    return lambda request: fault if matches(request) else None


class _Handler(Handler):
    def _serve(self) -> None:
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        proxy = self.owner
        proxy.requests.append(request)
        if "100-continue" in request.headers.get("expect", ""):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(request.headers.get("content-length", 0)))
        fault = proxy.rule(request) or Fault()
        if fault.status:
            self._refuse(fault)
            return
        status, headers, answer = self._forward(request, fault.path or request.path, body, proxy.behind)
        fault.then()
        if fault.lose:
            self._hang_up()
            return
        if fault.flip is not None:
            answer = answer[: fault.flip] + bytes([answer[fault.flip] ^ 1]) + answer[fault.flip + 1 :]
        self.send_response_only(status)
        told = int(headers.pop("Content-Length", len(answer))) if self.command == "HEAD" else len(answer)
        for name, value in {**headers, "Content-Length": str(fault.length or told)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer if fault.cut_after is None else answer[: fault.cut_after])
        if fault.cut_after is not None:
            self._hang_up()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _forward(self, request: Request, path: str, body: bytes, behind: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(behind).netloc)
        try:
            connection.request(
                request.method,
                path,
                body,
                {name: value for name, value in request.headers.items() if name not in {"expect", "connection"}},
            )
            answer = connection.getresponse()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in {"connection", "server", "date"}
            }
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _refuse(self, fault: Fault) -> None:
        text = f"<Error><Code>{fault.code}</Code><Message>as the test wants</Message></Error>".encode()
        self.send_response_only(fault.status or 500)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True


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
