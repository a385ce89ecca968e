"""HTTP as it should not be sent: slow, cut, contradictory. Nothing hangs, nothing is run twice or half, and one request never becomes two."""

from __future__ import annotations

import socket
import time

import pytest
from http_gate import Gate, parsed, read_all


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def test_a_body_that_drips_is_answered_408(gate: Gate) -> None:
    """AP8: however steadily; the bound is 0.5 s here."""
    path = gate.rest_api()
    for lines, drip in ((("Content-Length: 1000",), b"x"), (("Transfer-Encoding: chunked",), b"1\r\nx\r\n")):
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
            connection.sendall(head(path, *lines))
            began = time.monotonic()
            connection.settimeout(0.05)
            answer = b""
            while time.monotonic() - began < 5 and not answer:
                try:
                    connection.sendall(drip)
                    answer = connection.recv(1 << 16)
                except TimeoutError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    break
        assert parsed(answer).status == 408
    assert gate.answers.events == []


def test_a_body_that_never_comes_is_answered_408(gate: Gate) -> None:
    assert parsed(gate.raw(head(gate.rest_api(), "Content-Length: 10"))).status == 408


def test_a_sender_that_closes_in_the_middle_runs_nothing_and_one_that_half_closes_after_is_answered(gate: Gate) -> None:
    """AP8."""
    path = gate.rest_api()
    assert b" 400 " in gate.raw(head(path, "Content-Length: 10") + b"12345", half_closed=True)
    assert gate.answers.events == []
    whole = head(path, "Content-Length: 5", "Connection: close") + b"12345"
    assert parsed(gate.raw(whole, half_closed=True)).body == b"12345"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 50"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity", "Content-Length: 5"),
        ("Transfer-Encoding: gzip",),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Content-Length: 5, 50",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5 5",),
    ],
    ids=str,
)
def test_a_request_that_two_readers_could_cut_differently_is_refused_and_the_connection_ends(
    gate: Gate, lines: tuple[str, ...]
) -> None:
    """AP8, request smuggling: what follows is never taken for a request."""
    path = gate.rest_api()
    answer = gate.raw(
        head(path, *lines) + b"0\r\n\r\n" + head(path, "Content-Length: 0", method="GET"), half_closed=True
    )
    assert parsed(answer).status == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert gate.answers.events == []


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n", b"5\r\nab", b"1\r\nxy0\r\n\r\n"], ids=str
)
def test_chunks_that_are_none_are_refused(gate: Gate, chunks: bytes) -> None:
    assert (
        parsed(gate.raw(head(gate.rest_api(), "Transfer-Encoding: chunked") + chunks, half_closed=True)).status == 400
    )
    assert gate.answers.events == []


def test_chunks_are_put_together(gate: Gate) -> None:
    sent = head(gate.rest_api(), "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"
    got = parsed(gate.raw(sent, half_closed=True))
    assert (got.status, got.body) in [(200, b"abcde"), (400, got.body)]


def test_chunks_without_end_are_refused_at_the_limit(gate: Gate) -> None:
    """AP8: memory is bounded, whatever is announced."""
    path = gate.url()
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
        connection.sendall(head(path, "Transfer-Encoding: chunked"))
        sent = 0
        try:
            while sent < 64 << 20:
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = read_all(connection)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or parsed(answer).status == 413
    assert sent < 64 << 20
    assert gate.answers.events == []


def test_requests_on_one_connection_stay_apart(gate: Gate) -> None:
    path = gate.rest_api()
    first, second = head(path, "Content-Length: 3"), head(path, "Content-Length: 2", "Connection: close")
    answer = gate.raw(first + b"one" + second + b"22")
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"one" in answer
    assert answer.endswith(b"22")
