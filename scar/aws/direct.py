"""How does an object of some kilobytes travel for less than botocore's millisecond? One signed request on a kept connection.

This is a short cut and no second client. The way to a bucket (its host, its region, its style of address) is read off a request that
botocore made itself and that went well; the signature is botocore's too. What is not plain success in every respect, an error, a
redirection, a proxy, an answer that is cut, is not understood here: it is `NotDirect`, and the same thing is done the ordinary
way, with its patience, its redirections and its messages. Whoever listens to the clients' calls keeps all of them.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.utils import get_environ_proxies

if TYPE_CHECKING:
    from scar.aws.clients import Aws

_CONNECT_S: Final = 3.5
_READ_S: Final = 60.0  # as botocore
BLOCK_BYTES: Final = 256 << 10
_SCOPE: Final = re.compile(r"^AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request")
# So many failures in a row, or a tenth of all, and the short cut is none: botocore slows down where S3 asks for it.
_PATIENCE: Final = 10.0
_REGAINED: Final = 0.1


class NotDirect(Exception):  # noqa: N818 - it says what to do next, and no user ever reads it
    """Do it the ordinary way."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a bucket is reached. `path` is what stands before the key, and ends with a slash."""

    scheme: str
    host: str
    path: str
    region: str
    agent: str


@contextmanager
def noticing(aws: Aws, bucket: str, key: str = "") -> Iterator[None]:
    """When the calls inside the block went well, the way to the bucket is known: a list of its objects, or a write of `key`."""
    found: list[Way] = []

    def look(request: Any, **_: Any) -> None:
        way = _way(request, key)
        if way is not None:
            found[:] = [way]

    aws.s3.meta.events.register("before-send.s3", look)
    try:
        yield
    finally:
        aws.s3.meta.events.unregister("before-send.s3", look)
    if found:
        aws.ways[bucket] = found[-1]


def _way(request: Any, key: str) -> Way | None:
    """None for a request that is signed in any other way: with a session of a directory bucket, for several regions, or not at all."""
    url = urlsplit(request.url)
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    scope = _SCOPE.match(headers.get("authorization", ""))
    if scope is None or "x-amz-s3session-token" in headers:
        return None
    path = url.path
    if key:
        if not path.endswith("/" + _quoted(key)):
            return None
        path = path[: -len(_quoted(key))]
    path = path if path.endswith("/") else path + "/"
    return Way(url.scheme, url.netloc, path, scope[1], headers.get("user-agent", ""))


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _quoted(key: str) -> str:
    return quote(key, safe="/~")


class Answer:
    """One answer, while it comes. Names of `headers` are in lower case."""

    def __init__(self, got: http.client.HTTPResponse) -> None:
        self._got = got
        self.headers = {name.lower(): value for name, value in got.headers.raw_items()}

    def readinto(self, room: memoryview) -> int:
        """How many bytes came, 0 at the end. Raises NotDirect."""
        try:
            return self._got.readinto(room)
        except (OSError, http.client.HTTPException) as error:
            raise NotDirect from error

    def drain(self) -> None:
        """Read what is left of a body that says nothing."""
        room = memoryview(bytearray(1024))
        while self.readinto(room):
            pass

    @property
    def ended(self) -> bool:
        """Whether all of it was read, so that another answer may follow on the connection."""
        return self._got.isclosed()


class Direct:
    """Connections to one bucket, one for each thread that asks. `close` ends them all, whatever they are waiting for."""

    def __init__(self, aws: Aws, way: Way) -> None:
        self._aws, self._way = aws, way
        self._trusted = _trusted(aws) if way.scheme == "https" else None
        self._mine = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._patience = _PATIENCE
        self._closed = False

    @classmethod
    def to(cls, aws: Aws, bucket: str) -> Direct | None:
        """None when there is no way, or one that only botocore knows how to go."""
        way = aws.ways.get(bucket)
        if way is None or aws.overheard or get_environ_proxies(f"{way.scheme}://{way.host}"):
            return None
        return cls(aws, way)

    @contextmanager
    def answer(
        self, method: str, key: str, headers: Mapping[str, str], body: bytes | IO[bytes] = b"", *, expected: int = 200
    ) -> Iterator[Answer]:
        """The answer, if it has the expected status. Names of headers are in lower case. Raises NotDirect."""
        if self._patience < 1 or self._closed:
            raise NotDirect
        try:
            answer = Answer(self._ask(method, key, headers, body, expected))
            yield answer
        except NotDirect:
            self._patience -= 1
            self._drop()
            raise
        except BaseException:
            self._drop()
            raise
        if not answer.ended:
            self._drop()
        self._patience = min(_PATIENCE, self._patience + _REGAINED)

    def close(self) -> None:
        self._closed = True
        for connection in list(self._all):
            if (opened := connection.sock) is not None:
                try:
                    opened.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed by the other side

    def _ask(
        self, method: str, key: str, headers: Mapping[str, str], body: bytes | IO[bytes], expected: int
    ) -> http.client.HTTPResponse:
        try:
            connection, fresh = self._connection()
            try:
                answer = self._send(connection, method, key, headers, body)
            except (ConnectionError, http.client.BadStatusLine):
                if fresh:
                    raise
                # A connection that had been idle was closed at the moment of its use.
                self._drop()
                connection, _ = self._connection()
                answer = self._send(connection, method, key, headers, body)
        except (OSError, http.client.HTTPException) as error:
            raise NotDirect from error
        if answer.status != expected:
            raise NotDirect
        return answer

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        key: str,
        headers: Mapping[str, str],
        body: bytes | IO[bytes],
    ) -> http.client.HTTPResponse:
        way = self._way
        target = way.path + _quoted(key)
        # What has to be signed is; every header more takes botocore's signer as long as the request itself takes.
        signed = {name: value for name, value in headers.items() if name.startswith("x-amz-") or name == "content-type"}
        request = AWSRequest(method, f"{way.scheme}://{way.host}{target}", {"host": way.host, **signed}, body)
        S3SigV4Auth(self._aws.credentials(), "s3", way.region).add_auth(request)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in (*request.headers.raw_items(), ("user-agent", way.agent)):
            connection.putheader(name, value)
        for name in headers.keys() - signed.keys():
            connection.putheader(name, headers[name])
        if not isinstance(body, bytes):
            body.seek(0)
        connection.endheaders(body or None)
        return connection.getresponse()

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        kept: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if kept is not None:
            return kept, False
        host = self._way.host
        if self._trusted is None:
            made = http.client.HTTPConnection(host, timeout=_CONNECT_S, blocksize=BLOCK_BYTES)
        else:
            made = http.client.HTTPSConnection(host, timeout=_CONNECT_S, blocksize=BLOCK_BYTES, context=self._trusted)
        made.connect()
        made.sock.settimeout(_READ_S)
        self._mine.connection = made
        self._all.append(made)
        return made, True

    def _drop(self) -> None:
        kept: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if kept is not None:
            kept.close()
            self._all.remove(kept)
            self._mine.connection = None


def _trusted(aws: Aws) -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path

    return ssl.create_default_context(cafile=aws.ca_bundle or get_cert_path(True))
