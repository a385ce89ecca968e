"""A gang comes together, whoever comes when, and whoever else is at the door; or it fails in bounded time and says who is missing."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from faassupervisor.errors import GangError
from faassupervisor.nodes.board import Entry
from faassupervisor.nodes.channel import Message
from faassupervisor.nodes.gathering import Gathering, Member
from faassupervisor.nodes.handshake import HELLO_BYTES, PROOF_BYTES, Hello
from faassupervisor.nodes.keys import Secret
from faassupervisor.nodes.node import Node
from tests.supervisor.channel_lab import (
    BEAT_S,
    LOST_S,
    ByHand,
    Lines,
    MemoryBoard,
    Worker,
    exactly,
    hung_up,
    node,
    soon,
)


class Hall:
    """Gatherings of one test; whatever is still open in the end is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.board, self.lines = stack, MemoryBoard(), Lines()

    def gathering(
        self, main: Node, board: MemoryBoard | None = None, *, handshake_s: float = 0.25, lost_s: float = 5
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


@pytest.mark.parametrize(("count", "main"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (8, 5)])
def test_a_gang_comes_together_in_any_order_with_its_main_node_last(hall: Hall, count: int, main: int) -> None:
    """MP1, MP13, MP14: the main node leads the list, then the nodes' order counts; the board is empty afterwards."""
    indexes = [index for index in range(count) if index != main]
    random.Random(count).shuffle(indexes)
    workers = {index: hall.worker(index, count, main=main, slots=index % 3) for index in indexes}
    time.sleep(0.03)
    members = hall.gathering(node(main, count, main=main, slots=7)).wait(10)
    assert [member.index for member in members] == [main, *sorted(indexes)]
    assert [member.address for member in members] == [f"127.0.1.{member.index + 1}" for member in members]
    assert [member.slots for member in members] == [7, *(index % 3 for index in sorted(indexes))]
    assert len({member.architecture for member in members}) == 1
    answers(members, workers)
    assert not hall.board.entries
    assert not hall.lines.reasons()


def test_a_gang_of_one_needs_neither_a_network_nor_a_board(hall: Hall) -> None:
    """MP13"""
    hall.board.trouble.append("nobody should ask")
    with hall.gathering(node(0, 1, address="203.0.113.1")) as gathering:
        (only,) = gathering.wait(0)
    assert (only.index, only.channel, only.address) == (0, None, "203.0.113.1")
    assert hall.board.trouble


def test_a_late_node_is_waited_for(hall: Hall) -> None:
    """MP2"""
    gathering = hall.gathering(node(0, 3))
    workers = {1: hall.worker(1, 3)}
    late = threading.Timer(0.3, lambda: workers.update({2: hall.worker(2, 3)}))
    late.start()
    assert len(gathering.wait(10)) == 3
    late.join()


def test_nodes_that_never_come_are_named_and_what_is_known_of_them(hall: Hall) -> None:
    """MP3: one never started, another one did and cannot get through; who came can be told so."""
    gathering = hall.gathering(node(0, 6))
    came = {index: hall.worker(index, 6) for index in (1, 3)}
    hall.by_hand(4, 6).on_the_board()
    for worker in came.values():
        worker.channel()
    started = time.monotonic()
    with pytest.raises(GangError) as failed:
        gathering.wait(0.3)
    assert 0.3 <= time.monotonic() - started < 1
    message = failed.value.message
    assert message.startswith(
        "nodes 2, 4 and 5 of 6 did not come within 0.3 s: node 4 started (127.0.1.5) but did not get"
    )
    assert message.endswith("; nodes 2 and 5 never reported")
    assert failed.value.kind == "GangFailed"
    for member in gathering.joined():
        assert member.channel is not None
        member.channel.send(Message("end"))
        assert came[member.index].channel().receive() == Message("end")
    assert [member.index for member in gathering.joined()] == [1, 3]
    assert not hall.board.entries


def test_a_long_list_of_missing_nodes_is_short(hall: Hall) -> None:
    """MP13: nobody asks the board for a thousand."""
    with pytest.raises(
        GangError,
        match=r"^nodes 1 to 999 of 1000 did not come within 0 s: nodes 1 to 16 never reported \(nor others\)$",
    ):
        hall.gathering(node(0, 1000)).wait(0)


def test_a_worker_that_dies_before_all_are_there_fails_the_gang_at_once(hall: Hall) -> None:
    """MP4: in the gathering."""
    gathering = hall.gathering(node(0, 3))
    connection, _ = hall.by_hand(2, 3).on_the_board().taken_in()
    threading.Timer(0.1, connection.close).start()
    started = time.monotonic()
    with pytest.raises(
        GangError, match=r"^node 2 of 3 \(127.0.1.3\) had joined and closed its connection before all nodes were there$"
    ):
        gathering.wait(30)
    assert time.monotonic() - started < 1


def test_a_worker_that_falls_silent_before_all_are_there_fails_the_gang_in_time(hall: Hall) -> None:
    """MP4, MP8: its connection is still there."""
    gathering = hall.gathering(node(0, 3), lost_s=LOST_S)
    connection, _ = hall.by_hand(1, 3).on_the_board().taken_in()
    with (
        closing(connection),
        pytest.raises(GangError, match=r"^node 1 of 3 \(127.0.1.2\) had joined and was silent for 0.25 s"),
    ):
        gathering.wait(30)


def test_a_worker_that_dies_before_it_is_taken_in_is_one_that_never_came(hall: Hall) -> None:
    """MP4: before the gathering."""
    gathering = hall.gathering(node(0, 2))
    hall.by_hand(1, 2).on_the_board().connect().close()
    with pytest.raises(GangError, match=r"^node 1 of 2 did not come within 0.2 s: node 1 started"):
        gathering.wait(0.2)


def test_workers_end_by_themselves_when_the_main_node_never_comes(hall: Hall) -> None:
    """MP5: and leave nothing on the board."""
    failed = hall.worker(1, 2, timeout_s=0.3).error()
    assert isinstance(failed, GangError)
    assert failed.message == (
        "node 1 of 2 found no main node (node 0, 127.0.1.1) within 0.3 s: it is not on the board"
    )  # fmt: skip
    assert not hall.board.entries


def test_workers_end_by_themselves_when_the_main_node_was_there_and_is_not(hall: Hall) -> None:
    """MP5"""
    with closing(socket.create_server(("127.0.1.1", 0))) as free:
        port = free.getsockname()[1]
    hall.board.post(0, Entry(Secret().public, "127.0.1.1", 1, "x86_64", port))
    failed = hall.worker(1, 2, timeout_s=0.2).error()
    assert re.search(rf"127\.0\.1\.1:{port} cannot be reached: connection refused", str(failed))


def impostor(*answers: bytes) -> tuple[int, threading.Thread]:
    """Listens where the main node should, and says the same to everybody."""
    listener = socket.create_server(("127.0.1.1", 0))

    def serve() -> None:
        with listener:
            listener.settimeout(2)
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(64)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], thread


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((b"HTTP/1.0 200 OK\r\n" * 9,), "it spoke another protocol"),
        ((b"scargang\x09" + bytes(40),), "it spoke version 9 of the protocol, not 1"),
        ((Hello.of(1).to_bytes(),), "it said that it is node 1"),
        ((Hello.of(0).to_bytes(), bytes(PROOF_BYTES)), "it does not know the key"),
        ((Hello.of(0).to_bytes(),), "hung up"),
        ((b"scar",), "hung up in the middle of a word"),
    ],
)
def test_a_worker_follows_nobody_who_is_not_the_main_node(hall: Hall, said: tuple[bytes, ...], reason: str) -> None:
    """MP10: it comes again until time is up."""
    port, listening = impostor(*said)
    hall.board.post(0, Entry(Secret().public, "127.0.1.1", 1, "x86_64", port))
    failed = hall.worker(1, 2, timeout_s=0.05).error()
    listening.join()
    assert isinstance(failed, GangError)
    assert any(reason in line["reason"] for line in hall.lines.facts("waiting for the main node"))


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
    gathering = hall.gathering(node(0, 3))
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
    gathering = hall.gathering(node(0, 3), handshake_s=5)
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


