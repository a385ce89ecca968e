"""An agent layer that is built once, and registries on loopback."""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.package.agent import AgentLayer, agent_layer

USER, PASSWORD = "bob", "secret"
_HTPASSWD = "bob:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def agent(cache: Path) -> AgentLayer:
    return agent_layer(cache=cache)


class RunningRegistry:
    """Debian's docker-registry on a loopback port."""

    def __init__(self, host: str, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.process = process


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start_registry(directory: Path, auth: dict[str, object] | None = None) -> RunningRegistry:
    host = f"127.0.0.1:{_free_port()}"
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
        **({"auth": auth} if auth else {}),
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen(
        ["docker-registry", "serve", str(directory / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            urllib.request.urlopen(f"http://{host}/v2/", timeout=1).close()
            break
        except urllib.error.HTTPError:
            break  # it wants credentials: it is up
        except OSError:
            assert process.poll() is None, "docker-registry does not start"
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.05)
    return RunningRegistry(host, process)


def _stop(registry: RunningRegistry) -> None:
    registry.process.terminate()
    registry.process.wait(10)


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = start_registry(tmp_path_factory.mktemp("registry"))
    yield registry
    _stop(registry)


@pytest.fixture(scope="session")
def other_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = start_registry(tmp_path_factory.mktemp("registry"))
    yield registry
    _stop(registry)


@pytest.fixture(scope="session")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    directory = tmp_path_factory.mktemp("registry")
    (directory / "htpasswd").write_text(_HTPASSWD)
    registry = start_registry(directory, {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}})
    yield registry
    _stop(registry)


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that takes tokens only, and the server that gives them: all may pull, bob may push."""
    directory = tmp_path_factory.mktemp("registry")
    tokens = _TokenServer(directory)
    auth = {"realm": tokens.url, "service": "test", "issuer": "test", "rootcertbundle": str(directory / "cert.pem")}
    registry = start_registry(directory, {"token": auth})
    yield registry
    _stop(registry)
    tokens.close()


class _TokenServer:
    def __init__(self, directory: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
        certificate = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
        (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                user = _basic_user(self.headers.get("Authorization", ""))
                if user == "wrong":
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                body = json.dumps({"token": _token(key, der, query.get("scope", []), user), "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _basic_user(header: str) -> str:
    if not header.startswith("Basic "):
        return ""
    user, _, password = base64.b64decode(header[6:]).decode().partition(":")
    return user if (user, password) == (USER, PASSWORD) else "wrong"


def _token(key: object, der: str, scopes: list[str], user: str) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        granted = [action for action in actions.split(",") if action == "pull" or user == USER]
        access.append({"type": kind, "name": name, "actions": granted})
    now = int(time.time())
    claims = {"iss": "test", "aud": "test", "sub": user, "exp": now + 300, "nbf": now - 5, "iat": now, "jti": str(now)}
    parts = [{"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims | {"access": access}]
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[attr-defined]
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
