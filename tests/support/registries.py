"""Container registries on loopback: Debian's docker-registry, open or with a login, and the server that gives it tokens."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Authority

USER, PASSWORD = "bob", "secret"
HTPASSWD = "bob:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
LEEWAY_S = 60  # docker-registry 2 takes tokens for a minute after their end


@dataclass(frozen=True)
class RunningRegistry:
    """Debian's docker-registry on a loopback port."""

    host: str
    process: subprocess.Popen[bytes]
    data: Path

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start_registry(
    directory: Path,
    auth: dict[str, object] | None = None,
    *,
    tls: Authority | None = None,
    name: str = "127.0.0.1",
    clients: Authority | None = None,
    data: Path | None = None,
    compatibility: dict[str, object] | None = None,
) -> RunningRegistry:
    """`tls`: who signs its certificate, which is for `name`; None: plain http. `clients`: who signs those that clients must show."""
    host = f"127.0.0.1:{free_port()}"
    http_: dict[str, object] = {"addr": host}
    if tls is not None:
        pair = tls.certify(name, directory)
        http_["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
        if clients is not None:
            http_["tls"] = {**http_["tls"], "clientcas": [str(clients.certificate)]}  # type: ignore[dict-item]
    data = data or directory / "data"
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": http_,
        **({"auth": auth} if auth else {}),
        **({"compatibility": compatibility} if compatibility else {}),
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen(
        ["docker-registry", "serve", str(directory / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    context = ssl._create_unverified_context()  # whether it is up, not who it is
    deadline = time.monotonic() + 10
    while True:
        try:
            url = f"{'https' if tls else 'http'}://{host}/v2/"
            urllib.request.urlopen(url, timeout=1, context=context).close()
            break
        except urllib.error.HTTPError:
            break  # it wants credentials: it is up
        except OSError as error:
            if isinstance(error.reason if isinstance(error, urllib.error.URLError) else error, ssl.SSLError):
                break  # it wants a certificate: it is up
            assert process.poll() is None, "docker-registry does not start"
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.05)
    return RunningRegistry(host, process, data)


def start_basic_registry(directory: Path) -> RunningRegistry:
    """Takes bob and his password, and nobody else."""
    (directory / "htpasswd").write_text(HTPASSWD)
    return start_registry(directory, {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}})


def start_token_registry(directory: Path, tokens: TokenServer) -> RunningRegistry:
    """Takes tokens only."""
    auth = {"realm": tokens.url, "service": "test", "issuer": "test", "rootcertbundle": str(tokens.certificate)}
    return start_registry(directory, {"token": auth})


class TokenServer:
    """Gives tokens: all may pull, bob may push. `lifetime_s` is how long the next ones really hold, whatever is said of them."""

    def __init__(self, directory: Path) -> None:
        from cryptography.hazmat.primitives import serialization

        authority = Authority(directory)
        self.certificate = authority.certificate
        self.lifetime_s = 300.0
        self.given = 0
        self.refresh_token = "a-refresh-token"
        key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
        der = base64.b64encode(ssl.PEM_cert_to_DER_cert(authority.certificate.read_text())).decode()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                query = urllib.parse.urlsplit(self.path).query
                self.give(_basic_user(self.headers.get("Authorization", "")), urllib.parse.parse_qs(query))

            def do_POST(self) -> None:
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = form.get("refresh_token") == [server.refresh_token]
                form["scope"] = form.get("scope", [""])[0].split()
                self.give(USER if known else "wrong", form)

            def give(self, user: str, asked: dict[str, list[str]]) -> None:
                if user == "wrong":
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                server.given += 1
                token = _token(key, der, asked.get("scope", []), user, server.lifetime_s)
                body = json.dumps({"token": token, "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
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


def _token(key: object, der: str, scopes: list[str], user: str, lifetime_s: float) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        granted = [action for action in actions.split(",") if action == "pull" or user == USER]
        access.append({"type": kind, "name": name, "actions": granted})
    now = int(time.time())
    end = int(time.time() + lifetime_s - LEEWAY_S)
    claims = {"iss": "test", "aud": "test", "sub": user, "exp": end, "nbf": now - 300, "iat": now, "jti": str(now)}
    parts = [{"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims | {"access": access}]
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[attr-defined]
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
