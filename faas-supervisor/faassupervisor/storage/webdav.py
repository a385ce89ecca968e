"""WebDAV servers, dCache among them, as a backend for users' files (RFC 4918).

A file is uploaded under a name that nobody looks for and then moved to its own, so that no reader ever sees a part of it. A server that
sends a reader on to another machine, as dCache does, is followed, without the password; where it sends a writer to is not.
"""

from __future__ import annotations

import base64
import secrets
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, HTTPClientError
from urllib3.exceptions import HTTPError

from faassupervisor.aws import Aws
from faassupervisor.contract import Provider
from faassupervisor.deadline import Deadline
from faassupervisor.errors import StageInError, StageOutError
from faassupervisor.events.items import ObjectItem
from faassupervisor.storage import Fetched, ProviderError, Upload
from faassupervisor.storage.arriving import expect_room, not_stored, whole
from faassupervisor.storage.credentials import Credentials
from faassupervisor.storage.guard import Session

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse

_CHUNK_BYTES: Final = 1024 * 1024
_ATTEMPTS: Final = 4  # requests for one body
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NO_PARENT: Final = frozenset({404, 409})  # RFC 4918, 9.7.1 says 409; some servers say 404
_IS_THERE: Final = frozenset({201, 301, 405})  # of MKCOL: made, or there before (405: RFC 4918, 9.3.1)
_BROKEN: Final = (BotoCoreError, HTTPClientError, HTTPError)
_REASONS: Final = {
    401: "the login or the password is wrong",
    403: "the login may not do this",
    404: "it does not exist",
    412: "it was overwritten while it was read",
    423: "it is locked",
    507: "the server has no room left",
}


class WebDav:
    """Backend `webdav.ID`; see `faassupervisor.storage` for what it promises. It keeps no lineage: files of WebDAV have no place for it."""

    def __init__(self, aws: Aws, provider: Provider) -> None:
        self._endpoint, self._name, self._private = provider.endpoint.rstrip("/"), provider.name, provider.private
        self._session = Session(aws, provider, self._endpoint)
        self._credentials = Credentials(aws, provider, ("login", "password"))

    def fetch(self, item: ObjectItem, target: Path, deadline: Deadline) -> Fetched:
        uri = self._uri(item)
        try:
            url = self._url(item.bucket, item.key)
            with whole(target) as sink:
                return Fetched(_Download(self, url, uri, sink, deadline).run())
        except ProviderError as error:
            raise StageInError(f"{uri} cannot be read: {error}") from error
        except _BROKEN as error:
            raise StageInError(self._credentials.hide(f"{uri} could not be read: {error}")) from error
        except OSError as error:
            raise not_stored(uri, error) from error

    def superseded(self, _item: ObjectItem, _deadline: Deadline) -> bool:
        return False  # there are no versions

    def publish(self, uploads: Sequence[Upload], deadline: Deadline, lineage: Sequence[str] = ()) -> tuple[str, ...]:
        published: list[str] = []
        known: set[str] = set()
        for upload in uploads:
            uri = self._uri(upload)
            try:
                self._publish(upload, known, deadline)
            except ProviderError as error:
                raise StageOutError(f"{uri} cannot be written: {error}", published=tuple(published)) from error
            except _BROKEN as error:
                message = self._credentials.hide(f"{uri} could not be written: {error}")
                raise StageOutError(message, published=tuple(published)) from error
            except StageOutError as error:
                raise StageOutError(f"{uri} was not published: {error.message}", published=tuple(published)) from error
            published.append(uri)
        return tuple(published)

    def ask(
        self, method: str, url: str, deadline: Deadline, headers: Mapping[str, str] | None = None, body: object = b"",
        *, trusted: bool = True,
    ) -> AWSResponse:  # fmt: skip
        """One request, its answer not yet read. `trusted`: the server that the credentials are for."""
        sent = {"User-Agent": "scar", **(headers or {})}
        if not body and method != "GET":
            sent["Content-Length"] = "0"  # some servers wait for a body that nobody says is absent
        if trusted:
            if url.startswith("http:") and not self._private:
                raise ProviderError("a password is sent without TLS only to a provider with `private: true`")
            values = self._credentials.read(deadline)
            sent["Authorization"] = (
                "Basic " + base64.b64encode(f"{values['login']}:{values['password']}".encode()).decode()
            )
        request = AWSRequest(method=method, url=url, headers=sent, data=body, stream_output=True)
        return self._session.send(request.prepare())

    def _publish(self, upload: Upload, known: set[str], deadline: Deadline) -> None:
        url = self._url(upload.bucket, upload.key)
        folder, _, name = url.rpartition("/")
        partial = f"{folder}/.scar-{secrets.token_hex(8)}.part"
        try:
            status = self._put(upload, partial, deadline)
            if status in _NO_PARENT and folder not in known:
                self._make_folders(folder, deadline)
                status = self._put(upload, partial, deadline)
            _expect_done(status)
            known.add(folder)
            headers = {"Destination": f"{folder}/{name}", "Overwrite": "T"}
            _expect_done(self._status("MOVE", partial, deadline, headers))
            _expect_found(self._status("HEAD", url, deadline))
        except BaseException:
            with suppress(ProviderError, StageOutError, *_BROKEN):  # the first failure is the one to tell
                self._status("DELETE", partial, deadline)
            raise

    def _put(self, upload: Upload, url: str, deadline: Deadline) -> int:
        with upload.open() as source:
            return self._status(
                "PUT", url, deadline, {"Content-Length": str(upload.size)}, _Timed(source, upload.size, deadline)
            )

    def _make_folders(self, folder: str, deadline: Deadline) -> None:
        """Every collection from the top down to `folder`. One that may not be made may still be there: the upload will tell."""
        steps = folder.removeprefix(self._endpoint).strip("/").split("/")
        for depth in range(1, len(steps) + 1):
            place = "/".join([self._endpoint, *steps[:depth]])
            status = self._status("MKCOL", f"{place}/", deadline)
            if status not in _IS_THERE and depth == len(steps):
                raise RefusedError(status, "its folder cannot be made")

    def _status(
        self, method: str, url: str, deadline: Deadline, headers: Mapping[str, str] | None = None, body: object = b""
    ) -> int:
        if deadline.for_agent_s() <= 0:
            raise StageOutError("no time was left")
        answer = self.ask(method, url, deadline, headers, body)
        with closing(answer.raw):
            answer.raw.drain_conn()
        return int(answer.status_code)

    def _url(self, *parts: str) -> str:
        path = "/".join(part.strip("/") for part in parts if part)
        steps = path.split("/")
        if any(step in ("", ".", "..") for step in steps):
            # A server, or what stands before it, resolves these: the path would mean another place than it says.
            raise ProviderError(f"{path!a} is no path that a WebDAV server could be asked for")
        return "/".join([self._endpoint, *(urllib.parse.quote(step, safe="") for step in steps)])

    def _uri(self, thing: ObjectItem | Upload) -> str:
        return f"{self._name}://{thing.bucket}/{thing.key}"


