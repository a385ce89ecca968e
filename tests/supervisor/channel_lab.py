"""Nodes within one process: a board in memory, pairs of channels, and a worker that says what the test wants."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from faassupervisor.contract import Gang
from faassupervisor.log import Log
from faassupervisor.nodes.board import BoardError, Entry
from faassupervisor.nodes.channel import Channel, Gone, Message
from faassupervisor.nodes.gathering import Gathering, Member, join
from faassupervisor.nodes.handshake import HELLO_BYTES, PROOF_BYTES, Hello
from faassupervisor.nodes.keys import Agreement, Keys, Meeting, Secret, agree
from faassupervisor.nodes.node import Node

BEAT_S, LOST_S = 0.05, 0.25
KEYS = Keys(b"k" * 32, b"q" * 32)


@dataclass
class MemoryBoard:
    """`trouble` is raised by the next calls, one after the other; each `takes_s`."""

    entries: dict[int, bytes] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    takes_s: float = 0

    def post(self, index: int, entry: Entry) -> None:
        self._troubled()
        self.entries[index] = entry.to_json()

    def read(self, index: int) -> Entry | None:
        self._troubled()
        text = self.entries.get(index)
        return None if text is None else Entry.from_json(text)

    def clear(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            self.entries.pop(index, None)

    def _troubled(self) -> None:
        time.sleep(self.takes_s)
        if self.trouble:
            raise BoardError(self.trouble.pop(0))


@dataclass
class Lines:
    """What was logged."""

    written: bytes = b""

    @property
    def log(self) -> Log:
        return Log(self._write)

    def _write(self, text: bytes) -> None:
        self.written += text

    def facts(self, fact: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self.written.splitlines())
        return [line for line in lines if line["fact"] == fact]

    def reasons(self) -> list[str]:
        return [line["reason"] for line in self.facts("a stranger was refused")]


def node(
    index: int,
    count: int,
    *,
    main: int = 0,
    attempt: int = 1,
    job_id: str = "job-1",
    address: str | None = None,
    slots: int = 1,
) -> Node:
    """Each has a loopback address of its own."""
    own = address or f"127.0.1.{index + 1}"
    main_address = None if index == main else f"127.0.1.{main + 1}"
    return Node(index, count, main, job_id, attempt, own, main_address, Gang(slots=slots))


@dataclass(eq=False)
class Worker(threading.Thread):
    """Joins in a thread of its own; `result` is the channel or what was raised."""

    node: Node
    board: MemoryBoard
    lines: Lines = field(default_factory=Lines)
    timeout_s: float = 10
    result: list[Channel | Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.start()

    def run(self) -> None:
        try:
            channel = join(self.node, self.board, self.lines.log, timeout_s=self.timeout_s, beat_s=BEAT_S, lost_s=5)
            self.result.append(channel)
        except Exception as error:
            self.result.append(error)

    def channel(self) -> Channel:
        self.join(10)
        assert isinstance(self.result[0], Channel), self.result
        return self.result[0]

    def error(self) -> Exception:
        self.join(10)
        assert isinstance(self.result[0], Exception), self.result
        return self.result[0]


@dataclass
class ByHand:
    """A worker whose every word is the test's. It has the secret of a node, which may be on the board or not."""

    node: Node
    board: MemoryBoard
    secret: Secret = field(default_factory=Secret)

    def on_the_board(self) -> ByHand:
        self.board.post(self.node.index, Entry(self.secret.public, self.node.address, 1, "x86_64"))
        return self

    def entry(self) -> Entry:
        entry = self.board.read(self.node.main)
        assert entry is not None
        return entry

    def connect(self) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(5)
        connection.bind((self.node.address, 0))
        connection.connect((self.entry().address, self.entry().port))
        return connection

    def agreement(self, hello: Hello, answer: Hello) -> Agreement:
        main = self.entry()
        return agree(
            self.secret.shared(main.public),
            Meeting(
                self.node.job_id, self.node.attempt, self.node.main, self.node.index,
                main.public, self.secret.public, answer.nonce, hello.nonce,
            ),
        )  # fmt: skip

    def proven(self) -> tuple[socket.socket, Agreement]:
        """A connection on which all was said that a worker has to say."""
        connection, hello = self.connect(), Hello.of(self.node.index)
        connection.sendall(hello.to_bytes())
        agreement = self.agreement(hello, Hello.from_bytes(exactly(connection, HELLO_BYTES)))
        connection.sendall(agreement.proof_of_worker)
        return connection, agreement

    def taken_in(self) -> tuple[socket.socket, Agreement]:
        connection, agreement = self.proven()
        assert exactly(connection, PROOF_BYTES) == agreement.proof_of_main
        return connection, agreement


