"""Real servers of other storage, on loopback: WebDAV (wsgidav) and an S3 that checks signatures (nanio, in MinIO's place).

And the one call of SSM that the agent makes, for moto's own SSM brings all of EC2 with it.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

LOGIN, PASSWORD = "ada", "canary-p:ssw#rd"
ACCESS_KEY, SECRET_KEY = "LABACCESSKEY", "canary-lab-secret"


@dataclass
class Dav:
    """A WebDAV server over `folder`. `refuse` may answer a request itself: the status for a method and a path, or None."""

    endpoint: str
    folder: Path
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    refuse: Callable[[str, str], int | tuple[int, str] | None] = lambda method, path: None

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]


@contextmanager
def webdav(folder: Path, tls: Any = None) -> Iterator[Dav]:
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.wsgi import get_input_stream
    from wsgidav.wsgidav_app import WsgiDAVApp

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": {LOGIN: {"password": PASSWORD}}}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
    dav = Dav("", folder)

    def front(environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        headers = {name[5:].lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
        dav.requests.append((method, path, headers))
        environ["wsgi.input"] = get_input_stream(environ)  # which ends with the request
        answer = dav.refuse(method, path)
        if answer is None:
            return app(environ, start_response)
        status, location = answer if isinstance(answer, tuple) else (answer, "")
        start_response(f"{status} X", [("Content-Length", "0"), *([("Location", location)] if location else [])])
        environ["wsgi.input"].read()
        return [b""]

    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Quiet, ssl_context=tls)
    dav.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield dav
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def basic(login: str = LOGIN, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


@dataclass
class Lab:
    """An S3 server with credentials of its own."""

    endpoint: str
    client: Any

    def bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return name

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def lineage(self, bucket: str, key: str) -> str | None:
        found = self.client.head_object(Bucket=bucket, Key=key)["Metadata"].get("scar-lineage")
        return None if found is None else str(found)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    import botocore.session
    from botocore.config import Config

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "NANIO_ACCESS_KEY": ACCESS_KEY,
            "NANIO_SECRET_KEY": SECRET_KEY,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        endpoint = f"http://127.0.0.1:{port}"
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )
        yield Lab(endpoint, client)
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "the S3 server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the S3 server does not answer")


class Parameters(BaseHTTPRequestHandler):
    """What SSM answers: GetParameter of what `values` holds. `answers` are given in place of the next ones."""

    values: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []
    answers: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "/ssm/aws4_request" in self.headers["Authorization"]
        assert request["WithDecryption"] is True
        self.asked.append(request["Name"])
        status = self.answers.pop(0) if self.answers else 200
        body: dict[str, Any] = {"Parameter": {"Name": request["Name"], "Value": self.values.get(request["Name"], "")}}
        if status == 200 and request["Name"] not in self.values:
            status, body = 400, {"__type": "ParameterNotFound"}
        if status == 403:
            status, body = 400, {"__type": "AccessDeniedException", "Message": "no"}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def parameters() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parameters)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
