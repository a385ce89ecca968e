"""One HTTP request to an endpoint: its parts as they came, and its body, read within a bound of bytes and of time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from werkzeug.serving import DechunkedInput

from scar.limits import MIB

Environ = dict[str, Any]

BODY_S: Final = 30.0  # until the whole body is there
LINGER_S: Final = 1.0  # how long what was refused is still read, so that its sender hears why
LINGER_BYTES: Final = 16 * MIB
HELD_BYTES: Final = 256 * MIB  # of all requests together: bodies, and what is made of them
_COPIES: Final = 4  # of a body: itself, in base64, in the event, in the answer
_CHUNK_BYTES: Final = 65_536
_LINE_BYTES: Final = 8192


class TooLargeError(Exception):
    """The body is above what the endpoint takes."""


class TooSlowError(Exception):
    """The body was not there in time."""


class BadBodyError(Exception):
    """The body is not framed as HTTP says, or its sender went away."""


@dataclass(frozen=True, slots=True)
class Request:
    """`raw_path` and `raw_query` are as they were sent; `headers` too, in their order and with their capitals."""

    method: str
    raw_path: str
    raw_query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str
    host: str

    def header(self, name: str) -> str:
        """The last of that name, '' when there is none."""
        return next((value for key, value in reversed(self.headers) if key.lower() == name.lower()), "")


def of(environ: Environ, body: bytes) -> Request:
    raw_path, _, raw_query = target_of(environ).partition("?")
    return Request(
        method=environ["REQUEST_METHOD"],
        raw_path=raw_path,
        raw_query=raw_query,
        headers=headers_of(environ),
        body=body,
        source_ip=str(environ.get("REMOTE_ADDR", "127.0.0.1")),
        protocol=str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")),
        host=str(environ.get("HTTP_HOST", "")),
    )


def target_of(environ: Environ) -> str:
    """Path and query as sent, without the scheme and host that a proxy's client may write before them."""
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", "/"))
    if "://" in target.partition("?")[0]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target


def headers_of(environ: Environ) -> Sequence[tuple[str, str]]:
    """As they came; put together again where the server did not keep them."""
    kept = environ.get("scar.headers")
    if kept is not None:
        return tuple(kept)
    found = [
        (name.removeprefix("HTTP_").replace("_", "-").title(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return (*found, *(("Content-Type", str(environ[name])) for name in ("CONTENT_TYPE",) if environ.get(name)))


class Room:
    """How many bytes all requests may hold together. Who finds none waits for it, until its time is over."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._left, self._most = most, most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, size: int, patience_s: float) -> Iterator[None]:
        """Raises TooSlowError when there was no room in time."""
        wanted = min(size * _COPIES, self._most)
        with self._changed:
            if not self._changed.wait_for(lambda: self._left >= wanted, timeout=patience_s):
                raise TooSlowError
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


def length_of(environ: Environ, most: int) -> int:
    """How many bytes to make room for: as announced; as much as may come where nothing was. Raises TooLargeError."""
    if environ.get("wsgi.input_terminated"):
        return most
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > most:
        raise TooLargeError
    return length


def read_body(environ: Environ, most: int, *, seconds: float = BODY_S) -> bytes:
    """All of the body. Raises TooLargeError, TooSlowError or BadBodyError: the connection is of no further use after any of them."""
    source = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        chunks = _Paced(_wire(environ), environ.get("werkzeug.socket"), seconds)
        with chunks.timed():
            return _read(DechunkedInput(cast("IO[bytes]", chunks)).read, most)
    length = length_of(environ, most)
    if length == 0:
        return b""
    paced = _Paced(_wire(environ), environ.get("werkzeug.socket"), seconds)
    with paced.timed():
        body = paced.read(length)
    if hasattr(source, "left"):
        source.left -= len(body)
    if len(body) < length:
        raise BadBodyError
    return body


def _wire(environ: Environ) -> IO[bytes]:
    """The connection itself, below whatever cuts requests out of it."""
    source = environ["wsgi.input"]
    return cast("IO[bytes]", source._rfile if isinstance(source, DechunkedInput) else getattr(source, "source", source))


def _read(read: Callable[[int], bytes | None], most: int) -> bytes:
    """A chunked body, which says nothing of its length beforehand."""
    body = bytearray()
    try:
        while chunk := read(_CHUNK_BYTES):
            body += chunk
            if len(body) > most:
                raise TooLargeError
    except TooSlowError:
        raise
    except OSError as error:
        raise BadBodyError from error
    return bytes(body)


def discard(environ: Environ) -> None:
    """Read on for a moment what was refused: a socket that is closed with bytes unread takes the answer away from its reader."""
    paced = _Paced(_wire(environ), environ.get("werkzeug.socket"), LINGER_S)
    read = 0
    with contextlib.suppress(TooSlowError, OSError, ValueError), paced.timed():
        while read < LINGER_BYTES and (chunk := paced.some(_CHUNK_BYTES)):
            read += len(chunk)


class _Paced:
    """A socket's stream that gives up at a fixed moment, however slowly and steadily bytes drip in."""

    def __init__(self, wire: IO[bytes], connection: socket.socket | None, seconds: float) -> None:
        self._wire, self._connection = wire, connection
        self._until = time.monotonic() + seconds

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """The connection's own patience is given back afterwards."""
        before = self._connection.gettimeout() if self._connection is not None else None
        try:
            yield
        finally:
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.settimeout(before)

    def some(self, size: int) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TooSlowError
        if self._connection is not None:
            self._connection.settimeout(left)
        read = getattr(self._wire, "read1", self._wire.read)
        try:
            data: bytes = read(size)
        except TimeoutError as error:
            raise TooSlowError from error
        return data

    def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size and (chunk := self.some(min(_CHUNK_BYTES, size - len(data)))):
            data += chunk
        return bytes(data)

    def readline(self, size: int = _LINE_BYTES) -> bytes:
        line = bytearray()
        while len(line) < size and not line.endswith(b"\n") and (byte := self.some(1)):
            line += byte
        return bytes(line)
