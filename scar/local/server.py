"""How do requests come in over a socket? A threaded WSGI server with keep-alive, on loopback and in networks of sandboxes.

werkzeug's own server closes every connection after one answer; SDKs pay a new connection and a 10 ms pause for each call then.
What reading a request into a WSGI environment means is left to moto's handler, which knows S3's headers.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import IO, Any, Final, cast

from moto.moto_server.werkzeug_app import MotoRequestHandler

_log = logging.getLogger("scar.local")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

IDLE_S: Final = 75.0  # a silent connection is closed; SDKs open another without a word
FINISH_S: Final = 10.0  # for requests still being answered when the daemon ends
_PAUSE_S: Final = 0.1  # after a connection that could not be taken: too many open files is over soon
DRAIN_BYTES: Final = 1 << 20  # of a refused body that is still worth reading to keep the connection


class BodyReader:
    """`wsgi.input` that ends where the request ends, so that a keep-alive connection stays in step."""

    def __init__(self, source: IO[bytes], length: int) -> None:
        self._source, self.left = source, length

    @property
    def source(self) -> IO[bytes]:
        """The connection itself, for whoever reads with a bound of time and takes what he read off `left`."""
        return self._source

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        if wanted == 0:
            return b""
        data = self._source.read(wanted)
        if len(data) < wanted:
            self.left = 0
            raise ConnectionResetError("the client went away in the middle of its request body")
        self.left -= len(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        line = self._source.readline(wanted) if wanted else b""
        self.left -= len(line)
        return line

    def __iter__(self) -> BodyReader:
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration


class Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is untyped here
    """One connection: any number of requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; Nagle with delayed ACK costs 40 ms each
    timeout = IDLE_S

    def run_wsgi(self) -> None:
        with self.server.working():
            self._answer()

    def _answer(self) -> None:
        if self.headers.get("Expect", "").strip().lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ = self._environ()
        if environ is None:
            self.send_error(http.client.BAD_REQUEST, "bad Content-Length or Transfer-Encoding")
            self.close_connection = True
            return
        answer = _Answer(self)
        body: Iterable[bytes] = ()
        try:
            body = self.server.app(environ, answer.start)
            for chunk in body:
                answer.write(chunk)
            answer.end()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:  # noqa: BLE001 - a body that breaks off while it is sent: the server must live on
            _log.exception("%s %s failed", self.command, self.path)
            answer.fail()
        finally:
            if callable(close := getattr(body, "close", None)):
                close()
            self._drain(environ)

    def _environ(self) -> Environ | None:
        environ: Environ = self.make_environ()
        environ["scar.headers"] = self.headers.items()  # each by itself, as it was written
        if len(self.headers.get_all("Content-Length", ())) > 1:
            return None  # whoever believes the other one sees another request behind this one
        environ["SERVER_NAME"] = self.connection.getsockname()[0]  # not always the server's first address
        if environ.get(
            "wsgi.input_terminated"
        ):  # chunked; never seen from an SDK, so one answer and the connection ends
            self.close_connection = True
            return None if "CONTENT_LENGTH" in environ else environ
        length = environ.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()) or "HTTP_TRANSFER_ENCODING" in environ:
            return None
        environ["wsgi.input"] = BodyReader(self.rfile, int(length))
        return environ

    def _drain(self, environ: Environ) -> None:
        """Read what the application left of the body, so that the next request begins where it should."""
        source = environ.get("scar.input", environ["wsgi.input"])
        if not isinstance(source, BodyReader) or not source.left or self.close_connection:
            return
        if source.left > DRAIN_BYTES:
            self.close_connection = True
        else:
            with contextlib.suppress(ConnectionError, TimeoutError):
                source.read()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Requests are not logged one by one; failures are, where they happen."""


class _Answer:
    """The response of one request, on its way out."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._status: str | None = None
        self._headers: list[tuple[str, str]] = []
        self._sent = False
        self._chunked = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if self._sent and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        self._status, self._headers = status, list(headers)
        return self.write

    def write(self, data: bytes) -> None:
        if not self._sent:
            self._send_head(data)
        elif data:
            self._send(data)

    def end(self) -> None:
        if not self._sent:
            self._send_head(b"")
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")

    def fail(self) -> None:
        """After an unforeseen error: a 500 while nothing was sent, a cut connection otherwise, so that it never looks whole."""
        self._handler.close_connection = True
        if not self._sent:
            self._status, self._headers = "500 Internal Server Error", [("Content-Length", "0")]
            with contextlib.suppress(ConnectionError, TimeoutError):
                self.end()

    def _send_head(self, first: bytes) -> None:
        if self._status is None:
            raise RuntimeError("the application answered without start_response")
        handler, self._sent = self._handler, True
        code = int(self._status.split(None, 1)[0])
        bodiless = handler.command == "HEAD" or code in (204, 304) or code < 200
        names = {name.lower() for name, _ in self._headers}
        lines = [f"HTTP/1.1 {self._status}", f"Date: {handler.date_time_string()}"]
        lines += [
            f"{name}: {_one_line(str(value))}" for name, value in self._headers if name.lower() not in _HOP_BY_HOP
        ]
        if "content-length" not in names and not bodiless:
            self._chunked = True
            lines.append("Transfer-Encoding: chunked")
        if handler.close_connection:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if not first or self._chunked or bodiless:
            handler.wfile.write(head)
            if first and not bodiless:
                self._send(first)
        else:
            handler.wfile.write(head + first if len(first) < 65_536 else head)
            if len(first) >= 65_536:
                handler.wfile.write(first)

    def _send(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server"})


def _one_line(value: str) -> str:
    """A header value that cannot start another header."""
    return value.replace("\r", " ").replace("\n", " ")


class _Door:
    """Another listening socket of a server: a thread that takes connections, and one for each of them."""

    def __init__(self, server: Server, listening: socket.socket) -> None:
        self._server, self._listening = server, listening
        self._lock = threading.Lock()
        self._closed = False
        self._inside: dict[threading.Thread, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        listening.setblocking(False)
        self._taking = threading.Thread(target=self._take, name="door", daemon=True)
        self._taking.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._wake.close()
        self._taking.join()
        self._woken.close()
        with self._lock:
            inside = dict(self._inside)
        for connection in inside.values():
            with contextlib.suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + FINISH_S
        for thread in inside:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closed:
                if any(key.fileobj is self._listening for key, _ in selector.select()):
                    self._take_one()

    def _take_one(self) -> None:
        try:
            connection, address = self._listening.accept()
        except BlockingIOError:  # the client went away again
            return
        except OSError:
            _log.warning("a connection could not be taken", exc_info=True)
            time.sleep(_PAUSE_S)
            return
        thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
        with self._lock:
            self._inside[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            self._server.process_request_thread(connection, address)
        finally:
            with self._lock:
                self._inside.pop(threading.current_thread(), None)


class Server(ThreadingMixIn, TCPServer):
    """Listens on 127.0.0.1, and where `also_on` is told to; a thread for each connection."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024
    # What moto's request handler asks of its server:
    multithread = True
    multiprocess = False
    ssl_context = None
    _server_version = "scar"

    def __init__(self, port: int, application: Application) -> None:
        self.app = application
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(("127.0.0.1", port), cast(type[BaseHTTPRequestHandler], Handler))

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy > 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Around each request."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    @contextlib.contextmanager
    def also_on(self, listening: socket.socket) -> Iterator[None]:
        """Answer on another listening socket as well, as long as this is entered: on one of another network namespace, for example.

        Connections made there are cut when it is left. The socket stays the caller's; nobody else may use it meanwhile.
        """
        door = _Door(self, listening)
        try:
            yield
        finally:
            door.close()

    def end(self) -> None:
        """After `shutdown`: wait a little for requests that are being answered, then close."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=FINISH_S)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.warning("a connection from %s broke", client_address, exc_info=True)
