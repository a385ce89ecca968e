"""Amazon S3, and whatever speaks its protocol at `AWS_ENDPOINT_URL`, as a backend for users' files.

botocore is used without boto3 and its transfer manager: half the start-up, and memory holds one chunk per transfer whatever the size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, cast

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from faassupervisor.aws import SMALL_BYTES, Aws
from faassupervisor.content_types import content_type
from faassupervisor.deadline import Deadline
from faassupervisor.errors import StageInError, StageOutError
from faassupervisor.events.items import ObjectItem
from faassupervisor.lineage import metadata
from faassupervisor.storage import Fetched, ProviderError, Upload
from faassupervisor.storage.arriving import not_stored, whole
from faassupervisor.storage.s3_download import Download

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB: Final = 1024 * 1024
_WORKERS: Final = 8  # for parts of large files: a few streams fill a network
_WORKERS_ON_SMALL: Final = 24  # what a small file takes is waiting for S3, which it shares with nobody
CONNECTIONS: Final = _WORKERS_ON_SMALL + 2
_PART_BYTES: Final = 16 * MIB
_MOST_PARTS: Final = 10_000  # AmazonS3/latest/userguide/qfacts

BROKEN: Final[tuple[type[Exception], ...]] = (BotoCoreError, HTTPError, OSError)  # what a body can break with

# What S3 says, and what it takes to be allowed or found. Source: AmazonS3/latest/API/ErrorResponses
_REASONS: Final = {
    "InvalidAccessKeyId": "there is no such access key there",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "ExpiredToken": "the credentials have expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by more than a quarter of an hour; set it",
    "KMS.DisabledException": "the KMS key that encrypts it is disabled; enable it",
    "KMS.KMSInvalidStateException": "the KMS key that encrypts it is about to be deleted, or not ready; enable it",
    "KMS.NotFoundException": "the KMS key that encrypts it does not exist; set another for the bucket",
}
_GET_REASONS: Final = {
    "AccessDenied": "access denied; the function's role needs s3:GetObject (s3:GetObjectVersion for a version) on it, and kms:Decrypt when it is encrypted with a KMS key; a bucket whose requester pays cannot be read",
    "403": "access denied; the function's role needs s3:GetObject on it",
    "NoSuchKey": "it does not exist (deleted since the event, or the role lacks s3:ListBucket to tell)",
    "404": "it does not exist",
    "NoSuchVersion": "the version that the event names does not exist any more",
    "NoSuchBucket": "the bucket does not exist",
    "PreconditionFailed": "it was overwritten after this event; the event of the new content will process it",
    "412": "it was overwritten after this event; the event of the new content will process it",
    "InvalidObjectState": "it is archived; restore it first",
    **_REASONS,
}
_PUT_REASONS: Final = {
    "AccessDenied": "access denied; the function's role needs s3:PutObject and s3:AbortMultipartUpload on it, and kms:GenerateDataKey when the bucket encrypts with a KMS key",
    "403": "access denied; the function's role needs s3:PutObject on it",
    "NoSuchBucket": "the bucket does not exist",
    **_REASONS,
}
_ROLE: Final = "the function's role"


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks: what its URIs begin with, who lacks a permission, whether S3's own checksums go with an upload, and what no message has."""

    scheme: str = "s3"
    who: str = _ROLE
    checksums: bool = True
    hide: Callable[[str], str] = _as_it_is


