"""Is a file the object that S3 holds, bit by bit? By S3's checksum, else by the object's ETag, where that is a digest."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_PART_SIZES: Final = tuple(size << 20 for size in (8, 5, 16, 15, 10, 20, 32, 50, 64, 100, 128, 256, 512))
_PIECE_BYTES: Final = 1 << 20
# The polynomial of CRC-32, lowest bit first, as zlib has it. Source: RFC 1952, section 8.
_CRC32_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31
_A_BYTE: Final = 1 << 23  # x to the power of 8
_HEX: Final = frozenset("0123456789abcdef")


def is_md5(bucket: str, etag: str, encryption: str) -> bool:
    """Whether an ETag is a digest, or a digest of its parts' digests: not of what KMS or a customer's key encrypts, nor in directory buckets.

    Source: AmazonS3/latest/API/API_Object, "ETag".
    """
    digest, _, parts = etag.strip('"').partition("-")
    plain = encryption in {"", "AES256"} and not bucket.endswith("--x-s3")
    return plain and len(digest) == 32 and _HEX.issuperset(digest) and (not parts or parts.isdecimal())


def part_sizes(bytes_: int, etag: str) -> tuple[int, ...]:
    """How large the parts may have been that an object came in; none when it came whole."""
    _, _, parts = etag.strip('"').partition("-")
    count = int(parts) if parts.isdecimal() else 0
    return tuple(size for size in _PART_SIZES if count and -(-bytes_ // size) == count)


def of_parts(digests: Iterable[bytes]) -> str:
    """The first half of the ETag of what came in parts with these MD5 digests."""
    return hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()


def matches(path: Path, etag: str, bytes_: int, sizes: Iterable[int] = ()) -> bool:
    """Whether a file has this ETag, as far as one can tell; `sizes` are those that its parts may have had, besides those that tools use.

    Source: AmazonS3/latest/userguide/checking-object-integrity-upload, "Using Content-MD5 and the ETag".
    """
    if path.stat().st_size != bytes_:
        return False
    digest, _, parts = etag.strip('"').partition("-")
    if not parts:
        return _md5_of_parts(path, None) == digest
    return any(_md5_of_parts(path, size) == digest for size in (*sizes, *part_sizes(bytes_, etag)))


def crc32_of(headers: Mapping[str, str]) -> int | None:
    """The CRC-32 of the whole object, if an answer of S3 has it; that of an object that came in parts may be of its parts' instead.

    Source: AmazonS3/latest/userguide/checking-object-integrity, "Full object and composite checksum types".
    """
    told = headers.get("x-amz-checksum-crc32", "")
    if not told or "-" in told or headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    return int.from_bytes(base64.b64decode(told), "big")


def crc32_text(value: int) -> str:
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def crc32_of_file(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            value = zlib.crc32(piece, value)
    return value


def crc32_joined(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of pieces one after the other, each told by its own CRC-32 and its length in bytes.

    A CRC is the rest of a division of polynomials: to append n bytes is to multiply by x^8n and to add. zlib has this as
    crc32_combine, which Python does not offer.
    """
    joined = 0
    shift_of: dict[int, int] = {}
    for value, bytes_ in parts:
        if bytes_ not in shift_of:
            shift_of[bytes_] = _power(bytes_)
        joined = _times(shift_of[bytes_], joined) ^ value
    return joined


def _power(bytes_: int) -> int:
    """x^8n by the polynomial."""
    result, square = _ONE, _A_BYTE
    while bytes_:
        if bytes_ & 1:
            result = _times(result, square)
        square = _times(square, square)
        bytes_ >>= 1
    return result


def _times(one: int, other: int) -> int:
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = (one << 1) & 0xFFFFFFFF
        other = (other >> 1) ^ (_CRC32_POLYNOMIAL if other & 1 else 0)
    return product


def _md5_of_parts(path: Path, part_bytes: int | None) -> str:
    whole, parts = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        left = part_bytes or 0
        while piece := file.read(min(_PIECE_BYTES, left) if part_bytes else _PIECE_BYTES):
            whole.update(piece)
            left -= len(piece)
            if part_bytes and left == 0:
                parts.update(whole.digest())
                whole, left = hashlib.md5(usedforsecurity=False), part_bytes
    if part_bytes is None:
        return whole.hexdigest()
    if left != part_bytes:
        parts.update(whole.digest())
    return parts.hexdigest()
