"""Small images for the zip runtime, made of this machine's own programs, and the places that their layers come from."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from faassupervisor.contract import RootFilesystem, RootLayer

SMALL = (
    "cat",
    "chmod",
    "cp",
    "dash",
    "env",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "printf",
    "readlink",
    "rm",
    "setsid",
    "sleep",
    "stat",
    "touch",
    "tr",
    "wc",
)
LARGE = ("bash", "find", "perl", "python3.11")
_STANDARD_LIBRARY = Path("/usr/lib/python3.11")
_LOADER = "/lib64/ld-linux-x86-64.so.2"


@dataclass
class Tree:
    """Files by their path in the image: content and mode, or the target of a link (a str)."""

    files: dict[str, tuple[bytes, int] | str] = field(default_factory=dict)

    def put(self, path: str, content: bytes | str = b"", mode: int = 0o644) -> Tree:
        self.files[path] = (content.encode() if isinstance(content, str) else content, mode)
        return self

    def link(self, path: str, target: str) -> Tree:
        self.files[path] = target
        return self

    def layer(self) -> bytes:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as writer:
            for path, what in self.files.items():
                member = tarfile.TarInfo(path)
                if isinstance(what, str):
                    member.type, member.linkname = tarfile.SYMTYPE, what
                    writer.addfile(member)
                else:
                    member.size, member.mode = len(what[0]), what[1]
                    writer.addfile(member, io.BytesIO(what[0]))
        return gzip.compress(archive.getvalue(), 1, mtime=0)


@cache
def shell() -> bytes:
    """A layer with dash and coreutils of this machine, their C library, and the links that Debian has."""
    tree = _programs(SMALL)
    for name in ("lib", "lib64", "bin"):
        tree.link(name, f"usr/{name}")
    tree.link("usr/bin/sh", "/bin/dash").link("etc/mtab", "/proc/mounts")
    tree.put("etc/os-release", "NAME=guest\n").put("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    tree.put("etc/ld.so.conf.d/local.conf", "# ours\n/opt/lib\n").put("work/.keep").put("tmp/of-the-image")
    return tree.layer()


@cache
def languages() -> bytes:
    """A layer for above it: bash, find, perl and Python."""
    tree = _programs(LARGE)
    tree.link("usr/bin/python3", "/etc/alternatives/python3").link("etc/alternatives/python3", "/usr/bin/python3.11")
    for folder in ("", "collections", "encodings", "json", "re", "importlib", "lib-dynload"):
        for module in (_STANDARD_LIBRARY / folder).glob("*.py" if folder != "lib-dynload" else "_json*.so"):
            tree.put(f"usr/lib/python3.11/{folder}/{module.name}", module.read_bytes())
    return tree.layer()


def _programs(names: Iterable[str]) -> Tree:
    """This machine's programs with the libraries that they load."""
    tree = Tree()
    needed: set[str] = {_LOADER}
    for name in names:
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found is not None, name
        program = os.path.realpath(found)
        tree.put(f"usr/bin/{name}", Path(program).read_bytes(), 0o755)
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        needed |= {word for word in told.split() if word.startswith("/")}
    for library in needed:
        tree.put(f"usr{library}", Path(library).read_bytes(), 0o755)
    return tree


@cache
def glibc_version() -> str:
    return os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]


def root(source: str, layers: Iterable[bytes], **changes: object) -> RootFilesystem:
    kept = list(layers)
    fields = {
        "digest": digest(b"".join(kept)),
        "layers": tuple(RootLayer(digest(layer), len(layer)) for layer in kept),
        "source": source,
        "unpacked_bytes": sum(len(gzip.decompress(layer)) for layer in kept),
        "loader": _LOADER,
        "glibc": glibc_version(),
    }
    return RootFilesystem(**{**fields, **changes})  # type: ignore[arg-type]


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class BlobServer:
    """A registry on loopback that needs no credentials, or only an anonymous token; `fault` may answer in its stead."""

    blobs: dict[str, bytes]
    with_token: bool = False
    redirect_to: str | None = None
    fault: Callable[[BaseHTTPRequestHandler, int], bool] | None = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> BlobServer:
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.registry = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def source(self) -> str:
        return f"{self.address}/v2/some/image"

    def asked(self, part: str) -> int:
        return sum(part in path for path, _ in self.seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: BlobServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was told enough, or was killed, hangs up: that is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        registry = self.server.registry
        registry.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        url = urlsplit(self.path)
        if registry.fault and registry.fault(self, len(registry.seen)):
            return
        if url.path == "/token":
            asked = parse_qs(url.query)
            good = asked == {"service": ["tests"], "scope": ["repository:some/image:pull"]}
            self.answer(200 if good else 400, json.dumps({"token": "anonymous"}).encode())
            return
        if registry.with_token and self.headers.get("Authorization") != "Bearer anonymous":
            challenge = f'Bearer realm="{registry.address}/token",service="tests",scope="repository:some/image:pull"'
            self.answer(401, b"", {"WWW-Authenticate": challenge})
            return
        name = url.path.rpartition("/")[2]
        if registry.redirect_to is not None:
            self.answer(307, b"", {"Location": f"{registry.redirect_to}/{name}"})
            return
        if name not in registry.blobs:
            self.answer(404, b"")
            return
        self.blob(registry.blobs[name])

    def blob(self, content: bytes, *, cut_after: int | None = None) -> None:
        """What was asked of the content; the connection is cut after some bytes when told."""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:] if cut_after is None else content[start : start + cut_after])
        if cut_after is not None:
            self.wfile.flush()
            self.close_connection = True

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