class S3:
    """Backend `s3`; see `faassupervisor.storage` for what it promises."""

    def __init__(self, client: Callable[[Deadline], S3Client], account: Account) -> None:
        self._client, self._account = client, account

    @classmethod
    def of(cls, aws: Aws) -> S3:
        """As the function's role. The client is made at once: while nobody waits yet."""
        client = aws.s3_for_files(CONNECTIONS)
        return cls(lambda _: client, Account())

    def fetch(self, item: ObjectItem, target: Path, deadline: Deadline) -> Fetched:
        """Stream the version that the event names to a temporary name, verify it, rename it."""
        uri = self._uri(item)
        try:
            with whole(target) as sink:
                return Download(self._client(deadline), item, uri, sink, deadline).run()
        except ClientError as error:
            raise StageInError(f"{uri} cannot be read: {self._reason(error, _GET_REASONS)}") from error
        except ProviderError as error:
            raise StageInError(f"{uri} cannot be read: {error}") from error
        except BotoCoreError as error:
            raise StageInError(self._account.hide(f"{uri} could not be read: {error}")) from error
        except OSError as error:
            raise not_stored(uri, error) from error

    def superseded(self, item: ObjectItem, deadline: Deadline) -> bool:
        if not item.version_id:
            return False  # the ETag has pinned the content
        try:
            latest = self._client(deadline).head_object(Bucket=item.bucket, Key=item.key).get("VersionId")
        except (ClientError, ProviderError, BotoCoreError, HTTPError, OSError):
            return False
        return latest is not None and latest != item.version_id

    def open(self, bucket: str, key: str, start: int) -> StreamingBody:
        """An object's bytes from `start` on, for who verifies them. Raises StageInError for a refusal, and one of BROKEN."""
        try:
            return self._client(Deadline(0, 0)).get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-")["Body"]
        except ClientError as error:
            raise StageInError(f"s3://{bucket}/{key} cannot be read: {self._reason(error, _GET_REASONS)}") from error

    def publish(self, uploads: Sequence[Upload], deadline: Deadline, lineage: Sequence[str] = ()) -> tuple[str, ...]:
        """Small files side by side, large ones one after the other in parallel parts; after a failure nothing new begins."""
        try:
            begun = _Publication(self._client(deadline), self._account, deadline, lineage)
        except ProviderError as error:
            raise StageOutError(f"{self._uri(uploads[0])} was not published: {error}") from error
        return begun.run(uploads)

    def _uri(self, thing: ObjectItem | Upload) -> str:
        return uri(self._account.scheme, thing)

    def _reason(self, error: ClientError, reasons: Mapping[str, str]) -> str:
        return _reason(error, reasons, self._account)


