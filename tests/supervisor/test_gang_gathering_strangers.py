"""Whoever is at the main node's door: a stranger is refused and named, and the gang goes on."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from faassupervisor.nodes.board import Entry
from faassupervisor.nodes.channel import Message
from faassupervisor.nodes.gathering import Gathering, Member
from faassupervisor.nodes.handshake import HELLO_BYTES, PROOF_BYTES, Hello
from faassupervisor.nodes.keys import Secret
from tests.supervisor.channel_lab import ByHand, Hall, answers, exactly, hall, hung_up, node, soon

__all__ = ["hall"]


# Strangers at the door: each is given a gathering of nodes 0 to 2 (0 is the main node) whose true workers come afterwards.


def garbage(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(random.Random(1).randbytes(50_000))
    return connection


def http(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    return connection


def half_a_hello(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(Hello.of(1).to_bytes()[:30])
    return connection


def half_a_handshake(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(Hello.of(1).to_bytes())
    return connection


def another_key(stranger: ByHand) -> socket.socket:
    """MP9: a survivor of an earlier attempt, which even knows where to go; the board of this attempt has another worker's value."""
    stranger.board.post(1, Entry(Secret().public, "127.0.1.2", 1, "x86_64"))
    return stranger.proven()[0]


def another_attempt(stranger: ByHand) -> socket.socket:
    """MP9: with the right value, of the right worker, for another attempt."""
    survivor = ByHand(
        node(1, 3, attempt=2, address=stranger.node.address), stranger.board, stranger.secret
    ).on_the_board()
    return survivor.proven()[0]


def nobody_on_the_board(stranger: ByHand) -> socket.socket:
    return stranger.proven()[0]


