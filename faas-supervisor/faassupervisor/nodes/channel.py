"""How does one node speak to another, so that nobody else can put in a word and neither waits for ever for one that is gone?

On the wire a frame is

    length of the payload (4 bytes)   MAC of counter and length (16)   payload   MAC of counter and payload (32)

with a key for each direction and the counter of frames in it, which is not sent: what is changed, left out, repeated or exchanged fits no
MAC, and ends the channel before anybody looks at it. Frames are not encrypted. A payload is a message, or a heartbeat that also says how
much the sender has taken so far. No more than WINDOW_BYTES are under way untaken, so an end can always read on: signs of life never stand
behind what nobody takes, and a network that is full is never mistaken for a node that is gone.
"""

from __future__ import annotations

import errno
import hmac
import json
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, overload

from faassupervisor.nodes.keys import Keys

HEAD_BYTES: Final = 64 * 1024  # of `head` as JSON, with the kind
BODY_BYTES: Final = 64 * 1024
WINDOW_BYTES: Final = 512 * 1024
BEAT_S: Final = 2.0
LOST_S: Final = 20.0
LINGER_S: Final = 1.0  # how long `close` lets the other end take what was sent; it takes a millisecond if it lives

_LENGTH: Final = struct.Struct(">I")
_COUNTER: Final = struct.Struct(">Q")
_LENGTH_MAC_BYTES: Final = 16
_MAC_BYTES: Final = 32
_HEADER_BYTES: Final = _LENGTH.size + _LENGTH_MAC_BYTES
_BEAT: Final = 0
_MESSAGE: Final = 1
_PAYLOAD_BYTES: Final = 1 + _LENGTH.size + HEAD_BYTES + BODY_BYTES
_PER_MESSAGE_BYTES: Final = 512  # what a message costs its receiver beside its length
_READ_BYTES: Final = 64 * 1024
_CLOSED_HERE: Final = "was closed at this end"
_NO_MESSAGE: Final = "sent a message that is none"
_FALSE: Final = "sent what nobody who knows the key sends"


@dataclass(frozen=True, slots=True)
class Message:
    """`head` is what JSON can say, at most HEAD_BYTES of it; `body` at most BODY_BYTES."""

    kind: str
    head: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


class Gone(Exception):  # noqa: N818
    """The other end is not there any more; the text says how that was noticed, as in "node 3 …": "closed its connection"."""


