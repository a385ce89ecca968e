"""What do the two ends of a fresh connection say to each other, before either believes anything?

    worker → main    hello: magic, version, its index, a nonce         main → worker    hello: the same of the main node
    worker → main    its proof that it has found the keys              main → worker    the main node's proof: the worker is taken in

All are of a fixed length, and nothing that follows is read before the proof. Either proof is worth something for these two nonces only.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Final

from faassupervisor.nodes.keys import KEY_BYTES, NONCE_BYTES

MAGIC: Final = b"scargang"
VERSION: Final = 1
_HELLO: Final = struct.Struct(f">{len(MAGIC)}sBH{NONCE_BYTES}s")
HELLO_BYTES: Final = _HELLO.size
PROOF_BYTES: Final = KEY_BYTES
HANDSHAKE_S: Final = 5.0  # for all that the other end has to say


@dataclass(frozen=True, slots=True)
class Hello:
    index: int
    nonce: bytes

    def to_bytes(self) -> bytes:
        return _HELLO.pack(MAGIC, VERSION, self.index, self.nonce)

    @classmethod
    def of(cls, index: int) -> Hello:
        """A new one."""
        return cls(index, secrets.token_bytes(NONCE_BYTES))

    @classmethod
    def from_bytes(cls, said: bytes) -> Hello:
        """Raises ValueError, also for the first bytes of what cannot become one."""
        if said[: len(MAGIC)] != MAGIC[: len(said)]:
            raise ValueError("spoke another protocol")
        if len(said) > len(MAGIC) and said[len(MAGIC)] != VERSION:
            raise ValueError(f"spoke version {said[len(MAGIC)]} of the protocol, not {VERSION}")
        if len(said) < HELLO_BYTES:
            raise Unfinished
        _, _, index, nonce = _HELLO.unpack(said)
        return cls(index, nonce)


class Unfinished(ValueError):  # noqa: N818
    """So far it may become a hello."""