class _Publication:
    """The uploads of one record."""

    def __init__(self, client: S3Client, account: Account, deadline: Deadline, lineage: Sequence[str]) -> None:
        self._client, self._account, self._deadline = client, account, deadline
        self._more: dict[str, Any] = {"Metadata": metadata(lineage)} if lineage else {}
        self._checksum: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if account.checksums else {}
        # Of the whole object, not of its parts' checksums: only such a one lets the next reader verify what it reads.
        self._whole: dict[str, Any] = {"ChecksumType": "FULL_OBJECT"} if account.checksums else {}
        self._left: set[str] = set()  # what was there already, and stays

    def run(self, uploads: Sequence[Upload]) -> tuple[str, ...]:
        if len(uploads) == 1 and uploads[0].size <= _PART_BYTES:
            return self._publish_one(uploads[0])
        published: list[str] = []
        large = any(upload.size > SMALL_BYTES for upload in uploads)
        workers = _WORKERS if large else min(_WORKERS_ON_SMALL, len(uploads))
        with ThreadPoolExecutor(workers, thread_name_prefix="upload") as pool:
            begun: dict[str, Future[None]] = {}
            try:
                for upload in uploads:
                    if upload.size <= _PART_BYTES:
                        begun[self._uri(upload)] = pool.submit(self._put, upload)
                for upload in uploads:
                    if upload.size > _PART_BYTES:
                        self._put_in_parts(upload, pool)
                        published.append(self._uri(upload))
                    else:
                        begun[self._uri(upload)].result()
            except (BotoCoreError, ClientError, OSError, ProviderError, StageOutError) as error:
                _settle(begun.values())
                published += [uri for uri, future in begun.items() if _succeeded(future)]
                raise StageOutError(self._explain(upload, error), published=tuple(sorted(published))) from error
            except BaseException:
                _settle(begun.values())
                raise
        return tuple(uri for uri in map(self._uri, uploads) if uri not in self._left)

    def _publish_one(self, upload: Upload) -> tuple[str, ...]:
        """The usual case: one small file, for which threads would cost more than they save."""
        try:
            self._put(upload)
        except (BotoCoreError, ClientError, OSError, ProviderError) as error:
            raise StageOutError(self._explain(upload, error)) from error
        return () if self._left else (self._uri(upload),)

    def _put(self, upload: Upload) -> None:
        _check_time(self._deadline)
        with upload.open() as source, self._unless_there(upload) as condition:
            self._client.put_object(
                Bucket=upload.bucket,
                Key=upload.key,
                Body=_body(source, 0, upload.size),
                ContentType=content_type(upload.key),
                **self._checksum,
                **self._more,
                **condition,
            )

    @contextmanager
    def _unless_there(self, upload: Upload) -> Iterator[dict[str, Any]]:
        """What makes a write conditional, when the upload may not replace anything: then S3's refusal is no failure."""
        try:
            yield {} if upload.replaces else {"IfNoneMatch": "*"}
        except ClientError as error:
            # 409: somebody else is writing that very object. Source: AmazonS3/latest/userguide/conditional-writes
            if upload.replaces or error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                raise
            self._left.add(self._uri(upload))

    def _put_in_parts(self, upload: Upload, pool: ThreadPoolExecutor) -> None:
        _check_time(self._deadline)
        client, bucket, key = self._client, upload.bucket, upload.key
        upload_id = client.create_multipart_upload(
            Bucket=bucket, Key=key, ContentType=content_type(key), **self._checksum, **self._whole, **self._more
        )["UploadId"]

        def put_part(number: int, start: int, length: int) -> CompletedPartTypeDef:
            _check_time(self._deadline)
            with upload.open() as source:
                answer = client.upload_part(
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=_body(source, start, length),
                    **self._checksum,
                )
            part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
            if "ChecksumCRC32" in answer:
                part["ChecksumCRC32"] = answer["ChecksumCRC32"]
            return part

        parts: list[Future[CompletedPartTypeDef]] = []
        try:
            parts += [pool.submit(put_part, *part) for part in split(upload.size)]
            done = [part.result() for part in parts]
            with self._unless_there(upload) as condition:
                self._complete(upload, upload_id, done, condition)
            if self._uri(upload) in self._left:
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        except BaseException:
            _settle(parts)  # a part that lands after the abort would stay, unseen and paid for
            with suppress(BotoCoreError, ClientError):  # the first failure is the one to tell
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            raise

    def _complete(
        self, upload: Upload, upload_id: str, parts: Sequence[CompletedPartTypeDef], condition: Mapping[str, Any]
    ) -> None:
        """An upload that S3 does not know any more may be complete: when the answer was lost that told so, and botocore asked again."""
        try:
            self._client.complete_multipart_upload(
                Bucket=upload.bucket,
                Key=upload.key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **condition,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload" or not self._is_of(upload, parts):
                raise

    def _is_of(self, upload: Upload, parts: Sequence[CompletedPartTypeDef]) -> bool:
        """Whether the object that is there was made of these parts: its ETag is the MD5 of theirs, unless a KMS key encrypts it."""
        try:
            there = self._client.head_object(Bucket=upload.bucket, Key=upload.key)
            digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
        except (BotoCoreError, ClientError, ValueError):
            return False
        made = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return there["ContentLength"] == upload.size and there["ETag"].strip('"') == made

    def _explain(self, upload: Upload, error: BaseException) -> str:
        match error:
            case ClientError():
                return f"{self._uri(upload)} cannot be written: {_reason(error, _PUT_REASONS, self._account)}"
            case StageOutError():
                return f"{self._uri(upload)} was not published: {error.message}"
            case OSError():
                return f"{self._uri(upload)} was not published: the output file: {error.strerror or error}"
            case _:
                return self._account.hide(f"{self._uri(upload)} could not be written: {error}")

    def _uri(self, upload: Upload) -> str:
        return uri(self._account.scheme, upload)


class Slice:
    """A part of a file as botocore wants a body: readable, seekable, with a length. It never reads more than it is asked for."""

    def __init__(self, source: BinaryIO, start: int, length: int) -> None:
        self._source, self._start, self._length = source, start, length
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int | None = -1) -> bytes:
        rest = max(0, self._length - self._position)
        wanted = rest if size is None or size < 0 else min(size, rest)
        self._source.seek(self._start + self._position)
        chunk = self._source.read(wanted)
        self._position += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._position, 2: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _body(source: BinaryIO, start: int, length: int) -> IO[bytes]:
    return cast(
        "IO[bytes]", Slice(source, start, length)
    )  # botocore asks for these few methods only, its stubs for all


def split(size: int) -> list[tuple[int, int, int]]:
    """Parts of an object as (number, first byte, length): 16 MiB each, more when there would be too many."""
    part = _PART_BYTES
    while -(-size // part) > _MOST_PARTS:
        part *= 2
    return [(index + 1, start, min(part, size - start)) for index, start in enumerate(range(0, size, part))]


def _settle(futures: Iterable[Future[Any]]) -> None:
    """Begin none of those that wait, and wait for those that have begun."""
    begun = [future for future in futures if not future.cancel()]
    for future in begun:
        future.exception()


def _succeeded(future: Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _check_time(deadline: Deadline) -> None:
    if deadline.for_agent_s() <= 0:
        raise StageOutError("no time was left")


def _reason(error: ClientError, reasons: Mapping[str, str], account: Account) -> str:
    answer = error.response.get("Error", {})
    code = answer.get("Code", "")
    known = reasons.get(code)
    return known.replace(_ROLE, account.who) if known else account.hide(f"{code}: {answer.get('Message', '')}")


def uri(scheme: str, thing: ObjectItem | Upload) -> str:
    return f"{scheme}://{thing.bucket}/{thing.key}"
