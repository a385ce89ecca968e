"""One layer from where it is kept, as a stream: resumed where it broke, size and digest verified, never held.

What a Source promises:

1. `open` answers the layer's bytes from `start` on. What one of `broken` tells is worth asking again; StageInError is final.
2. A message names where the layer was looked for, and what is missing: never a credential.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self

from faassupervisor.contract import RootLayer
from faassupervisor.deadline import Deadline
from faassupervisor.errors import AgentError, ScriptTimedOutError, StageInError

_CHUNK_BYTES: Final = 128 * 1024  # what a broken connection can lose of what came
_CHUNKS_AHEAD: Final = 16
_PLAIN_BYTES: Final = 512 * 1024
_ATTEMPTS: Final = 5  # requests in a row that bring nothing
_PAUSE_S: Final = 0.2  # before asking again; doubled for each further one


class Body(Protocol):
    def read(self, amt: int, /) -> bytes: ...

    def close(self) -> object: ...


class Source(Protocol):
    broken: tuple[type[Exception], ...]

    def open(self, layer: RootLayer, start: int) -> Body: ...


class Arriving:
    """A layer on its way. A thread brings and verifies, so that the network's waiting and the unpacking's work go on side by side,
    and so that a server that falls silent cannot keep us beyond the deadline.
    """

    def __init__(self, source: Source, layer: RootLayer, deadline: Deadline) -> None:
        self._source, self._layer, self._deadline = source, layer, deadline
        self._ready: queue.Queue[bytes | AgentError] = queue.Queue(_CHUNKS_AHEAD)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._bring, name="layer", daemon=True)
        self._ended = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        with suppress(queue.Empty):
            while True:
                self._ready.get_nowait()

    def chunk(self) -> bytes:
        """The next bytes; none at the end, when all of them were what the layer's digest says."""
        if self._ended:
            return b""
        try:
            arrived = self._ready.get(timeout=self._deadline.for_process_s())
        except queue.Empty:
            raise ScriptTimedOutError("") from None
        if self._deadline.for_process_s() <= 0:
            raise ScriptTimedOutError("")
        if isinstance(arrived, AgentError):
            raise arrived
        self._ended = not arrived
        return arrived

    def _bring(self) -> None:
        end: bytes | AgentError = b""
        try:
            self._receive()
        except _LeftError:
            return
        except AgentError as error:
            end = error
        except Exception as error:  # noqa: BLE001  # a door: the thread's only way to tell
            end = AgentError(f"a layer of the image could not be fetched: {type(error).__name__}: {error}")
        with suppress(_LeftError):
            self._put(end)

    def _receive(self) -> None:
        layer, received, digest, fruitless, reason = self._layer, 0, hashlib.sha256(), 0, ""
        while received < layer.size:
            before = received
            try:
                body = self._source.open(layer, received)
                try:
                    while received < layer.size and (chunk := body.read(min(_CHUNK_BYTES, layer.size - received))):
                        digest.update(chunk)
                        received += len(chunk)
                        self._put(chunk)
                finally:
                    body.close()
                reason = "the connection ended"
            except self._source.broken as error:
                reason = str(error)
            if received == layer.size:
                break
            fruitless = 0 if received > before else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise StageInError(
                    f"layer {layer.digest} of the image did not arrive whole ({received} of {layer.size} bytes, "
                    f"{_ATTEMPTS} requests brought nothing more): {reason}"
                )
            if self._left.wait(_PAUSE_S * 2 ** max(fruitless - 1, 0)):
                raise _LeftError
        if f"sha256:{digest.hexdigest()}" != layer.digest:
            raise StageInError(
                f"layer {layer.digest} of the image arrived with another content: its digest is sha256:{digest.hexdigest()}"
            )

    def _put(self, arrived: bytes | AgentError) -> None:
        while not self._left.is_set():
            with suppress(queue.Full):
                self._ready.put(arrived, timeout=0.1)
                return
        raise _LeftError


class _LeftError(Exception):
    """Nobody waits for this layer any more."""


class Gunzip:
    """The plain bytes of gzip data that comes in chunks; several members follow one another. Memory: one chunk in, one out."""

    def __init__(self, chunk: Callable[[], bytes]) -> None:
        self._chunk = chunk
        self._packed = b""
        self._plain = memoryview(b"")
        self._member: zlib._Decompress | None = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises EOFError or zlib.error for what is cut short or damaged."""
        while not self._plain:
            if not self._packed:
                self._packed = self._chunk()
                if not self._packed:
                    if self._member is not None:
                        raise EOFError("the end of a gzip member is missing")
                    return b""
            if self._member is None:
                self._packed = self._packed.lstrip(b"\0")  # padding between members, as gzip(1) allows it
                if not self._packed:
                    continue
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._plain = memoryview(self._member.decompress(self._packed, _PLAIN_BYTES))
            if self._member.eof:
                self._packed, self._member = self._member.unused_data, None
            else:
                self._packed = self._member.unconsumed_tail
        taken, self._plain = bytes(self._plain[:size]), self._plain[size:]
        return taken
