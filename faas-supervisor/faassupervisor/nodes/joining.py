"""How does a worker get into its gang? It posts itself on the board, finds the main node there, connects, and proves itself: until it is in."""

from __future__ import annotations

import hmac
import os
import random
import socket
import time
from contextlib import ExitStack, suppress
from typing import Final

from faassupervisor.errors import GangError
from faassupervisor.log import Log
from faassupervisor.nodes.board import Board, BoardError, Entry
from faassupervisor.nodes.channel import BEAT_S, LOST_S, Channel
from faassupervisor.nodes.handshake import HANDSHAKE_S, HELLO_BYTES, PROOF_BYTES, Hello
from faassupervisor.nodes.keys import Keys, Meeting, Secret, agree
from faassupervisor.nodes.node import Node

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_TAKEN_IN_S: Final = 30.0  # the main node reads the board before it answers a proof, and has others to answer


class _NotMet(Exception):  # noqa: N818
    """This time it did not work; the text says why."""


def join(
    node: Node, board: Board, log: Log, *, timeout_s: float, beat_s: float = BEAT_S, lost_s: float = LOST_S
) -> Channel:
    """A worker's side: find the main node, prove to be a node of its gang, and be taken in. Raises GangError when time is up."""
    secret = Secret()
    started = time.monotonic()
    connection, keys = _find(node, board, secret, log, timeout_s)
    log.info("joined the gang", node=node.index, seconds=round(time.monotonic() - started, 3))
    return Channel(connection, keys, beat_s=beat_s, lost_s=lost_s)


def _find(node: Node, board: Board, secret: Secret, log: Log, timeout_s: float) -> tuple[socket.socket, Keys]:
    end, pause_s, wrong = time.monotonic() + timeout_s, _FIRST_PAUSE_S, ""
    with ExitStack() as unless_found:
        posted = False
        while True:
            try:
                if not posted:
                    board.post(node.index, Entry(secret.public, node.address, node.gang.slots, os.uname().machine))
                    unless_found.callback(_withdraw, node, board)
                    posted = True
                main = board.read(node.main)
                if main is not None and main.port is not None:
                    found = _meet(node, secret, main, end)
                    unless_found.pop_all()
                    return found
                reason = "it is not on the board"
            except (BoardError, _NotMet) as error:
                reason = str(error)
            if reason != wrong:
                wrong = reason
                log.info("waiting for the main node", node=node.index, reason=wrong)
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise GangError(
                    f"node {node.index} of {node.count} found no main node (node {node.main}, {node.main_address})"
                    f" within {timeout_s:g} s: {wrong}"
                )
            time.sleep(min(left_s, pause_s * random.uniform(0.5, 1)))  # noqa: S311  # so that a thousand do not come at once
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)


def _withdraw(node: Node, board: Board) -> None:
    with suppress(BoardError):
        board.clear((node.index,))


def _meet(node: Node, secret: Secret, main: Entry, end: float) -> tuple[socket.socket, Keys]:
    # Batch's word for the main node's address is the one; the board's own is another chance where a machine has several.
    reasons: list[str] = []
    for address in dict.fromkeys((node.main_address or main.address, main.address)):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            return connection, _speak(connection, address, node, secret, main=main, end=end)
        except (_NotMet, OSError) as error:
            connection.close()
            reasons.append(
                f"{address}:{main.port} {error}" if isinstance(error, _NotMet) else _told(address, main, error)
            )
        except BaseException:
            connection.close()
            raise
    raise _NotMet("; ".join(reasons))


def _speak(connection: socket.socket, address: str, node: Node, secret: Secret, *, main: Entry, end: float) -> Keys:
    if node.address.startswith("127.") and address.startswith("127."):
        connection.bind((node.address, 0))  # else all nodes of this machine would come from one address
    connection.settimeout(_patience_s(end, HANDSHAKE_S))
    connection.connect((address, main.port))
    hello = Hello.of(node.index)
    connection.sendall(hello.to_bytes())
    try:
        answer = Hello.from_bytes(_exactly(connection, HELLO_BYTES, HANDSHAKE_S, end))
        if answer.index != node.main:
            raise ValueError(f"said that it is node {answer.index}")  # noqa: TRY301
        shared = secret.shared(main.public)
    except ValueError as error:
        raise _NotMet(f"is not the main node: it {error}") from error
    agreement = agree(
        shared,
        Meeting(
            node.job_id, node.attempt, node.main, node.index, main.public, secret.public, answer.nonce, hello.nonce
        ),
    )
    connection.sendall(agreement.proof_of_worker)
    proof = _exactly(connection, PROOF_BYTES, _TAKEN_IN_S, end)
    if not hmac.compare_digest(proof, agreement.proof_of_main):
        raise _NotMet("is not the main node: it does not know the key")
    return agreement.of_main.turned()


def _exactly(connection: socket.socket, size: int, patience_s: float, end: float) -> bytes:
    """Raises _NotMet when the other end hangs up, TimeoutError when it does not say so much in time."""
    until = time.monotonic() + _patience_s(end, patience_s)
    said = b""
    while len(said) < size:
        connection.settimeout(max(0.01, until - time.monotonic()))
        chunk = connection.recv(size - len(said))
        if not chunk:
            raise _NotMet("hung up" if not said else "hung up in the middle of a word")
        said += chunk
        if time.monotonic() > until:
            raise TimeoutError("timed out")
    return said


def _patience_s(end: float, most_s: float) -> float:
    """At least a second: who comes at the last moment is worth it."""
    return max(1.0, min(most_s, end - time.monotonic()))


def _told(address: str, main: Entry, error: OSError) -> str:
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return f"{address}:{main.port} hung up"
    return f"{address}:{main.port} cannot be reached: {(error.strerror or str(error)).lower()} (may the nodes' security group talk to itself?)"