def no_such_index(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(Hello.of(3).to_bytes())
    return connection


def the_main_node_s_own_index(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(Hello.of(0).to_bytes())
    return connection


def another_version(stranger: ByHand) -> socket.socket:
    connection = stranger.connect()
    connection.sendall(b"scargang\2" + bytes(34))
    return connection


STRANGERS: dict[Callable[[ByHand], socket.socket], str] = {
    garbage: "spoke another protocol",
    http: "spoke another protocol",
    half_a_hello: "proved nothing within 0.25 s",
    half_a_handshake: "proved nothing within 0.25 s",
    another_key: "said that it is node 1 and does not know the key",
    another_attempt: "said that it is node 1 and does not know the key",
    nobody_on_the_board: "said that it is node 1, which is not on the board",
    no_such_index: "said that it is node 3, which no worker is",
    the_main_node_s_own_index: "said that it is node 0, which no worker is",
    another_version: "spoke version 2 of the protocol, not 1",
}


@pytest.mark.parametrize("says", STRANGERS, ids=lambda says: says.__name__)
def test_a_stranger_is_refused_and_named_and_the_gang_goes_on(
    hall: Hall, says: Callable[[ByHand], socket.socket]
) -> None:
    """MP10, MP9"""
    slow = says in {half_a_hello, half_a_handshake}
    gathering = hall.gathering(node(0, 3), handshake_s=0.25 if slow else 5)
    with closing(says(hall.by_hand(1, 3, address="127.9.9.9"))) as connection:
        if says not in {half_a_handshake, another_key, another_attempt, nobody_on_the_board}:
            assert hung_up(connection)
        soon(hall.lines.reasons)
    (line,) = hall.lines.facts("a stranger was refused")
    assert (line["address"], line["reason"]) == ("127.9.9.9", STRANGERS[says])
    if says in {another_key, another_attempt}:
        return  # the index was used up on purpose: its entry is another one's
    workers = {index: hall.worker(index, 3) for index in (1, 2)}
    answers(gathering.wait(10), workers)


def test_a_whole_handshake_that_somebody_has_listened_to_cannot_be_said_again(hall: Hall) -> None:
    """MP9, MP10: the nonces are new."""
    gathering = hall.gathering(node(0, 3))
    worker, overheard = hall.by_hand(1, 3).on_the_board(), b""
    hello = Hello.of(1)
    with closing(worker.connect()) as connection:
        agreement = worker.agreement(hello, Hello.from_bytes(said(connection, hello.to_bytes(), HELLO_BYTES)))
        overheard = hello.to_bytes() + agreement.proof_of_worker
        # Not taken in yet: the index is still free, so nothing but the proof can refuse the replay.
        with closing(worker.connect()) as replay:
            replay.sendall(overheard)
            assert len(exactly(replay, HELLO_BYTES)) == HELLO_BYTES
            assert hung_up(replay)
        assert hall.lines.reasons() == ["said that it is node 1 and does not know the key"]
        assert said(connection, agreement.proof_of_worker, PROOF_BYTES) == agreement.proof_of_main
        assert [member.index for member in gathering.joined() or waited(gathering)] == [1]


def said(connection: socket.socket, words: bytes, answer_bytes: int) -> bytes:
    connection.sendall(words)
    return exactly(connection, answer_bytes)


def waited(gathering: Gathering) -> tuple[Member, ...]:
    soon(gathering.joined)
    return gathering.joined()


def test_a_second_worker_of_one_index_is_refused_and_the_first_one_stays(hall: Hall) -> None:
    gathering = hall.gathering(node(0, 3))
    first = hall.by_hand(1, 3).on_the_board()
    connection, _ = first.taken_in()
    waited(gathering)
    with closing(connection), closing(first.proven()[0]) as second:
        assert hung_up(second)
        assert hall.lines.reasons() == ["is a second node 1"]
        (member,) = gathering.joined()
        assert member.channel is not None
        member.channel.send(Message("still here"))
        assert connection.recv(64)


@pytest.mark.parametrize("address", ["127.9.9.9", "127.0.1.2"], ids=["another address", "a worker's address"])
def test_two_hundred_connections_at_once_keep_nobody_out(hall: Hall, address: str) -> None:
    """MP10: who says nothing is let go first, and the log says so in a few lines."""
    gathering = hall.gathering(node(0, 3))
    with ExitStack() as stack:
        stranger = hall.by_hand(1, 3, address=address)
        crowd = [stack.enter_context(closing(stranger.connect())) for _ in range(200)]
        started = time.monotonic()
        workers = {index: hall.worker(index, 3) for index in (1, 2)}
        answers(gathering.wait(10), workers)
        assert time.monotonic() - started < 2
        assert hung_up(crowd[0])
    refused = hall.lines.facts("a stranger was refused")
    assert [line["reason"] for line in refused] == ["was one of too many"]
    assert hall.lines.facts("more strangers were refused")[0]["others"] >= 180


def test_two_hundred_false_proofs_at_once_keep_nobody_out(hall: Hall) -> None:
    """MP10: each makes the main node look at the board, which takes its time."""
    hall.board.takes_s = 0.02
    gathering = hall.gathering(node(0, 3))
    stranger = hall.by_hand(1, 3, address="127.9.9.9")
    port = stranger.entry().port
    with ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(closing(socket.socket()))
            connection.bind((stranger.node.address, 0))
            connection.connect(("127.0.1.1", port))
            connection.sendall(Hello.of(1).to_bytes() + bytes(PROOF_BYTES))
        started = time.monotonic()
        workers = {index: hall.worker(index, 3) for index in (1, 2)}
        answers(gathering.wait(10), workers)
        assert time.monotonic() - started < 2
    assert set(hall.lines.reasons()) <= {"was one of too many", "said that it is node 1, which is not on the board",
                                         "said that it is node 1 and does not know the key"}  # fmt: skip


def test_many_different_strangers_make_a_few_lines_a_minute(hall: Hall) -> None:
    gathering = hall.gathering(node(0, 2))
    secret = Secret()
    for number in range(1, 40):
        stranger = ByHand(node(1, 2, address=f"127.9.9.{number}"), hall.board, secret)
        with closing(stranger.connect()) as connection:
            connection.sendall(b"hello?")
            assert hung_up(connection)
    gathering.close()
    assert len(hall.lines.facts("a stranger was refused")) == 5
    assert hall.lines.facts("more strangers were refused")[0]["others"] == 34
