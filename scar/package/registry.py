"""A registry as this project uses it (OCI distribution 1.1): read manifests and blobs, and push an image.

Nothing is held in memory or on disk but a chunk: a blob that comes from one registry streams into the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode, urljoin

import urllib3
from urllib3.exceptions import HTTPError

from scar.errors import ScarError, ServiceError
from scar.package import oci
from scar.package.credentials import Credentials
from scar.package.layer import verified
from scar.package.progress import Tell, ignore
from scar.package.reference import DOCKER_HUB, is_digest
from scar.package.transport import ATTEMPTS, CutError, Request, Transport, discard, is_loopback

_PARALLEL: Final = 4
_PIECE: Final = 64 << 10
_ACCEPT: Final = ", ".join((oci.OCI_MANIFEST, oci.DOCKER_MANIFEST, oci.OCI_INDEX, oci.DOCKER_LIST))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index: the bytes as they were sent, which `digest` names."""

    content: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class PushResult:
    """What became of an image's bytes: sent by us, mounted from another repository, or there before."""

    digest: str
    bytes_sent: int
    bytes_mounted: int
    bytes_present: int


class _How(Enum):
    PRESENT = "present"
    MOUNTED = "mounted"
    SENT = "sent"


class _CancelledError(ScarError):
    """Another blob of the same push has failed."""


class Registry:
    """One registry as one user, for any number of threads.

    `host` is as image names have it (`docker.io`, `localhost:5000`). `endpoint` is where it answers, when that is not
    `https://host` (loopback hosts: `http://host`).
    """

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        endpoint: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self._transport = Transport(endpoint or _endpoint(host), credentials, sleep=sleep, clock=clock)

    def manifest(self, repository: str, tag_or_digest: str) -> Manifest:
        """Raises NotFoundError, DeniedError or ServiceError; a digest is verified."""
        request = Request(
            "GET", self._url(repository, f"manifests/{tag_or_digest}"), pull_scope(repository), {"Accept": _ACCEPT}
        )
        response, content = self._transport.fetch(request, oci.MAX_MANIFEST_BYTES)
        digest = "sha256:" + sha256(content).hexdigest()
        if is_digest(tag_or_digest) and tag_or_digest != digest:
            raise ServiceError(f"{request.url}: the registry sent {digest}")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return Manifest(content, media_type, digest)

    def blob(self, repository: str, descriptor: oci.Descriptor) -> oci.Blob:
        """A blob of a repository, fetched when opened; a cut transfer goes on where it stopped."""
        where = f"{self.host}/{repository}"
        return oci.Blob(
            descriptor,
            lambda: verified(self._chunks(repository, descriptor), descriptor, where=where),
            host=self.host,
            repository=repository,
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

    def has_blob(self, repository: str, digest: str, scope: str) -> bool:
        request = Request("HEAD", self._url(repository, f"blobs/{digest}"), scope)
        response = self._transport.send(request, (200, 404))
        discard(response)
        return response.status == 200

    def ensure_blob(self, repository: str, blob: oci.Blob, sending: Callable[[bytes], bytes]) -> _How:
        """See that the repository holds the blob: there already, mounted, or sent.

        `sending` sees each chunk on its way. A cut upload is started again, unless it has arrived all the same.
        """
        source = blob.repository if blob.host == self.host and blob.repository != repository else None
        scope = push_scope(repository, source)
        for attempt in range(1, ATTEMPTS + 1):
            if self.has_blob(repository, blob.descriptor.digest, scope):
                return _How.PRESENT if attempt == 1 else _How.SENT
            try:
                return self._send_blob(repository, blob, scope, source, sending)
            except CutError as error:
                if attempt == ATTEMPTS:
                    raise
                self._transport.pause(attempt, error)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send_blob(
        self, repository: str, blob: oci.Blob, scope: str, source: str | None, sending: Callable[[bytes], bytes]
    ) -> _How:
        digest = blob.descriptor.digest
        query = "?" + urlencode({"mount": digest, "from": source}) if source else ""
        start = Request("POST", self._url(repository, f"blobs/uploads/{query}"), scope, {"Content-Length": "0"})
        begun = self._transport.send(start, (201, 202))
        discard(begun)
        if begun.status == 201:
            return _How.MOUNTED
        location = begun.headers.get("Location")
        if not location:
            raise ServiceError(f"{start.url}: the registry began an upload but gave no place for it")
        place = urljoin(start.url, location)
        place += ("&" if "?" in place else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.descriptor.size)}
        finish = Request("PUT", place, scope, headers, lambda: map(sending, _pieces(blob.open())))
        discard(self._transport.send(finish, (201,), attempts=1))
        return _How.SENT

    def _chunks(self, repository: str, descriptor: oci.Descriptor) -> Iterator[bytes]:
        """Chunks of a blob, over as many connections as it takes; gives up when ATTEMPTS in a row bring nothing."""
        url, scope = self._url(repository, f"blobs/{descriptor.digest}"), pull_scope(repository)
        position, fruitless = 0, 0
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
                if fruitless == ATTEMPTS:
                    raise cut
                self._transport.pause(fruitless + 1, cut)

    def _url(self, repository: str, rest: str) -> str:
        return f"{self._transport.base_url}/v2/{repository}/{rest}"