class RefusedError(ProviderError):
    """The server's status, in words. What else it says is not repeated: it could be anything."""

    def __init__(self, status: int, what: str = "") -> None:
        said = f"the server answers {status}"
        if status in _REDIRECTS:
            said += ", which sends us to another address"
        reason = f"{_REASONS[status]} ({said})" if status in _REASONS else said
        super().__init__(f"{what}: {reason}" if what else reason)


def _expect_found(status: int) -> None:
    if status == 404:
        raise ProviderError("the server took it and does not find it under its name: it cannot hold such names")


class ShortError(Exception):
    """A body ended before its length."""


def _expect_done(status: int) -> None:
    if not 200 <= status < 300:
        raise RefusedError(status)


class _Download:
    """One file into one open file. A body that breaks is asked for again, from where it broke if the server can."""

    def __init__(self, server: WebDav, url: str, uri: str, sink: BinaryIO, deadline: Deadline) -> None:
        self._server, self._url, self._uri, self._sink, self._deadline = server, url, uri, sink, deadline
        self._received = 0
        self._size: int | None = None
        self._etag: str | None = None

    def run(self) -> int:
        reason = ""
        for _ in range(_ATTEMPTS):
            answer = self._ask()
            try:
                with closing(answer.raw):
                    return self._receive(answer)
            except HTTPError as error:
                reason = str(error)
            except ShortError as error:
                reason = str(error)
        raise StageInError(f"{self._uri} did not arrive whole in {_ATTEMPTS} attempts: {reason}")

    def _ask(self) -> AWSResponse:
        headers = {"Accept-Encoding": "identity"}
        if self._received and self._etag:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        url, trusted = self._url, True
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._server.ask("GET", url, self._deadline, headers, trusted=trusted)
            if answer.status_code not in _REDIRECTS:
                break
            answer.raw.close()
            following = urllib.parse.urljoin(url, answer.headers.get("Location", ""))
            trusted = trusted and _origin(following) == _origin(self._url)
            if urllib.parse.urlsplit(following).scheme != "https" and url.startswith("https:"):
                raise ProviderError("the server sends us on to an address without TLS")
            if urllib.parse.urlsplit(following).scheme not in ("http", "https"):
                raise ProviderError("the server sends us on to something that is no web address")
            url = following
        else:
            raise ProviderError(f"the server sends us on more than {_MOST_REDIRECTS} times")
        if answer.status_code not in (200, 206):
            answer.raw.close()
            raise RefusedError(answer.status_code)
        return answer

    def _receive(self, answer: AWSResponse) -> int:
        if answer.status_code != 206:
            self._sink.seek(0)
            self._sink.truncate()
            self._received = 0
            tag = answer.headers.get("ETag", "")
            self._etag = tag if tag.startswith('"') else None  # a weak one does not stand for the bytes
            length = answer.headers.get("Content-Length", "")
            self._size = int(length) if length.isdigit() else None
            if self._size is not None:
                expect_room(self._sink, self._size, self._uri)
        for chunk in _chunks(answer):
            if self._deadline.for_process_s() <= 0:
                raise StageInError(f"{self._uri}: time ran out after {self._received} bytes")
            self._sink.write(chunk)
            self._received += len(chunk)
        if self._size not in (None, self._received):
            raise ShortError(f"{self._received} of {self._size} bytes came")
        return self._received


def _chunks(answer: AWSResponse) -> Iterator[bytes]:
    while chunk := answer.raw.read(_CHUNK_BYTES, decode_content=False):
        yield chunk


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


class _Timed:
    """An output file as urllib3 sends a body: to its length, and no longer than there is time."""

    def __init__(self, source: BinaryIO, size: int, deadline: Deadline) -> None:
        self._source, self._left, self._deadline = source, size, deadline

    def read(self, size: int = -1) -> bytes:
        if self._deadline.for_agent_s() <= 0:
            raise StageOutError("no time was left")
        chunk = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        if not chunk and self._left:
            raise StageOutError("the output file became shorter meanwhile")
        return chunk
