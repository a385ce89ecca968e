"""One blob into one repository: mounted, or sent; cut uploads go on where the registry says they stand.

A small blob is one request with its content. A large one is streamed into the open upload and then named by its digest, so that
a cut costs only what the registry has not kept. The registry verifies the whole: nothing is ever half there under a digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol
from urllib.parse import urlencode

import urllib3

from scar.errors import NotFoundError, ScarError, ServiceError
from scar.package import oci
from scar.package.registry.transport import ATTEMPTS, CutError, Request, Transport, discard, resolved

_ONE_REQUEST_BYTES: Final = 16 << 20
_PIECE: Final = 64 << 10
_FINISH_PATIENCE_S: Final = 300.0  # a registry may hash the whole blob before it answers


class How(Enum):
    PRESENT = "present"
    MOUNTED = "mounted"
    SENT = "sent"


class Watch(Protocol):
    """Sees each piece on its way; may raise to stop the upload."""

    def begin(self, position: int) -> None:
        """The next piece is the one at `position`: it starts, or starts again."""
        ...

    def sent(self, piece: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """`uploads_url` is the repository's (`…/blobs/uploads/`); `mounted_from` a repository of the same registry that has the blob."""

    transport: Transport
    uploads_url: str
    scope: str
    blob: oci.Blob
    watch: Watch
    mounted_from: str | None = None
    attempt: int = 1

    def run(self) -> How:
        """Raises CutError where another upload may succeed."""
        begun = self._begin()
        if begun.status == 201:
            return How.MOUNTED
        place = _next_place(self.uploads_url, begun)
        if place is None:
            raise ServiceError(f"{self.uploads_url}: the registry began an upload but gave no place for it")
        if self.blob.descriptor.size <= _ONE_REQUEST_BYTES:
            self._finish(place, with_content=True)
        else:
            self._finish(self._stream(place), with_content=False)
        return How.SENT

    def _begin(self) -> urllib3.BaseHTTPResponse:
        if self.mounted_from is not None:
            query = urlencode({"mount": self.blob.descriptor.digest, "from": self.mounted_from})
            try:
                return self._post(f"{self.uploads_url}?{query}")
            except CutError:
                raise
            except ScarError:
                pass  # a registry that does not know of mounting, or not for us: the blob is sent
        return self._post(self.uploads_url)

    def _post(self, url: str) -> urllib3.BaseHTTPResponse:
        response = self.transport.send(Request("POST", url, self.scope, {"Content-Length": "0"}), (201, 202))
        discard(response)
        return response

    def _finish(self, place: str, *, with_content: bool) -> None:
        descriptor = self.blob.descriptor
        url = place + ("&" if "?" in place else "?") + urlencode({"digest": descriptor.digest})
        length = descriptor.size if with_content else 0
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        body = (lambda: self._pieces(0)) if with_content else None
        # Not tried again as it is: the first attempt may have ended the upload.
        request = Request("PUT", url, self.scope, headers, body, _FINISH_PATIENCE_S)
        discard(self.transport.send(request, (201, 204), attempts=1))

    def _stream(self, place: str) -> str:
        """Fill the upload, over as many connections as it takes; answers where it is finished."""
        size, start, fruitless = self.blob.descriptor.size, 0, 0
        while start < size:
            try:
                return self._rest(place, start)
            except _StartOverError:
                raise
            except CutError as cut:
                if fruitless == ATTEMPTS - 1:
                    raise
                self.transport.pause(max(self.attempt, fruitless + 1), cut)  # also time for it to store what it has got
                stands = self._stands(place)
                if stands is None:
                    raise _StartOverError(cut.what, pause_s=0) from cut
                fruitless = 0 if stands[1] > start else fruitless + 1
                place, start = stands
        return place

    def _rest(self, place: str, start: int) -> str:
        size = self.blob.descriptor.size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - start)}
        if start:
            headers["Content-Range"] = f"{start}-{size - 1}"
        request = Request("PATCH", place, self.scope, headers, lambda: self._pieces(start), _FINISH_PATIENCE_S)
        try:
            response = self.transport.send(request, (200, 201, 202, 204), attempts=1)
        except CutError:
            raise
        except (ServiceError, NotFoundError) as error:
            if not start:
                raise
            raise _StartOverError(f"the upload cannot go on: {error.what}") from error
        discard(response)
        end = _range_end(response)
        if end is not None and end != size - 1:
            # Amazon ECR takes one PATCH and answers well to each further one, without keeping it (containers-roadmap 2831).
            raise _StartOverError(f"{self.uploads_url}: the registry has kept {end + 1} of {size} bytes")
        return _next_place(place, response) or place

    def _stands(self, place: str) -> tuple[str, int] | None:
        """Where a cut upload stands, None: it cannot go on, from there or from the middle of its source."""
        if self.blob.open_at is None:
            return None
        try:
            response = self.transport.send(Request("GET", place, self.scope), (204,), attempts=2)
        except ScarError:
            return None
        discard(response)
        end = _range_end(response)
        if not end or end >= self.blob.descriptor.size:  # `0-0` is what an empty upload answers
            return None
        return _next_place(place, response) or place, end + 1

    def _pieces(self, start: int) -> Iterator[bytes]:
        """A socket's timeout is for one call of sendall as a whole: on a slow line a large chunk would never arrive in time."""
        self.watch.begin(start)
        chunks = self.blob.open() if not start or self.blob.open_at is None else self.blob.open_at(start)
        for chunk in chunks:
            for first in range(0, len(chunk), _PIECE):
                piece = chunk[first : first + _PIECE]
                self.watch.sent(piece)
                yield piece


class _StartOverError(CutError):
    """This upload is lost; another one may succeed."""


def _next_place(url: str, response: urllib3.BaseHTTPResponse) -> str | None:
    location = response.headers.get("Location")
    return resolved(url, location) if location else None


def _range_end(response: urllib3.BaseHTTPResponse) -> int | None:
    """The last byte that the registry has, from `0-N`, with or without the unit."""
    last = response.headers.get("Range", "").removeprefix("bytes=").rpartition("-")[2]
    return int(last) if last.isdigit() else None
