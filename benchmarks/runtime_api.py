"""Lambda's Runtime API for one agent: hands out events one by one and times each from `next` to its answer."""

from __future__ import annotations

import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class RuntimeApi:
    """Serves one agent on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._events: queue.Queue[bytes] = queue.Queue()
        self._seconds: queue.Queue[float] = queue.Queue()
        self._given_at, self._number = 0.0, 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                body = api._events.get()
                api._number += 1
                deadline = int((time.time() + 900) * 1000)
                head = f"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: bench-{api._number}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n"
                api._given_at = time.perf_counter()
                self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

            def do_POST(self) -> None:
                answer = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seconds = time.perf_counter() - api._given_at
                self.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                assert self.path.endswith("/response"), answer
                api._seconds.put(seconds)

        class Server(ThreadingHTTPServer):
            def handle_error(
                self, request: object, client_address: object
            ) -> None: ...  # an agent is killed at its end

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RuntimeApi:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def seconds_of(self, event: bytes, *, within_s: float = 300) -> float:
        """Hand this event out and wait for its answer, which must not be an error."""
        self._events.put(event)
        return self._seconds.get(timeout=within_s)