class Channel:
    """1. `send` may be called from any thread. A message arrives whole, once and in order. It blocks while the other end does not take
          what was sent before, and raises Gone when there is nobody to take it; a message that is too long is a ValueError.
    2. `receive` answers the next message, to one reader at a time; never a heartbeat. What came before the end is answered first; then
          Gone is raised, again and again. With `timeout_s` None is the answer when nothing came so long.
    3. `close` may be called again. It wakes both of the above. What was sent before is still delivered, if the other end takes it
          within `linger_s`.
    4. Heartbeats are the channel's own, every `beat_s`. After `lost_s` without a sign of life it is Gone, whatever anybody waits for.

    It takes the connection over, and one thread of its own reads it.
    """

    def __init__(
        self, connection: socket.socket, keys: Keys, *, beat_s: float = BEAT_S, lost_s: float = LOST_S
    ) -> None:
        self._connection, self._keys, self._beat_s, self._lost_s = connection, keys, beat_s, lost_s
        connection.setblocking(False)
        _tune(connection, lost_s)
        self._state = threading.Condition()  # of everything in the next block
        self._gone: str | None = None
        self._closed = False
        self._messages: deque[tuple[Message, int]] = deque()
        self._untaken = 0  # by us, of what came
        self._taken = 0  # by us, from the beginning
        self._sent = 0  # to the other end …
        self._sent_taken = 0  # … and taken by it
        self._turn = threading.Lock()  # among senders; the one whose turn it is may wait for room
        self._writing = threading.Lock()  # of one frame, and of the next block
        self._frames_sent = 0
        self._told = 0  # what the other end knows of `_taken`
        self._input = bytearray()
        self._frames_read = 0
        self._within_frame = False
        self._heard = self._beaten = time.monotonic()
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._reader = threading.Thread(target=self._read, name="channel", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> str | None:
        """How the end was noticed, None while the channel lives. Messages may be left to receive."""
        return self._gone

    def send(self, message: Message) -> None:
        payload = _encoded(message)
        cost = len(payload) + _PER_MESSAGE_BYTES
        with self._turn:
            with self._state:
                self._state.wait_for(lambda: self._gone or self._sent + cost - self._sent_taken <= WINDOW_BYTES)
                if self._gone:
                    raise Gone(self._gone)
                self._sent += cost
            with self._writing:
                self._write(payload)

    @overload
    def receive(self) -> Message: ...
    @overload
    def receive(self, timeout_s: float | None) -> Message | None: ...
    def receive(self, timeout_s: float | None = None) -> Message | None:
        with self._state:
            self._state.wait_for(lambda: self._messages or self._gone, timeout_s)
            if self._closed:
                raise Gone(_CLOSED_HERE)
            if self._gone and not self._messages:
                raise Gone(self._gone)
            if not self._messages:
                return None
            message, cost = self._messages.popleft()
            self._untaken -= cost
            self._taken += cost
            due = self._taken - self._told > WINDOW_BYTES // 4
        if due:
            with suppress(Gone), self._writing:
                self._write(self._beat())
        return message

    def close(self, linger_s: float = LINGER_S) -> None:
        with self._state:
            first, self._closed = not self._closed, True
            self._state.notify_all()
        if first and self._gone is None:
            # To close with unread input would make the kernel drop what is still on its way: stop writing, and let the other end finish.
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
            self._reader.join(linger_s)
        self._end(_CLOSED_HERE)
        self._reader.join(LINGER_S)

    # What follows is the reading thread's; it alone closes the connection.

    def _read(self) -> None:
        try:
            while True:
                self._take(self._frame())
        except Gone as gone:
            self._end(str(gone))
        finally:
            self._end("could not be read any more")
            with self._writing:
                self._connection.close()

    def _frame(self) -> bytes:
        counter = _COUNTER.pack(self._frames_read)
        header = self._bytes(_HEADER_BYTES)
        length, mac = header[: _LENGTH.size], header[_LENGTH.size :]
        if not hmac.compare_digest(_mac(self._keys.receiving, counter, length)[:_LENGTH_MAC_BYTES], mac):
            raise Gone(_FALSE)
        (size,) = _LENGTH.unpack(length)
        if not 0 < size <= _PAYLOAD_BYTES:
            raise Gone(_FALSE)
        self._within_frame = True
        frame = self._bytes(size + _MAC_BYTES)
        self._within_frame = False
        payload = frame[:size]
        if not hmac.compare_digest(_mac(self._keys.receiving, counter, payload), frame[size:]):
            raise Gone(_FALSE)
        self._frames_read += 1
        self._heard = time.monotonic()
        return payload

    def _bytes(self, size: int) -> bytes:
        while len(self._input) < size:
            self._input += self._more()
        taken = bytes(self._input[:size])
        del self._input[:size]
        return taken

    def _more(self) -> bytes:
        """Whatever comes next; heartbeats go out meanwhile."""
        while True:
            now = time.monotonic()
            if now - self._beaten >= self._beat_s:
                self._beaten = now
                self._beat_if_free()
            silent = now - self._heard > self._lost_s
            wait_s = 0.0 if silent else min(self._beaten + self._beat_s, self._heard + self._lost_s) - now
            if not self._readable.poll(
                wait_s * 1000 + 1
            ):  # what has come in the meantime counts first: we may have been stopped ourselves
                if silent:
                    raise Gone(f"silent for {self._lost_s:g} s")
                continue
            try:
                chunk = self._connection.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(self._told_by(error)) from error
            if not chunk:
                raise Gone(
                    "closed its connection"
                    + (" in the middle of a message" if self._input or self._within_frame else "")
                )
            return chunk

    def _take(self, payload: bytes) -> None:
        if payload[0] == _BEAT and len(payload) == 1 + _COUNTER.size:
            (taken,) = _COUNTER.unpack_from(payload, 1)
            with self._state:
                if not self._sent_taken <= taken <= self._sent:
                    raise Gone(_FALSE)
                self._sent_taken = taken
                self._state.notify_all()
            return
        message, cost = _decoded(payload), len(payload) + _PER_MESSAGE_BYTES
        with self._state:
            self._untaken += cost
            if self._untaken > WINDOW_BYTES:
                raise Gone("sent more than it was allowed to")
            if not self._closed:
                self._messages.append((message, cost))
                self._state.notify_all()

    def _beat_if_free(self) -> None:
        """Never waits: a frame that is being written is a sign of life too, and a thread that waits to write does not read."""
        if self._closed or not self._writing.acquire(blocking=False):
            return
        try:
            if _writable(self._connection, 0):
                self._write(self._beat())
        finally:
            self._writing.release()

    # What follows is for whoever holds `_writing`.

    def _beat(self) -> bytes:
        self._told = self._taken
        return bytes([_BEAT]) + _COUNTER.pack(self._told)

    def _write(self, payload: bytes) -> None:
        counter, length = _COUNTER.pack(self._frames_sent), _LENGTH.pack(len(payload))
        of_length = _mac(self._keys.sending, counter, length)[:_LENGTH_MAC_BYTES]
        self._frames_sent += 1
        try:
            self._write_all((length, of_length, payload, _mac(self._keys.sending, counter, payload)))
        except OSError as error:
            self._gone_by(self._told_by(error))
        except BaseException:  # a signal's: the rest of this frame will never be sent, so nothing can be
            self._end("was left in the middle of a message")
            raise

    def _write_all(self, parts: Iterable[bytes]) -> None:
        rest = memoryview(b"".join(parts))
        moved = time.monotonic()
        while rest:
            if self._gone or self._closed:
                self._gone_by(_CLOSED_HERE)
            try:
                rest = rest[self._connection.send(rest, socket.MSG_NOSIGNAL) :]
                moved = time.monotonic()
            except BlockingIOError:
                _writable(self._connection, self._beat_s)
                if time.monotonic() - moved > self._lost_s:
                    self._gone_by(f"took nothing for {self._lost_s:g} s")

    def _told_by(self, error: OSError) -> str:
        if error.errno == errno.ETIMEDOUT:  # the kernel's clock was faster: TCP_USER_TIMEOUT
            return f"silent for {self._lost_s:g} s"
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            return "closed its connection"
        return f"cannot be reached any more ({error.strerror or error})"

    def _gone_by(self, how: str) -> NoReturn:
        self._end(how)
        raise Gone(self._gone)

    def _end(self, how: str) -> None:
        """The first one to notice says how."""
        with self._state:
            if self._gone is None:
                self._gone = _CLOSED_HERE if self._closed else how
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
            self._state.notify_all()


def _mac(key: bytes, counter: bytes, content: bytes) -> bytes:
    return hmac.digest(key, counter + content, "sha256")


def _encoded(message: Message) -> bytes:
    head = json.dumps([message.kind, dict(message.head)], separators=(",", ":")).encode()
    if len(head) > HEAD_BYTES or len(message.body) > BODY_BYTES:
        raise ValueError(
            f"a message's head has {len(head)} bytes (at most {HEAD_BYTES}), its body {len(message.body)} (at most {BODY_BYTES})"
        )
    return b"".join((bytes([_MESSAGE]), _LENGTH.pack(len(head)), head, message.body))


def _decoded(payload: bytes) -> Message:
    try:
        (size,) = _LENGTH.unpack_from(payload, 1)
        start = 1 + _LENGTH.size
        kind, head = json.loads(payload[start : start + size])
    except (ValueError, TypeError, struct.error, RecursionError) as error:
        raise Gone(_NO_MESSAGE) from error
    if payload[0] != _MESSAGE or not isinstance(kind, str) or not isinstance(head, dict):
        raise Gone(_NO_MESSAGE)
    return Message(kind, head, payload[start + size :])


def _writable(connection: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(timeout_s * 1000))


def _tune(connection: socket.socket, lost_s: float) -> None:
    """The kernel gives up when we do: what it sent is not confirmed, or it has nothing to send and its question is not answered."""
    if connection.family != socket.AF_INET:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(lost_s * 1000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    every_s = max(1, int(lost_s / 4))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