def test_two_gangs_on_one_machine_do_not_take_each_other_s_nodes(hall: Hall) -> None:
    """MP12: two jobs, one address; a worker that is led to the other one's port is not taken in."""
    other = MemoryBoard()
    gatherings = [
        hall.gathering(node(0, 2, address="127.0.1.1", job_id=job_id), board)
        for job_id, board in (("job-1", hall.board), ("job-2", other))
    ]
    mine, theirs = (Entry.from_json(board.entries[0]) for board in (hall.board, other))
    assert mine.port != theirs.port
    hall.board.post(0, Entry(mine.public, mine.address, 1, "x86_64", theirs.port))
    led_astray = hall.worker(1, 2, timeout_s=0.3).error()
    assert "hung up" in str(led_astray)
    assert not gatherings[1].joined()
    hall.board.post(0, mine)
    workers = [hall.worker(1, 2), Worker(node(1, 2, job_id="job-2"), other, hall.lines)]
    for gathering, worker in zip(gatherings, workers, strict=True):
        answers(gathering.wait(10), {1: worker})


def test_a_board_in_trouble_is_asked_again(hall: Hall) -> None:
    hall.board.trouble += ["503: Slow Down"] * 2
    gathering = hall.gathering(node(0, 2))
    hall.board.trouble += ["503: Slow Down", "500: Internal Error", "503: Slow Down"]
    workers = {1: hall.worker(1, 2)}
    answers(gathering.wait(10), workers)
    assert not hall.board.trouble


