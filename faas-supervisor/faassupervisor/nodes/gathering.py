"""How does a gang come together? (Interface first: the rest follows.)"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from faassupervisor.log import Log
from faassupervisor.nodes.board import Board
from faassupervisor.nodes.channel import BEAT_S, LOST_S, Channel
from faassupervisor.nodes.node import Node


@dataclass(frozen=True, slots=True)
class Member:
    """One node as the main node knows it. `channel` is None for the main node itself."""

    index: int
    address: str
    slots: int
    architecture: str
    channel: Channel | None


class Gathering:
    """The main node's side, from its construction on: it listens at `node.address`, posts itself on the board, takes workers in.

    1. `wait` answers all members, the main node first, then by index; they and their channels are the caller's. The board is cleared then,
       and nothing listens any more.
    2. It raises GangError when time is up, naming the nodes that are missing, and at once when a worker that had joined is gone again.
    3. `joined` are those that have come so far (without the main node), for a last word to them after 2; close their channels.
    4. `close` may be called again, and ends what 1 has not. It does not close the channels of members.
    """

    def __init__(self, node: Node, board: Board, log: Log, *, beat_s: float = BEAT_S, lost_s: float = LOST_S) -> None:
        raise NotImplementedError

    def wait(self, timeout_s: float) -> tuple[Member, ...]:
        raise NotImplementedError

    def joined(self) -> tuple[Member, ...]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Gathering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def join(
    node: Node, board: Board, log: Log, *, timeout_s: float, beat_s: float = BEAT_S, lost_s: float = LOST_S
) -> Channel:
    """A worker's side: find the main node, prove to be a node of its gang, and be taken in. Raises GangError when time is up."""
    raise NotImplementedError
