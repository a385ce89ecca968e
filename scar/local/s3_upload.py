"""What arrives with an S3 request: take the body in whole, undo `aws-chunked`, and refuse it when it is not what the caller sent.

moto ignores every checksum; AWS refuses a body that does not match one. Source: AmazonS3/latest/userguide/checking-object-integrity.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

from scar.limits import GIB, KIB, MIB
from scar.local import checksums
from scar.local.bodies import CHUNK, Bodies, Body
from scar.local.refusal import RefusalError

Environ = dict[str, Any]

OBJECT_BYTES: Final = 5 * GIB  # one PUT or part; AmazonS3/latest/userguide/upload-objects
DOCUMENT_BYTES: Final = 20 * MIB  # of XML; DeleteObjects with 1000 keys of 1 KiB is some 1.2 MB
_LINE_BYTES: Final = 16 * KIB
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


def receive_object(environ: Environ, bodies: Bodies, *, durable: bool) -> Body:
    """Write the request's body to a file of its own and verify it. Afterwards the request looks like one without `aws-chunked`.

    Raises RefusalError when any checksum differs, leaving nothing behind.
    """
    sums = _Sums(environ)
    with bodies.receive() as incoming:
        for chunk in _decoded(environ, sums):
            incoming.write(chunk)
            sums.update(chunk)
            if incoming.size > OBJECT_BYTES:
                raise RefusalError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        found = sums.verify(environ, md5=incoming.md5, size=incoming.size)
        body = incoming.finish(durable=durable, checksums=found)
    _normalise(environ, sums, found)
    return body


def receive_document(environ: Environ) -> bytes:
    """The same for a small body that is no object (XML of a configuration): in memory, bounded."""
    sums = _Sums(environ)
    content = bytearray()
    for chunk in _decoded(environ, sums):
        content += chunk
        sums.update(chunk)
        if len(content) > DOCUMENT_BYTES:
            raise RefusalError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    _normalise(environ, sums, sums.verify(environ, md5=md5, size=len(content)))
    return bytes(content)


@dataclass(slots=True)
class _Sums:
    """The checksums a request asks for: announced in headers, or in the trailer of a chunked body."""

    environ: Environ
    expected: dict[str, str] = field(default_factory=dict)
    digests: dict[str, checksums.Digest] = field(default_factory=dict)
    sha256: Any = None

    def __post_init__(self) -> None:
        named = {self.environ.get("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", "").upper()}
        named |= {_algorithm(name) for name in self.environ.get("HTTP_X_AMZ_TRAILER", "").lower().split(",")}
        for algorithm in checksums.ALGORITHMS:
            if (value := self.environ.get(f"HTTP_X_AMZ_CHECKSUM_{algorithm}")) is not None:
                self.expected[algorithm] = value
                named.add(algorithm)
        for algorithm in named & set(checksums.ALGORITHMS):
            self.digests[algorithm] = checksums.digest_for(algorithm)
        if len(self.environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")) == 64:
            self.sha256 = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        for digest in self.digests.values():
            digest.update(chunk)
        if self.sha256 is not None:
            self.sha256.update(chunk)

    def trailer(self, name: str, value: str) -> None:
        if (algorithm := _algorithm(name)) in self.digests:
            self.expected[algorithm] = value

    def verify(self, environ: Environ, *, md5: bytes, size: int) -> dict[str, str]:
        """The checksums as computed; RefusalError when one differs from what the caller said."""
        declared = environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH")
        if declared is not None and declared != str(size):
            raise RefusalError(400, "IncompleteBody", "The request body terminated unexpectedly")
        if (sent := environ.get("HTTP_CONTENT_MD5")) is not None:
            if len(_bytes(sent) or b"") != 16:
                raise RefusalError(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
            if _bytes(sent) != md5:
                raise RefusalError(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        if self.sha256 is not None and self.sha256.hexdigest() != environ["HTTP_X_AMZ_CONTENT_SHA256"].lower():
            raise RefusalError(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        return {algorithm: self._compared(algorithm, digest.digest()) for algorithm, digest in self.digests.items()}

    def _compared(self, algorithm: str, actual: bytes) -> str:
        expected = self.expected.get(algorithm)
        if expected is not None:
            if len(_bytes(expected) or b"") != len(actual):
                raise RefusalError(
                    400, "InvalidRequest", f"Value for x-amz-checksum-{algorithm.lower()} header is invalid."
                )
            if _bytes(expected) != actual:
                raise RefusalError(
                    400, "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
                )
        return base64.b64encode(actual).decode()


def _algorithm(header: str) -> str:
    return header.strip().lower().removeprefix("x-amz-checksum-").upper()


def _bytes(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _decoded(environ: Environ, sums: _Sums) -> Iterator[bytes]:
    source: IO[bytes] = environ["wsgi.input"]
    if environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-") or "aws-chunked" in environ.get(
        "HTTP_CONTENT_ENCODING", ""
    ):
        return _aws_chunked(source, sums.trailer)
    return iter(lambda: source.read(CHUNK), b"")


def _aws_chunked(source: IO[bytes], trailer: Callable[[str, str], None]) -> Iterator[bytes]:
    """`<hex size>[;chunk-signature=…]` line, data, empty line, …, a chunk of size 0, trailer lines (API/sigv4-streaming)."""
    while True:
        size = _chunk_size(source.readline(_LINE_BYTES))
        if size == 0:
            break
        while size:
            data = source.read(min(size, CHUNK))
            if not data:
                raise RefusalError(400, "IncompleteBody", "The request body terminated unexpectedly")
            size -= len(data)
            yield data
        source.readline(_LINE_BYTES)
    while line := source.readline(_LINE_BYTES):
        name, _, value = line.decode("latin-1").strip().partition(":")
        if name:
            trailer(name, value.strip())


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0].strip(), 16)
    except ValueError:
        raise RefusalError(400, "IncompleteBody", "The request body terminated unexpectedly") from None


def _normalise(environ: Environ, sums: _Sums, found: dict[str, str]) -> None:
    """Tell moto what was verified, in plain headers, and hide the encoding that is undone."""
    for algorithm, value in found.items():
        environ[f"HTTP_X_AMZ_CHECKSUM_{algorithm}"] = value
        # moto looks for a checksum only when this header names one
        environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = algorithm
    environ["HTTP_X_AMZ_CONTENT_SHA256"] = _UNSIGNED
    environ.pop("HTTP_X_AMZ_TRAILER", None)
    environ.pop("HTTP_X_AMZ_DECODED_CONTENT_LENGTH", None)
    kept = [part.strip() for part in environ.pop("HTTP_CONTENT_ENCODING", "").split(",")]
    if kept := [part for part in kept if part and part != "aws-chunked"]:
        environ["HTTP_CONTENT_ENCODING"] = ",".join(kept)