def push(
    image: oci.Image, registry: Registry, repository: str, *, tag: str | None = None, tell: Tell = ignore
) -> PushResult:
    """Make `repository` hold the image, named by `tag` or by its digest alone.

    Blobs go in parallel, the manifest when all of them are there: whoever reads the tag sees the old image or the new one.
    """
    blobs = {blob.descriptor.digest: blob for blob in (image.config, *(layer.blob for layer in image.layers))}
    total = sum(blob.descriptor.size for blob in blobs.values())
    progress = _Progress(total, tell)
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="push") as pool:
        waiting = {pool.submit(_push_blob, registry, repository, blob, progress): blob for blob in blobs.values()}
        try:
            wait(waiting, return_when=FIRST_EXCEPTION)
        finally:  # all are done; or one failed, or Ctrl-C: the others stop at their next piece
            progress.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
    _raise_first(list(waiting))
    registry.put_manifest(repository, image, tag)
    count = dict.fromkeys(_How, 0)
    for future, blob in waiting.items():
        count[future.result()] += blob.descriptor.size
    return PushResult(
        digest=image.digest,
        bytes_sent=count[_How.SENT] + len(image.manifest),
        bytes_mounted=count[_How.MOUNTED],
        bytes_present=count[_How.PRESENT],
    )


class _Progress:
    """Bytes done of all blobs together, told from several threads; also how a failed push stops the others."""

    def __init__(self, total_bytes: int, tell: Tell) -> None:
        self._total, self._tell = total_bytes, tell
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def begin(self, digest: str) -> None:
        """Of this blob nothing has arrived: it starts, or starts again."""
        with self._lock:
            self._done[digest] = 0

    def add(self, digest: str, chunk: bytes) -> bytes:
        if self._cancelled.is_set():
            raise _CancelledError("another part of the image could not be pushed")
        self._told(digest, self._done[digest] + len(chunk))
        return chunk

    def end(self, blob: oci.Blob) -> None:
        self._told(blob.descriptor.digest, blob.descriptor.size)

    def _told(self, digest: str, done_bytes: int) -> None:
        with self._lock:
            self._done[digest] = done_bytes
            self._tell(sum(self._done.values()), self._total, "push")


def _push_blob(registry: Registry, repository: str, blob: oci.Blob, progress: _Progress) -> _How:
    digest = blob.descriptor.digest

    def opened() -> Iterator[bytes]:
        progress.begin(digest)
        return blob.open()

    counted = oci.Blob(blob.descriptor, opened, blob.host, blob.repository)
    how = registry.ensure_blob(repository, counted, lambda chunk: progress.add(digest, chunk))
    progress.end(blob)
    return how


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A socket's timeout is for one call of sendall as a whole: on a slow line a large chunk would never arrive in time."""
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]


def _raise_first(futures: list[Future[_How]]) -> None:
    """The reason why a push failed: the first error that is not the consequence of another."""
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, _CancelledError)):
        raise error


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def push_scope(repository: str, mounted_from: str | None = None) -> str:
    scope = f"repository:{repository}:pull,push"
    return f"{scope} {pull_scope(mounted_from)}" if mounted_from else scope


def _endpoint(host: str) -> str:
    if host == DOCKER_HUB:
        return "https://registry-1.docker.io"
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return f"http://{host}" if is_loopback(name.strip("[]")) else f"https://{host}"


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
