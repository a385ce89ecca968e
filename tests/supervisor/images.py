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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from faassupervisor.contract import RootFilesystem, RootLayer
from tests.support.loopback import Handler, Loopback

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
class BlobServer(Loopback):
    """A registry on loopback that needs no credentials, or only an anonymous token; `fault` may answer in its stead."""

    blobs: dict[str, bytes]
    with_token: bool = False
    redirect_to: str | None = None
    fault: Callable[[Handler, int], bool] | None = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    @property
    def source(self) -> str:
        return f"{self.endpoint}/v2/some/image"

    def asked(self, part: str) -> int:
        return sum(part in path for path, _ in self.seen)


class _Handler(Handler):
    def do_GET(self) -> None:
        registry = self.owner
        registry.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        url = urlsplit(self.path)
        if registry.fault and registry.fault(self, len(registry.seen)):
            return
        if url.path == "/token":
            asked = parse_qs(url.query)
            good = asked == {"service": ["tests"], "scope": ["repository:some/image:pull"]}
            self.send(200 if good else 400, json.dumps({"token": "anonymous"}).encode())
            return
        if registry.with_token and self.headers.get("Authorization") != "Bearer anonymous":
            challenge = f'Bearer realm="{registry.endpoint}/token",service="tests",scope="repository:some/image:pull"'
            self.send(401, b"", {"WWW-Authenticate": challenge})
            return
        name = url.path.rpartition("/")[2]
        if registry.redirect_to is not None:
            self.send(307, b"", {"Location": f"{registry.redirect_to}/{name}"})
            return
        if name not in registry.blobs:
            self.send(404, b"")
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