def exactly(connection: socket.socket, size: int) -> bytes:
    said = b""
    while len(said) < size and (chunk := connection.recv(size - len(said))):
        said += chunk
    return said


def hung_up(connection: socket.socket) -> bool:
    """Whether the other end says nothing more, ever."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def pair(*, beat_s: float = BEAT_S, lost_s: float = LOST_S) -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return (
        Channel(one, KEYS, beat_s=beat_s, lost_s=lost_s),
        Channel(other, KEYS.turned(), beat_s=beat_s, lost_s=lost_s),
    )


def frame(counter: int, payload: bytes, key: bytes = KEYS.receiving) -> bytes:
    """As the holder of KEYS receives it."""
    number, length = counter.to_bytes(8, "big"), len(payload).to_bytes(4, "big")
    of_length = hmac.digest(key, number + length, "sha256")[:16]
    return length + of_length + payload + hmac.digest(key, number + payload, "sha256")


def payload(kind: str = "k", body: bytes = b"") -> bytes:
    head = json.dumps([kind, {}]).encode()
    return b"\1" + len(head).to_bytes(4, "big") + head + body


def everything(channel: Channel) -> tuple[list[Message], str]:
    """All that can be received, and how it ended."""
    messages = []
    while True:
        try:
            messages.append(channel.receive())
        except Gone as gone:
            return messages, str(gone)


def soon(check: Callable[[], object], timeout_s: float = 5) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end
        time.sleep(0.005)


class Hall:
    """Gatherings of one test; whatever is still open in the end is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.board, self.lines = stack, MemoryBoard(), Lines()

    def gathering(
        self, main: Node, board: MemoryBoard | None = None, *, handshake_s: float = 5, lost_s: float = 5
    ) -> Gathering:
        board = self.board if board is None else board
        made = Gathering(main, board, self.lines.log, beat_s=BEAT_S, lost_s=lost_s, handshake_s=handshake_s)
        self.stack.callback(self._end, made)
        return made

    def worker(self, index: int, count: int, *, timeout_s: float = 10, **more: object) -> Worker:
        return Worker(node(index, count, **more), self.board, self.lines, timeout_s)  # type: ignore[arg-type]

    def by_hand(self, index: int, count: int, **more: object) -> ByHand:
        return ByHand(node(index, count, **more), self.board)  # type: ignore[arg-type]

    @staticmethod
    def _end(made: Gathering) -> None:
        made.close()
        for member in made.joined():
            assert member.channel is not None
            member.channel.close()


@pytest.fixture
def hall() -> Iterator[Hall]:
    with ExitStack() as stack:
        yield Hall(stack)


def answers(members: tuple[Member, ...], workers: dict[int, Worker]) -> None:
    """Every member's channel leads to the worker of its index, and back."""
    for member in members:
        if member.channel is not None:
            member.channel.send(Message("who"))
    for index, worker in workers.items():
        assert worker.channel().receive() == Message("who")
        worker.channel().send(Message("I", {"index": index}))
    said = {member.index: member.channel.receive().head for member in members if member.channel is not None}
    assert said == {index: {"index": index} for index in workers}
