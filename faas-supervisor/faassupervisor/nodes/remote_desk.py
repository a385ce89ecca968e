"""Where `rsh` asks on the main node: a socket in the workspace. A call is answered by the worker that it names, through the gang's channels.

What comes from a caller is passed on at once, and what comes from a worker is never more than the caller has granted; so neither a slow
caller nor a slow node holds up another's call.
"""

from __future__ import annotations

import itertools
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from faassupervisor.log import Log
from faassupervisor.nodes import rsh
from faassupervisor.nodes.channel import Gone, Message

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: process, user, group (unix(7))
_ADDRESS_BYTES: Final = 107
_PASSED_ON: Final = {rsh.INPUT: "in", rsh.EOF: "eof", rsh.SIGNAL: "signal", rsh.GRANT: "grant"}

Send = Callable[[Message], None]


class Desk:
    """`workers` send to each node that has a channel; `names` says which node a host name means; `own` is the node we are on.

    From the construction until `close` it takes calls from `users`. `hand` and `lost` bring what a worker answers, from any thread.
    """

    def __init__(
        self,
        path: Path,
        workers: Mapping[int, Send],
        names: Mapping[str, int],
        own: int,
        log: Log,
        *,
        users: frozenset[int],
    ) -> None:
        self._workers, self._names, self._own, self._log, self._users = workers, names, own, log, users
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._listener = _listener(path)
        threading.Thread(target=self._accept, name="remote shells", daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            call.refuse("the run is over")

    def hand(self, message: Message) -> None:
        """What a worker says of a call. A call that is over is nobody's any more."""
        call = self._call(message)
        if call is None:
            return
        match message.kind:
            case "out":
                call.put(rsh.OUTPUT, message.body)
            case "err":
                call.put(rsh.ERROR, message.body)
            case "grant":
                call.put(rsh.GRANT, rsh.NUMBER.pack(int(message.head["number"])))
            case _:
                call.end(int(message.head["number"]))

    def lost(self, index: int) -> None:
        with self._lock:
            calls = [call for call in self._calls.values() if call.index == index]
        for call in calls:
            call.refuse(f"node {index} is gone")

    def _call(self, message: Message) -> _Call | None:
        with self._lock:
            return self._calls.get(int(message.head["call"]))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="remote shell", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            process, user, _ = _CREDENTIALS.unpack(peer)
            if user not in self._users:
                self._log.warning("refused a remote command: not the script's user", user=user, process=process)
                return
            try:
                frames = _frames(connection)
                kind, body = next(frames, (b"", b""))
                if kind != rsh.CALL:
                    return
                host, _, command = body.partition(b"\0")
                index = self._index(host.decode(errors="replace"))
                if index == self._own:
                    connection.sendall(_frame(rsh.HERE))
                elif index is None:
                    reason = (
                        f"no node of this job is called {host.decode(errors='replace')!a}; SCAR_HOSTFILE lists them"
                    )
                    connection.sendall(_frame(rsh.UNKNOWN, reason.encode()))
                else:
                    self._connect(index, command, connection, frames)
            except (OSError, ValueError) as error:
                self._log.warning("a remote command was given up", message=str(error))
                with suppress(OSError):
                    connection.sendall(_frame(rsh.REFUSED, str(error).encode()))

    def _connect(
        self, index: int, command: bytes, connection: socket.socket, frames: Iterator[tuple[bytes, bytes]]
    ) -> None:
        number = next(self._numbers)
        send = self._workers[index]
        call = _Call(index, connection)
        with self._lock:
            self._calls[number] = call
        try:
            send(Message("open", {"call": number}, command))
            call.put(rsh.GRANT, rsh.NUMBER.pack(0))  # from here on it is not for this node, and its input is wanted
            self._log.debug("remote command", node=index, call=number, bytes=len(command))
            for kind, body in frames:
                if kind in {rsh.SIGNAL, rsh.GRANT}:
                    (value,) = rsh.NUMBER.unpack(body)
                    send(Message(_PASSED_ON[kind], {"call": number, "number": value}))
                else:
                    send(Message(_PASSED_ON[kind], {"call": number}, body))
        except Gone as error:
            call.refuse(f"node {index} is gone: it {error}")
        finally:
            if (
                not call.over
            ):  # the caller left, in peace or not: one that is killed with answers unread resets its connection
                with suppress(Gone):
                    send(Message("hangup", {"call": number}))
            with self._lock:
                del self._calls[number]
            call.finish()

    def _index(self, host: str) -> int | None:
        if host in self._names:
            return self._names[host]
        with suppress(OSError, UnicodeError):  # a name of a resolver's
            return self._names.get(socket.gethostbyname(host))
        return None


class _Call:
    """One caller. Frames for it wait in a queue, so that whoever has something for it never waits."""

    def __init__(self, index: int, connection: socket.socket) -> None:
        self.index = index
        self.over = False
        self._connection = connection
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="remote shell's answers", daemon=True)
        self._writer.start()

    def put(self, kind: bytes, body: bytes) -> None:
        self._frames.put(_frame(kind, body))

    def end(self, code: int) -> None:
        if not self.over:
            self.over = True
            self.put(rsh.EXIT, rsh.NUMBER.pack(code))
            self._frames.put(None)

    def refuse(self, reason: str) -> None:
        if not self.over:
            self.over = True
            self.put(rsh.REFUSED, reason.encode())
            self._frames.put(None)

    def finish(self) -> None:
        self._frames.put(None)
        self._writer.join()

    def _write(self) -> None:
        with suppress(OSError):  # the caller is gone
            while (frame := self._frames.get()) is not None:
                self._connection.sendall(frame)
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)  # the caller may still be granting what it has just read


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        fits = len(os.fsencode(path)) <= _ADDRESS_BYTES
        listener.bind(str(path) if fits else f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(512)  # every node of a large gang is called at once
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def _frame(kind: bytes, body: bytes = b"") -> bytes:
    return rsh.HEADER.pack(kind, len(body)) + body


def _frames(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Until the caller closes. Raises ValueError for what rsh would not send."""
    with connection.makefile("rb") as reader:
        while header := reader.read(rsh.HEADER.size):
            if len(header) < rsh.HEADER.size:
                return
            kind, size = rsh.HEADER.unpack(header)
            if size > (rsh.CALL_BYTES if kind == rsh.CALL else rsh.CHUNK_BYTES) or kind not in {rsh.CALL, *_PASSED_ON}:
                raise ValueError("a malformed call")
            yield kind, reader.read(size)
