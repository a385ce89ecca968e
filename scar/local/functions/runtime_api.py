"""How does the code in a sandbox talk to Lambda? The Runtime API (2018-06-01): one small HTTP server for each sandbox.

It knows HTTP and nothing else: what a request means is asked of a `Runtime`. Sandboxes share this machine's loopback, so only who is
of the sandbox is heard: another's function can neither take an event nor answer one. Everything that arrives is hostile, so connections, headers and bodies are bounded, and a reply above Lambda's limit is counted but not kept.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Protocol

from scar.local.functions.configuration import REPLY_BYTES, error_document

_ROOT: Final = "/2018-06-01/runtime/"
_CONNECTIONS: Final = 16
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Next:
    """What `invocation/next` answers."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    client_context: str | None


class Runtime(Protocol):
    """The sandbox's side of the conversation; every method may be called from any thread.

    1. `next` blocks until there is work; None ends the connection (the sandbox is going away).
    2. `answer` and `fail` tell whether the request id was the one in flight.
    """

    def next(self) -> Next | None: ...

    def answer(self, request_id: str, body: bytes, *, too_large: bool) -> bool: ...

    def fail(self, request_id: str, body: bytes) -> bool: ...

    def init_failed(self, body: bytes) -> None: ...


class RuntimeApi:
    """Has an address on 127.0.0.1 from the moment it is made, so that a sandbox can be told; whoever connects waits for `open`. `close` ends it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_CONNECTIONS)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._opened = False

    def open(self, admits: Callable[[socket.socket], bool]) -> None:
        """Answer connections that are admitted; the others are closed without a word."""
        self._opened = True
        threading.Thread(target=self._accept, args=(admits,), name=f"runtime-api {self.address}", daemon=True).start()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        with self._lock:
            connections = tuple(self._connections)
            _hang_up(self._listener)
        if not self._opened:
            self._listener.close()
        for connection in connections:
            _hang_up(connection)

    def _accept(self, admits: Callable[[socket.socket], bool]) -> None:
        with self._listener:
            while True:
                try:
                    connection, address = self._listener.accept()
                except OSError:
                    return
                if not admits(connection) or not self._free.acquire(blocking=False):
                    connection.close()
                    continue
                with self._lock:
                    self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            with contextlib.suppress(OSError, _BadRequestError):
                connection.settimeout(None)
                _Handler(connection, address, self)  # type: ignore[arg-type]  # it only stores its server
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()
            self._free.release()


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _BadRequestError(Exception):
    """The body is not HTTP; the connection cannot be used any more."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Lambda"
    # Head and body must leave in one segment, at once: Nagle with delayed acknowledgement costs 40 ms for each invocation.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Nobody reads an access log of the Runtime API."""

    def do_GET(self) -> None:
        if self.path != f"{_ROOT}invocation/next":
            self._reply(404, error_document("NotFound", "no such path"))
            return
        work = self._runtime.next()
        if work is None:
            self.close_connection = True
            return
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": work.request_id,
            "Lambda-Runtime-Deadline-Ms": str(work.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": work.function_arn,
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
        }
        if work.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = work.client_context
        self._reply(200, work.payload, headers)

    def do_POST(self) -> None:
        body, too_large, broken = self._body()
        match self.path.removeprefix(_ROOT).split("/"):
            case ["init", "error"]:
                self._runtime.init_failed(body)
                self._reply(202, b'{"status":"OK"}')
            case ["invocation", request_id, "response"] if broken is None:
                known = self._runtime.answer(request_id, body, too_large=too_large)
                self._answered(known, too_large=too_large)
            case ["invocation", request_id, "response" | "error"]:
                known = self._runtime.fail(request_id, body if broken is None else broken)
                self._answered(known, too_large=False)
            case _:
                self._reply(404, error_document("NotFound", "no such path"))

    @property
    def _runtime(self) -> Runtime:
        api: RuntimeApi = self.server  # type: ignore[assignment]  # see RuntimeApi._serve
        return api.runtime

    def _answered(self, known: bool, *, too_large: bool) -> None:
        if not known:
            self._reply(400, error_document("InvalidRequestID", "no such invocation is in progress"))
        elif too_large:
            limit = f"Exceeded maximum allowed payload size ({REPLY_BYTES} bytes)."
            self._reply(413, error_document("RequestEntityTooLarge", limit))
        else:
            self._reply(202, b'{"status":"OK"}')

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> tuple[bytes, bool, bytes | None]:
        """The body as far as Lambda would take it, whether there was more, and the error a streamed reply ended with."""
        kept = _Bounded(REPLY_BYTES)
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := self._chunk_size():
                self._read_into(kept, size)
                self.rfile.readline(8)
            return kept.content(), kept.overflown, self._trailer_error()
        length = self.headers.get("Content-Length") or "0"
        if not length.isdigit():
            raise _BadRequestError
        self._read_into(kept, int(length))
        return kept.content(), kept.overflown, None

    def _chunk_size(self) -> int:
        line = self.rfile.readline(256)
        try:
            size = int(line.split(b";", 1)[0], 16)
        except ValueError as error:
            raise _BadRequestError from error
        if size < 0:
            raise _BadRequestError
        return size

    def _trailer_error(self) -> bytes | None:
        kind = None
        for _ in range(100):
            line = self.rfile.readline(_CHUNK).strip()
            if not line:
                break
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"lambda-runtime-function-error-type":
                kind = value.strip().decode("latin-1")
        return error_document(kind, "The reply ended with an error.") if kind else None

    def _read_into(self, kept: _Bounded, size: int) -> None:
        while size:
            part = self.rfile.read(min(size, _CHUNK))
            if not part:
                raise _BadRequestError
            kept.add(part)
            size -= len(part)


class _Bounded:
    """Keeps at most `limit` bytes and remembers whether there were more."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._parts: list[bytes] = []
        self.overflown = False

    def add(self, part: bytes) -> None:
        if len(part) > self._room:
            self.overflown = True
            self._parts.clear()
            self._room = -1
        elif not self.overflown:
            self._parts.append(part)
            self._room -= len(part)

    def content(self) -> bytes:
        return b"".join(self._parts)
