"""Where do the nodes of a gang find each other? On a board: one small object for each node in the function's part of the state bucket.

(Interface first: the rest follows.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from faassupervisor.state import State


class BoardError(Exception):
    """The board could not be asked, or what is on it is no entry; the text says why. It may be different a moment later."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a node tells the others. `port` is where the main node listens."""

    public: int
    address: str
    slots: int
    architecture: str
    port: int | None = None


class Board(Protocol):
    """1. `read` answers None while nothing is there. 2. All three raise BoardError. 3. Only nodes of this gang can post."""

    def post(self, index: int, entry: Entry) -> None: ...
    def read(self, index: int) -> Entry | None: ...
    def clear(self, count: int) -> None: ...


class StateBoard:
    def __init__(self, state: State, job_id: str, attempt: int) -> None:
        raise NotImplementedError

    def post(self, index: int, entry: Entry) -> None:
        raise NotImplementedError

    def read(self, index: int) -> Entry | None:
        raise NotImplementedError

    def clear(self, count: int) -> None:
        raise NotImplementedError
