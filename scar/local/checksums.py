"""The checksums S3 knows, fed piece by piece, so that no object needs to be in memory.

CRC32 (the SDKs' default), SHA-1 and SHA-256 run in C. CRC32C and CRC64NVME run in C when awscrt is installed, else by table in
Python (some 5 MB/s): right, but slow.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Protocol

ALGORITHMS: Final = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")

Extend = Callable[[bytes, int], int]


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, extend: Extend, width_bytes: int) -> None:
        self._extend, self._width, self._value = extend, width_bytes, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._extend(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def digest_for(algorithm: str) -> Digest:
    """A fresh running checksum. `algorithm` is S3's name of it, any case; KeyError when S3 has no such."""
    name = algorithm.upper()
    if name == "SHA1":
        return hashlib.sha1(usedforsecurity=False)
    if name == "SHA256":
        return hashlib.sha256()
    if name == "CRC32":
        return _Crc(zlib.crc32, 4)
    if name == "CRC32C":
        return _Crc(_in_c("crc32c") or _by_table(0x82F63B78, 32), 4)
    if name == "CRC64NVME":
        return _Crc(_in_c("crc64nvme") or _by_table(0x9A6C9329AC4BC9B5, 64), 8)
    raise KeyError(algorithm)


def encoded(chunks: Iterable[bytes], algorithm: str) -> str:
    """The base64 form S3 sends for these bytes."""
    digest = digest_for(algorithm)
    for chunk in chunks:
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()


def _in_c(name: str) -> Extend | None:
    try:
        from awscrt import checksums  # type: ignore[import-not-found,unused-ignore]  # optional
    except ImportError:
        return None
    function: Extend = getattr(checksums, name)
    return function


@cache
def _by_table(reversed_polynomial: int, bits: int) -> Extend:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (reversed_polynomial if value & 1 else 0)
        table.append(value)
    ones = (1 << bits) - 1

    def extend(data: bytes, previous: int) -> int:
        value = previous ^ ones
        for byte in data:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
        return value ^ ones

    return extend