def test_an_address_that_is_not_the_machine_s_own_is_a_plain_error(hall: Hall) -> None:
    with pytest.raises(GangError, match=r"^the main node cannot listen at its own address 203\.0\.113\.1: "):
        hall.gathering(node(0, 2, address="203.0.113.1"))


def test_the_main_node_listens_at_its_own_address_only(hall: Hall) -> None:
    """MP10"""
    hall.gathering(node(0, 2))
    port = Entry.from_json(hall.board.entries[0]).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)


def test_nothing_listens_and_no_thread_is_left_when_the_gang_is_complete(hall: Hall) -> None:
    before = threading.active_count()
    gathering = hall.gathering(node(0, 2))
    port = Entry.from_json(hall.board.entries[0]).port
    worker = hall.worker(1, 2)
    gathering.wait(10)
    worker.channel()
    soon(lambda: threading.active_count() == before + 2)  # the two ends of the channel
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.1.1", port), 2)


def test_no_key_is_on_the_board_in_the_log_or_in_the_environment(hall: Hall) -> None:
    """MP11: nor what it is made of, in any spelling."""
    gathering = hall.gathering(node(0, 3))
    worker = hall.by_hand(1, 3).on_the_board()
    connection, agreement = worker.taken_in()
    shared = worker.secret.shared(worker.entry().public)
    seen = b"".join(hall.board.entries.values()) + Path("/proc/self/environ").read_bytes()
    connection.close()
    with pytest.raises(GangError) as failed:
        gathering.wait(5)
    seen += hall.lines.written + str(failed.value).encode() + repr((agreement, gathering.joined())).encode()
    keys = agreement.of_main
    for secret in (shared, keys.sending, keys.receiving, agreement.proof_of_main, agreement.proof_of_worker):
        for spelling in (
            secret,
            secret.hex().encode(),
            str(int.from_bytes(secret, "big")).encode(),
            repr(secret)[2:-1].encode(),
        ):
            assert spelling not in seen
