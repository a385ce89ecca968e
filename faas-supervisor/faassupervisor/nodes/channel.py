"""How does one node speak to another? (Interface first: the rest follows.)"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from faassupervisor.nodes.keys import Keys

HEAD_BYTES: Final = 64 * 1024  # of `head` as JSON, with the kind
BODY_BYTES: Final = 64 * 1024
BEAT_S: Final = 2.0
LOST_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Message:
    """`head` is what JSON can say, at most HEAD_BYTES of it; `body` at most BODY_BYTES."""

    kind: str
    head: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


class Gone(Exception):
    """The other end is not there any more; the text says how that was noticed, as in "node 3 …": "closed its connection"."""


class Channel:
    """1. `send` may be called from any thread. A message arrives whole, once and in order. It blocks while the other end does not take
          what was sent before, and raises Gone when there is nobody to take it; a message that is too long is a ValueError.
    2. `receive` answers the next message, to one reader at a time; never a heartbeat. What came before the end is answered first; then
          Gone is raised, again and again. With `timeout_s` None is the answer when nothing came so long.
    3. `close` may be called again. It wakes both of the above. What was sent before is still delivered, if the other end takes it soon.
    4. Heartbeats are the channel's own, every `beat_s`. After `lost_s` without a sign of life it is Gone, whatever anybody waits for.
    """

    def __init__(
        self, connection: socket.socket, keys: Keys, *, beat_s: float = BEAT_S, lost_s: float = LOST_S
    ) -> None:
        raise NotImplementedError

    @property
    def gone(self) -> str | None:
        """How the end was noticed, None while the channel lives."""
        raise NotImplementedError

    def send(self, message: Message) -> None:
        raise NotImplementedError

    def receive(self, timeout_s: float | None = None) -> Message | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
