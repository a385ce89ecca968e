"""One object of S3 into one open file: bounded memory, broken bodies resumed, content verified."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from botocore.exceptions import (
    ConnectionClosedError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from faassupervisor.deadline import Deadline
from faassupervisor.errors import StageInError
from faassupervisor.events.items import ObjectItem
from faassupervisor.lineage import of_metadata
from faassupervisor.storage import Fetched
from faassupervisor.storage.arriving import expect_room

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_CHUNK_BYTES: Final = 1024 * 1024
_ATTEMPTS: Final = 4  # requests for one body; each keeps what the ones before it brought
_BROKEN: Final = (
    BotoConnectionError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)


class Download:
    """Brings the content that `item` names into `sink`, or raises what S3, the disk or the clock said.

    The version is pinned: by its id when the event names one, else by its ETag. A request that resumes carries the ETag of the first
    answer, so that a mixture of two contents is impossible.
    """

    def __init__(self, client: S3Client, item: ObjectItem, uri: str, sink: BinaryIO, deadline: Deadline) -> None:
        self._client, self._item, self._uri, self._sink, self._deadline = client, item, uri, sink, deadline
        self._etag = f'"{item.etag.strip(chr(34))}"' if item.etag and not item.version_id else None
        self._size: int | None = None
        self._received = 0
        self._check: _Check = _Nothing()
        self._lineage: tuple[str, ...] = ()

    def run(self) -> Fetched:
        """What came. A body that breaks is asked for again from where it broke, a wrong one from its beginning."""
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                self._receive(self._ask())
            except FlexibleChecksumError as error:
                reason = str(error)
                self._start_again()
                continue
            except _BROKEN as error:
                reason = str(error)
                if self._received != self._size:  # otherwise all of it came before the connection broke
                    continue
            if self._received != self._size:
                reason = f"{self._received} of {self._size} bytes came"
            elif self._check.holds():
                return Fetched(self._received, self._lineage)
            else:
                reason = f"its {self._check.name} checksum is wrong"
                self._start_again()
        raise StageInError(f"{self._uri} did not arrive whole in {_ATTEMPTS} attempts: {reason}")

    def _ask(self) -> GetObjectOutputTypeDef:
        request: dict[str, Any] = {"Bucket": self._item.bucket, "Key": self._item.key}
        if self._item.version_id:
            request["VersionId"] = self._item.version_id
        if self._etag:
            request["IfMatch"] = self._etag
        if self._received:
            # A checksum that comes with a range speaks of the whole object; botocore would hold it against the range.
            request["Range"] = f"bytes={self._received}-"
        else:
            request["ChecksumMode"] = "ENABLED"
        answer: GetObjectOutputTypeDef = self._client.get_object(**request)
        if not self._received:
            self._begin(answer)
        return answer

    def _begin(self, answer: GetObjectOutputTypeDef) -> None:
        self._size = answer["ContentLength"]
        self._etag = answer.get("ETag") or self._etag
        self._check = _check_of(self._item.bucket, answer)
        self._lineage = of_metadata(answer.get("Metadata", {}))
        try:
            expect_room(self._sink, self._size, self._uri)
        except StageInError:
            answer["Body"].close()
            raise

    def _receive(self, answer: GetObjectOutputTypeDef) -> None:
        with answer["Body"] as body:
            for chunk in _chunks(body):
                if self._deadline.for_process_s() <= 0:
                    raise StageInError(f"{self._uri}: time ran out after {self._received} of {self._size} bytes")
                self._sink.write(chunk)
                self._check.update(chunk)
                self._received += len(chunk)

    def _start_again(self) -> None:
        self._sink.seek(0)
        self._sink.truncate()
        self._received = 0


def _chunks(body: Any) -> Iterator[bytes]:
    while chunk := body.read(_CHUNK_BYTES):
        yield chunk


class _Check(Protocol):
    name: str

    def update(self, chunk: bytes) -> None: ...

    def holds(self) -> bool: ...


class _Nothing:
    """S3 gave no checksum of the whole content (composite, or encrypted without one): the length must do."""

    name = "(no)"

    def update(self, chunk: bytes) -> None:
        pass

    def holds(self) -> bool:
        return True


class _Crc32:
    name = "CRC32"

    def __init__(self, expected: str) -> None:
        self._expected, self._value = expected, 0

    def update(self, chunk: bytes) -> None:
        self._value = zlib.crc32(chunk, self._value)

    def holds(self) -> bool:
        return base64.b64encode(self._value.to_bytes(4, "big")).decode() == self._expected


class _Md5:
    """The ETag of an object that was uploaded in one piece and not encrypted with a KMS or customer key is its MD5."""

    name = "MD5 (ETag)"

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._digest = hashlib.md5(usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        self._digest.update(chunk)

    def holds(self) -> bool:
        return self._digest.hexdigest() == self._expected


def _check_of(bucket: str, answer: GetObjectOutputTypeDef) -> _Check:
    crc32 = answer.get("ChecksumCRC32", "")
    if crc32 and "-" not in crc32 and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        return _Crc32(crc32)
    etag = answer.get("ETag", "").strip('"')
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer
    plain = plain and not bucket.endswith("--x-s3")  # directory buckets invent their ETags
    if plain and len(etag) == 32 and all(digit in "0123456789abcdef" for digit in etag):
        return _Md5(etag)
    return _Nothing()
