"""A gang comes together, whoever comes when, and whoever else is at the door; or it fails in bounded time and says who is missing."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from faassupervisor.errors import GangError
from faassupervisor.nodes.board import Entry
from faassupervisor.nodes.channel import Message
from faassupervisor.nodes.handshake import PROOF_BYTES, Hello
from faassupervisor.nodes.keys import Secret
from tests.supervisor.channel_lab import LOST_S, Hall, MemoryBoard, Worker, answers, hall, node, soon

__all__ = ["hall"]


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
    before = {*threading.enumerate()}
    gathering = hall.gathering(node(0, 2))
    port = Entry.from_json(hall.board.entries[0]).port
    worker = hall.worker(1, 2)
    gathering.wait(10)
    worker.channel()
    soon(lambda: {thread.name for thread in {*threading.enumerate()} - before} == {"channel"})
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
