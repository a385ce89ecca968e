"""A registry as this project uses it (OCI distribution 1.1): read manifests and blobs, and push an image.

Nothing is held in memory or on disk but a chunk: a blob that comes from one registry streams into the other.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

from scar.errors import ServiceError
from scar.package import oci
from scar.package.layer import verified
from scar.package.registry.credentials import Credentials
from scar.package.registry.login import Renew
from scar.package.registry.network import Network, is_loopback, registry_certificates
from scar.package.registry.reference import DOCKER_HUB, is_digest
from scar.package.registry.transport import ATTEMPTS, CutError, Request, Transport, discard
from scar.package.registry.upload import How, Upload, Watch

_PROBE_S: Final = 5.0
_ACCEPT: Final = ", ".join((oci.OCI_MANIFEST, oci.DOCKER_MANIFEST, oci.OCI_INDEX, oci.DOCKER_LIST))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index: the bytes as they were sent, which `digest` names."""

    content: bytes
    media_type: str
    digest: str


class Registry:
    """One registry as one user, for any number of threads.

    `host` is as image names have it (`docker.io`, `localhost:5000`). `endpoint` is where it answers, when that is not
    `https://host`; on this machine http is spoken to whoever does not speak https. `renew` is asked for new credentials when
    the registry does not take the old ones any more.
    """

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        endpoint: str | None = None,
        renew: Renew | None = None,
        network: Network | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        network = network or Network()

        def connected(base_url: str) -> Transport:
            return Transport(base_url, credentials, renew=renew, network=network, sleep=sleep, clock=clock)

        self._connect: Callable[[], Transport] = lambda: connected(_endpoint(host, network))
        self._connected = connected(endpoint) if endpoint else None
        self._lock = threading.Lock()

    @property
    def _transport(self) -> Transport:
        """Made when it is first used: which protocol a registry on this machine speaks is found by asking it."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def greet(self) -> None:
        """Hear how to log in before many requests are sent at once."""
        self._transport.greet()

    def manifest(self, repository: str, tag_or_digest: str) -> Manifest:
        """Raises NotFoundError, DeniedError or ServiceError; a digest is verified."""
        request = Request(
            "GET", self._url(repository, f"manifests/{tag_or_digest}"), pull_scope(repository), {"Accept": _ACCEPT}
        )
        response, content = self._transport.fetch(request, oci.MAX_MANIFEST_BYTES)
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type in oci.SCHEMA_1:  # whose digest leaves out its signatures
            raise oci.schema_1(f"{self.host}/{repository}")
        digest = "sha256:" + sha256(content).hexdigest()
        if is_digest(tag_or_digest) and tag_or_digest != digest:
            raise ServiceError(f"{request.url}: the registry sent {digest}")
        announced = response.headers.get("Docker-Content-Digest", digest)
        if is_digest(announced) and announced != digest:
            raise ServiceError(f"{request.url}: the registry announced {announced} and sent {digest}")
        return Manifest(content, media_type, digest)

    def blob(self, repository: str, descriptor: oci.Descriptor) -> oci.Blob:
        """A blob of a repository, fetched when opened; a cut transfer goes on where it stopped."""
        where = f"{self.host}/{repository}"
        return oci.Blob(
            descriptor,
            lambda: verified(self._chunks(repository, descriptor), descriptor, where=where),
            host=self.host,
            repository=repository,
            open_at=lambda start: self._chunks(repository, descriptor, start),
        )

    def put_manifest(self, repository: str, image: oci.Image, tag: str | None) -> None:
        """Name the image by its tag, or by its digest alone. Its blobs must be there."""
        request = Request(
            "PUT",
            self._url(repository, f"manifests/{tag or image.digest}"),
            push_scope(repository),
            {"Content-Type": image.media_type, "Content-Length": str(len(image.manifest))},
            lambda: (image.manifest,),
        )
        response = self._transport.send(request, (200, 201))
        discard(response)
        stored = response.headers.get("Docker-Content-Digest", image.digest)
        if stored != image.digest:
            raise ServiceError(f"{request.url}: the registry stored {stored}, {image.digest} was sent")

    def tail(self, repository: str, descriptor: oci.Descriptor, count: int) -> bytes | None:
        """The last bytes of a blob, not verified; None where the registry sends no parts of blobs."""
        headers = {"Range": f"bytes={max(descriptor.size - count, 0)}-{descriptor.size - 1}"}
        request = Request("GET", self._url(repository, f"blobs/{descriptor.digest}"), pull_scope(repository), headers)
        response = self._transport.send(request, (200, 206))
        try:
            return response.read(count, decode_content=False) if response.status == 206 else None
        except HTTPError:
            return None
        finally:
            response.close()

    def has_blob(self, repository: str, blob: oci.Blob) -> bool:
        request = Request(
            "HEAD", self._url(repository, f"blobs/{blob.descriptor.digest}"), self._scope(repository, blob)
        )
        response = self._transport.send(request, (200, 404))
        discard(response)
        return response.status == 200

    def send_blob(self, repository: str, blob: oci.Blob, watch: Watch) -> How:
        """Mount or send a blob that was not there a moment ago; a lost upload is begun again, unless it has arrived all the same."""
        transport, scope = self._transport, self._scope(repository, blob)
        url, source = self._url(repository, "blobs/uploads/"), self._mountable(repository, blob)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return Upload(transport, url, scope, blob, watch, source, attempt).run()
            except CutError as error:
                if attempt >= error.attempts:
                    raise
                transport.pause(attempt, error)
            if self.has_blob(repository, blob):
                return How.SENT
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _mountable(self, repository: str, blob: oci.Blob) -> str | None:
        """The repository that the blob can be mounted from."""
        return blob.repository if blob.host == self.host and blob.repository != repository else None

    def _scope(self, repository: str, blob: oci.Blob) -> str:
        return push_scope(repository, self._mountable(repository, blob))

    def _chunks(self, repository: str, descriptor: oci.Descriptor, position: int = 0) -> Iterator[bytes]:
        """Chunks of a blob from `position` on, over as many connections as it takes; gives up when ATTEMPTS in a row bring nothing."""
        url, scope = self._url(repository, f"blobs/{descriptor.digest}"), pull_scope(repository)
        fruitless = 0
        while position < descriptor.size:
            before = position
            headers = {"Range": f"bytes={position}-"} if position else {}
            response = self._transport.send(Request("GET", url, scope, headers), (200, 206))
            skip = _bytes_to_skip(response, position)
            cut = CutError(f"{url}: the transfer stopped after {position} of {descriptor.size} bytes")
            try:
                for chunk in response.stream(oci.CHUNK, decode_content=False):
                    fresh, skip = chunk[skip:], max(skip - len(chunk), 0)
                    position += len(fresh)
                    if fresh:
                        yield fresh
            except HTTPError as error:
                cut = CutError(f"{url}: the transfer stopped after {position} of {descriptor.size} bytes: {error}")
            finally:
                response.close()
            if position < descriptor.size:
                fruitless = 0 if position > before else fruitless + 1
                if fruitless == cut.attempts:
                    raise cut
                self._transport.pause(fruitless + 1, cut)

    def _url(self, repository: str, rest: str) -> str:
        return f"{self._transport.base_url}/v2/{repository}/{rest}"


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def push_scope(repository: str, mounted_from: str | None = None) -> str:
    scope = f"repository:{repository}:pull,push"
    return f"{scope} {pull_scope(mounted_from)}" if mounted_from else scope


def _endpoint(host: str, network: Network) -> str:
    if host == DOCKER_HUB:
        return "https://registry-1.docker.io"
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "80")
    name = name.strip("[]")
    if is_loopback(name) and not registry_certificates(network, host) and _speaks_http(name, int(port)):
        return f"http://{host}"
    return f"https://{host}"


def _speaks_http(name: str, port: int) -> bool:
    """Whether a server on this machine answers a plain request; one that wants TLS hangs up, or complains in so many words."""
    try:
        with socket.create_connection((name, port), _PROBE_S) as connection:
            connection.sendall(f"GET /v2/ HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n".encode())
            answer = connection.recv(4096)
            while answer and b"\n\r\n" not in answer and len(answer) < 4096:
                more = connection.recv(4096)
                if not more:
                    break
                answer += more
    except OSError:
        return True  # nobody there: the request itself will say so
    return answer.startswith(b"HTTP/") and b"HTTPS server" not in answer


def _bytes_to_skip(response: urllib3.BaseHTTPResponse, position: int) -> int:
    """A server that ignores Range sends everything again: what we have is skipped."""
    if response.status == 200:
        return position
    started = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if started != str(position):
        response.close()
        raise ServiceError(
            f"the registry sent bytes from {started or 'nowhere'} on when asked for those from {position}"
        )
    return 0
