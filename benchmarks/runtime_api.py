"""Lambda's Runtime API for one agent: hands out events one by one and times each from `next` to its answer."""

from __future__ import annotations

import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class RuntimeApi:
    """Serves `events` in order on a free port of 127.0.0.1."""

    def __init__(self, events: list[bytes]) -> None:
        self._events, self._seconds = list(events), []  # type: ignore[var-annotated]
        self._finished: queue.Queue[None] = queue.Queue()
        self._total = len(events)
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                if not api._events:
                    api._finished.put(None)
                    threading.Event().wait(600)
                body = api._events.pop()
                number = api._total - len(api._events)
                deadline = int((time.time() + 60) * 1000)
                head = f"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: bench-{number}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n"
                api._started = time.perf_counter()
                self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

            def do_POST(self) -> None:
                answer = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                assert self.path.endswith("/response"), answer
                api._seconds.append(time.perf_counter() - api._started)
                self.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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

    def seconds_per_event(self, *, timeout_s: float) -> list[float]:
        """Wait until every event was answered."""
        self._finished.get(timeout=timeout_s)
        return self._seconds
