"""Who is at the main node's port? One thread listens to all who have proven nothing yet, and never waits for one of them.

Whoever reaches the port may say anything, at any speed, on any number of connections. So who is slow is hung up on, and only so many are
kept: of one address, and in all. Who must make room is the oldest that has said nothing; a node says its hello at once.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from faassupervisor.errors import GangError
from faassupervisor.nodes.handshake import HELLO_BYTES, PROOF_BYTES, Hello, Unfinished
from faassupervisor.nodes.node import Node
from faassupervisor.nodes.strangers import Strangers

_KEPT: Final = 256
_KEPT_OF_ONE: Final = 16
_BACKLOG: Final = 1024
_NO_ROOM_S: Final = 0.1


@dataclass(slots=True, eq=False)
class Caller:
    """A connection that has proven nothing. When it comes to `proves` of Door it has said a whole `hello`, and what may be a `proof`."""

    connection: socket.socket
    address: str
    deadline: float
    answer: Hello
    said: bytearray = field(default_factory=bytearray)
    hello: Hello | None = None

    @property
    def proof(self) -> bytes:
        return bytes(self.said[HELLO_BYTES:])


class Door:
    """Listens at the node's own address, at `port`, which the kernel has chosen, until `close`.

    `proves` gets each caller that has said all it has to, connection and all; it must not wait. `breaks` hears what ends this thread early.
    Raises GangError when nobody can listen there.
    """

    def __init__(
        self,
        node: Node,
        strangers: Strangers,
        *,
        handshake_s: float,
        proves: Callable[[Caller], None],
        breaks: Callable[[BaseException], None],
    ) -> None:
        self._node, self._strangers, self._handshake_s = node, strangers, handshake_s
        self._proves, self._breaks = proves, breaks
        self._callers: dict[Caller, None] = {}  # oldest first
        self._closed = False
        self._listener = _listening(node.address)
        self.port: int = self._listener.getsockname()[1]
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ears = selectors.DefaultSelector()
        self._ears.register(self._wake, selectors.EVENT_READ)
        self._ears.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._listen, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _listen(self) -> None:
        try:
            with self._ears, self._listener:
                while not self._closed:
                    for key, _ in self._ears.select(self._until_next_deadline()):
                        if isinstance(key.data, Caller):
                            if key.data in self._callers:
                                self._hear(key.data)
                        elif key.fileobj is self._listener:
                            self._accept()
                    self._hang_up_on_the_slow()
                for caller in list(self._callers):
                    self._let_go(caller)
                    caller.connection.close()
        except BaseException as error:
            self._breaks(error)
            raise

    def _until_next_deadline(self) -> float | None:
        return max(0.0, min(caller.deadline for caller in self._callers) - time.monotonic()) if self._callers else None

    def _accept(self) -> None:
        try:
            connection, (address, _) = self._listener.accept()
        except OSError:  # the caller is gone again, or there is no room for one more file
            if oldest := next(iter(self._callers), None):
                self._refuse(oldest, "was one of too many")
            else:
                time.sleep(_NO_ROOM_S)
            return
        connection.setblocking(False)
        of_one = [caller for caller in self._callers if caller.address == address]
        if len(of_one) >= _KEPT_OF_ONE:
            self._make_room(of_one)
        elif len(self._callers) >= _KEPT:
            self._make_room(list(self._callers))
        caller = Caller(connection, address, time.monotonic() + self._handshake_s, Hello.of(self._node.index))
        self._callers[caller] = None
        self._ears.register(connection, selectors.EVENT_READ, caller)

    def _make_room(self, among: list[Caller]) -> None:
        silent = (caller for caller in among if caller.hello is None)
        self._refuse(next(silent, among[0]), "was one of too many")

    def _hear(self, caller: Caller) -> None:
        wanted = HELLO_BYTES + (PROOF_BYTES if caller.hello else 0) - len(caller.said)
        try:
            chunk = caller.connection.recv(wanted)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        caller.said += chunk
        if not chunk:
            self._refuse(caller, "hung up before it had proven anything")
        elif caller.hello is None:
            self._greet(caller)
        elif len(chunk) == wanted:
            self._let_go(caller)
            self._proves(caller)

    def _greet(self, caller: Caller) -> None:
        try:
            hello = Hello.from_bytes(bytes(caller.said))
        except Unfinished:
            return
        except ValueError as error:
            self._refuse(caller, str(error))
            return
        if hello.index >= self._node.count or hello.index == self._node.index:
            self._refuse(caller, f"said that it is node {hello.index}, which no worker is")
            return
        caller.hello = hello
        try:
            caller.connection.send(caller.answer.to_bytes(), socket.MSG_NOSIGNAL)  # a fresh connection has room for it
        except OSError:
            self._refuse(caller, "hung up before it had proven anything")

    def _hang_up_on_the_slow(self) -> None:
        now = time.monotonic()
        for caller in [caller for caller in self._callers if caller.deadline <= now]:
            self._refuse(caller, f"proved nothing within {self._handshake_s:g} s")

    def _refuse(self, caller: Caller, reason: str) -> None:
        self._let_go(caller)
        caller.connection.close()
        self._strangers.refused(caller.address, reason)

    def _let_go(self, caller: Caller) -> None:
        del self._callers[caller]
        self._ears.unregister(caller.connection)


def _listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((address, 0))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise GangError(f"the main node cannot listen at its own address {address}: {error}") from error
    return listener
