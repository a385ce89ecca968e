"""A registry that fails on purpose: tests script what it answers next."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from typing import Any

from scar.package import oci
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials
from tests.scar.package.images import digest_of

Answer = Callable[["Handler"], None]


class Faulty:
    """A registry for one test: `on` scripts the next answers of a path, others are answered as a registry would."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.challenge: str | None = None
        self.uploads: dict[str, bytearray] = {}
        self.scripted: dict[tuple[str, str], list[Answer]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        faulty = self

        class Bound(Handler):
            registry = faulty

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.pauses: list[float] = []

    def on(self, method: str, part: str, *answers: Answer) -> None:
        self.scripted[method, part] = list(answers)

    def registry(self, credentials: Credentials | None = None, **more: Any) -> Registry:
        return Registry(self.host, credentials, sleep=self.pauses.append, **more)

    def has(self, content: bytes) -> oci.Blob:
        self.blobs[digest_of(content)] = content
        return self.registry().blob("x", oci.Descriptor("", digest_of(content), len(content)))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    registry: Faulty
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None: ...

    def handle_any(self) -> None:
        if self.path == "/v2/":  # whether we speak http or https, and how to log in
            asks = {"WWW-Authenticate": self.registry.challenge} if self.registry.challenge else {}
            self.answer(401 if asks else 200, **asks)
            return
        self.registry.requests.append((self.command, self.path, dict(self.headers)))
        for (method, part), answers in self.registry.scripted.items():
            if method == self.command and part in self.path and answers:
                answers.pop(0)(self)
                return
        self.usual()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def usual(self) -> None:
        if "/uploads/" in self.path:
            self.upload()
        elif self.command in ("GET", "HEAD"):
            content = self.registry.blobs.get(self.path.rpartition("/")[2])
            if content is None:
                self.answer(404)
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
            extra = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            self.answer(206 if start else 200, content[start:], **extra)
        else:
            self.body()
            self.answer(201)

    def upload(self) -> None:
        """Uploads have numbers; what arrives before a cut is kept."""
        uploads = self.registry.uploads
        place, _, query = self.path.partition("?")
        if self.command == "POST":
            place = f"/v2/x/blobs/uploads/{len(uploads) + 1}"
            uploads[place] = bytearray()
            self.answer(202, Location=f"{place}?state=abc")
            return
        kept = uploads.get(place)
        if kept is None:
            self.body()
            self.answer(404)
        elif self.command == "GET":
            self.answer(204, Location=f"{place}?state=def", Range=f"0-{max(len(kept) - 1, 0)}")
        elif self.command == "PATCH":
            self.keep(kept)
            self.answer(202, Location=f"{place}?state=ghi", Range=f"0-{max(len(kept) - 1, 0)}")
        else:
            kept += self.body()
            digest = query.rpartition("digest=")[2].replace("%3A", ":")
            if digest_of(bytes(kept)) == digest:
                self.registry.blobs[digest] = bytes(kept)
                self.answer(201)
            else:
                self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')

    def keep(self, kept: bytearray, most: int | None = None) -> None:
        left = int(self.headers["Content-Length"]) if most is None else most
        while left and (piece := self.rfile.read1(min(left, 1 << 16))):
            kept += piece
            left -= len(piece)


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.body()
        handler.answer(code, **headers)

    return answer


def cut(content: bytes, after: int) -> Answer:
    """Announce everything, send a part, hang up."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return answer


def hang_up(handler: Handler) -> None:
    handler.rfile.read(100)
    handler.close_connection = True


def keep_then_hang_up(after: int) -> Answer:
    """Of a PATCH only the first bytes arrive."""

    def answer(handler: Handler) -> None:
        handler.keep(handler.registry.uploads[handler.path.partition("?")[0]], after)
        handler.close_connection = True

    return answer


def says(code: int, text: str, **headers: str) -> Answer:
    """An answer with words in it."""

    def answer(handler: Handler) -> None:
        handler.body()
        handler.answer(code, text.encode(), **headers)

    return answer
