"""Images that lie on this machine already: in Podman's store (`containers-storage:`) or in a Docker daemon's (`docker-daemon:`).

Either one writes the image as the archive of `docker save`, which is kept in the cache under the image's id: what has not changed is not
written twice. Podman is asked through its program, Docker through its socket; Docker's own program is not needed.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from scar.errors import DeniedError, NotFoundError, ScarError, ServiceError, UsageError
from scar.limits import IMAGE_REFERENCE_PATTERN, LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.cache import in_cache, remove_unused, written_whole
from scar.package.progress import Tell
from scar.package.source.transports import PODMAN, Store

DOCKER_SOCKET: Final = "unix:///var/run/docker.sock"
_KEPT_BYTES: Final = 2 * LAMBDA_IMAGE_BYTES
_ANSWER_S: Final = 60.0
_SAVING_S: Final = 900.0  # a daemon may write the whole image to its own disk before it sends the first byte
_SAID_BYTES: Final = 4096
_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Found:
    """An image of a store: `id` has 64 hexadecimal digits, `size` is what its files take there."""

    id: str
    architecture: str
    size: int


class ImageStore(Protocol):
    """A store of images on this machine.

    1. `find` answers what the name leads to now; raises NotFoundError when there is no such image, and says how to reach the store otherwise;
    2. `save` answers the archive of `docker save` in chunks, and raises ScarError when it ends early;
    3. neither changes the store.
    """

    def find(self, name: str) -> Found: ...

    def save(self, found: Found) -> Iterator[bytes]: ...


def saved_image(kind: Store, name: str, *, architecture: str, docker_host: str | None, cache: Path, tell: Tell) -> Path:
    """The archive of an image of a store, from the cache when it is there. `docker_host` is what DOCKER_HOST says."""
    if not re.fullmatch(IMAGE_REFERENCE_PATTERN, name):
        raise UsageError(
            f"{name!r} is not the name of an image", where=kind, fix="Write it as `docker images` shows it, or its id."
        )
    store: ImageStore = _Podman() if kind == PODMAN else _Docker(docker_host or DOCKER_SOCKET)
    found = store.find(name)
    where = f"{kind}:{name}"
    if found.architecture != architecture:
        raise ScarError(
            f"the image is for {found.architecture}, the function for {architecture}",
            where=where,
            fix=f"Pull it for linux/{architecture} (`--platform linux/{architecture}`), or set `architectures`.",
        )
    if found.size > LAMBDA_IMAGE_BYTES:
        raise ScarError(
            f"the image has {found.size / 2**30:.1f} GiB; Lambda takes images of at most {LAMBDA_IMAGE_BYTES / 2**30:.0f} GiB",
            where=where,
            fix="Make the image smaller.",
        )
    directory = cache / "stores" / found.id
    target = directory / "image.tar"
    with in_cache(directory):
        if not target.exists():
            _make_room(directory, found.size)
            for left_over in directory.glob("*.new"):
                left_over.unlink()
            with written_whole(target) as out:
                done = 0
                for chunk in store.save(found):
                    out.write(chunk)
                    done += len(chunk)
                    if done > LAMBDA_IMAGE_BYTES + oci.MAX_MANIFEST_BYTES:
                        raise ScarError(
                            f"the archive has more than {LAMBDA_IMAGE_BYTES // 2**30} GiB",
                            where=where,
                            fix="Make the image smaller.",
                        )
                    tell(min(done, found.size), max(found.size, 1), "save")
    return target


def forget(archive: Path) -> None:
    """Remove an archive that turned out to be damaged, so that the next call saves it anew."""
    archive.unlink(missing_ok=True)


def _make_room(directory: Path, coming: int) -> None:
    """Remove the archives that were not used for the longest, until those that stay and the coming one are within the bound."""
    kept = coming
    others = (
        (lock.stat().st_mtime, lock.parent) for lock in directory.parent.glob("*/lock") if lock.parent != directory
    )
    for _, other in sorted(others, reverse=True):
        archive = other / "image.tar"
        size = archive.stat().st_size if archive.exists() else 0
        if kept + size <= _KEPT_BYTES or not remove_unused(other):
            kept += size


class _Podman:
    """Whatever `podman` finds: its own configuration says where its store is, or which machine it speaks to."""

    def find(self, name: str) -> Found:
        asked = self._run("image", "inspect", name)
        if asked.returncode != 0:
            said = _last_line(asked.stderr)
            if any(words in said for words in ("image not known", "no such image", "failed to find image")):
                raise NotFoundError(
                    f"Podman has no image {name!r}",
                    where=f"containers-storage:{name}",
                    fix=f"See `podman images`; every user has a store of their own. Pull it with: podman pull {name}",
                )
            raise ServiceError(f"podman image inspect {name} failed: {said}")
        return _found(asked.stdout, f"containers-storage:{name}")

    def save(self, found: Found) -> Iterator[bytes]:
        command = ["podman", "save", "--quiet", "--format", "docker-archive", found.id]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            try:
                while chunk := process.stdout.read(oci.CHUNK):
                    yield chunk
                said = process.stderr.read(_SAID_BYTES)
                code = process.wait(_ANSWER_S)
            finally:
                process.kill()
        if code != 0:
            raise ServiceError(f"podman save failed: {_last_line(said)}")

    @staticmethod
    def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["podman", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_S, check=False
            )
        except FileNotFoundError as error:
            raise NotFoundError(
                "`containers-storage:` needs Podman, and podman is not on PATH",
                fix="Install it (apt install podman), or write the image to a file with `buildah push` or `skopeo copy … oci-archive:FILE`.",
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServiceError(f"podman did not answer: {error}") from error


class _Docker:
    """The Docker Engine API (docs.docker.com/reference/api/engine), which Podman's own service answers as well."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._connect = _connector(host)

    def find(self, name: str) -> Found:
        with self._get(f"/images/{quote(name, safe='/:@')}/json") as response:
            content = response.read(oci.MAX_MANIFEST_BYTES)
            if response.status == 404:
                raise NotFoundError(
                    f"the Docker daemon at {self._host} has no image {name!r}",
                    where=f"docker-daemon:{name}",
                    fix=f"See `docker images`. Pull it with: docker pull {name}",
                )
            if response.status != 200:
                raise self._failed(response.status, content)
        return _found(content, f"docker-daemon:{name}")

    def save(self, found: Found) -> Iterator[bytes]:
        with self._get(f"/images/sha256:{found.id}/get", _SAVING_S) as response:
            if response.status != 200:
                raise self._failed(response.status, response.read(_SAID_BYTES))
            try:
                while chunk := response.read(oci.CHUNK):
                    yield chunk
            except (OSError, http.client.HTTPException) as error:
                raise ServiceError(f"the Docker daemon at {self._host} stopped sending: {error}") from error
            if response.length:  # http.client takes an early end for the end
                raise ServiceError(
                    f"the Docker daemon at {self._host} stopped sending {response.length} bytes too early"
                )

    @contextmanager
    def _get(self, path: str, timeout_s: float = _ANSWER_S) -> Iterator[http.client.HTTPResponse]:
        connection = self._connect(timeout_s)
        try:
            try:
                connection.request("GET", path, headers={"Host": "docker", "Connection": "close"})
                response = connection.getresponse()
            except PermissionError as error:
                raise DeniedError(
                    f"the Docker daemon's socket {self._host} may not be opened",
                    fix="Join the group of the socket (usually `docker`), or use `containers-storage:` with Podman.",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise NotFoundError(
                    f"no Docker daemon answers at {self._host}: {error}",
                    fix="Start Docker, or set DOCKER_HOST to its socket (unix:///…); with Podman use `containers-storage:`.",
                ) from error
            with response:
                yield response
        finally:
            connection.close()

    def _failed(self, status: int, content: bytes) -> ServiceError:
        return ServiceError(f"the Docker daemon at {self._host} answered {status}: {_last_line(content)}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connector(host: str) -> Callable[[float], http.client.HTTPConnection]:
    parts = urlsplit(host)
    if parts.scheme == "unix" and parts.path:
        return lambda timeout_s: _UnixConnection(parts.path, timeout_s)
    if parts.scheme in ("tcp", "http") and parts.hostname in ("127.0.0.1", "::1", "localhost"):
        name, port = parts.hostname, parts.port or 2375
        return lambda timeout_s: http.client.HTTPConnection(name, port, timeout=timeout_s)
    raise UsageError(
        f"DOCKER_HOST is {host!r}, and a Docker daemon is reached by a socket of this machine only (unix:///…)",
        fix="Forward its socket (ssh -L), or save the image to a file and name that: docker save -o FILE IMAGE.",
    )


def _found(content: bytes, where: str) -> Found:
    """What `inspect` says, of the program and of the API: an object, or a list of one."""
    try:
        document = json.loads(content)
        item: Mapping[str, Any] = document[0] if isinstance(document, list) else document
        named, system, architecture, size = (
            _ID.fullmatch(item["Id"]),
            item["Os"],
            item["Architecture"],
            int(item["Size"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise ServiceError(
            f"the store described the image in a way that is not understood: {error}", where=where
        ) from error
    if named is None or system != "linux":
        raise ScarError(f"the image {item['Id']!r} is for {system}/{architecture}, the function for linux", where=where)
    return Found(named[1], oci.architecture(str(architecture)), size)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
