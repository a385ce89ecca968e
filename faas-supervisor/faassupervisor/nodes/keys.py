"""How do two nodes come to keys that only they know, from values that anybody may know?

Finite-field Diffie-Hellman over ffdhe2048 (RFC 7919) with exponents that live in one process and end with it, then HKDF-SHA256 (RFC 5869)
over everything that was said: the gang, both nodes, both public values, both nonces. Nothing here is stored or sent but public values.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass, field
from typing import Final

PRIME: Final = int(  # RFC 7919, appendix A.1; the generator is 2
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617A"
    "D3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797A"
    "BC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61"
    "9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005C58EF1837D1683B2C6F34A26C1B2EFFA886B423861285C97FFFFFFFFFFFFFFFF",
    16,
)
PRIME_BYTES: Final = 256
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
_EXPONENT_BITS: Final = 256  # RFC 7919 asks for 225 at least
_LABEL: Final = b"scar gang 1"


class Secret:
    """One node's half. It is made anew for every attempt of every job and never leaves this process."""

    __slots__ = ("_exponent", "public")

    def __init__(self) -> None:
        self._exponent = secrets.randbits(_EXPONENT_BITS) | 1 << (_EXPONENT_BITS - 1)
        self.public = pow(2, self._exponent, PRIME)

    def shared(self, public: int) -> bytes:
        """What the owner of `public` finds too. Raises ValueError for a value that would make it guessable."""
        if not is_public(public):
            raise ValueError("not a public value of ffdhe2048")
        return pow(public, self._exponent, PRIME).to_bytes(PRIME_BYTES, "big")


def is_public(value: int) -> bool:
    return 2 <= value <= PRIME - 2  # RFC 7919, section 3


@dataclass(frozen=True, slots=True)
class Meeting:
    """What the main node and one worker both know of their meeting: whatever differs gives other keys."""

    job_id: str
    attempt: int
    main: int
    worker: int
    main_public: int
    worker_public: int
    main_nonce: bytes
    worker_nonce: bytes

    def transcript(self) -> bytes:
        parts = (
            self.job_id.encode(),
            struct.pack(">III", self.attempt, self.main, self.worker),
            self.main_public.to_bytes(PRIME_BYTES, "big"),
            self.worker_public.to_bytes(PRIME_BYTES, "big"),
            self.main_nonce,
            self.worker_nonce,
        )
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)


@dataclass(frozen=True, slots=True)
class Keys:
    """One end's keys: for what it sends, and for what it receives. The other end has them the other way round."""

    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)

    def turned(self) -> Keys:
        return Keys(self.receiving, self.sending)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both ends of a meeting find on their own. A proof shows that its sender has found it as well, and is of no other use."""

    of_main: Keys
    proof_of_main: bytes = field(repr=False)
    proof_of_worker: bytes = field(repr=False)


def agree(shared: bytes, meeting: Meeting) -> Agreement:
    transcript = hashlib.sha256(meeting.transcript()).digest()
    found = expand(extract(meeting.main_nonce + meeting.worker_nonce, shared), _LABEL + transcript, 4 * KEY_BYTES)
    to_worker, to_main, main, worker = (found[start : start + KEY_BYTES] for start in range(0, len(found), KEY_BYTES))
    return Agreement(Keys(to_worker, to_main), proof_of_main=main, proof_of_worker=worker)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256."""
    return hmac.digest(salt or bytes(32), secret, "sha256")


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256; at most 255 blocks."""
    found, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        found += block
    return found[:length]
