"""How two nodes come to keys that only they know, from values that anybody may know. (Interface first: the rest follows.)"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keys:
    """One end's keys: for what it sends, and for what it receives. The other end has them the other way round."""

    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)

    def turned(self) -> Keys:
        return Keys(self.receiving, self.sending)
