"""What a zip function takes from S3: the layers of its image that were packed, and its own zip when it is too large for a request.

Objects are named by the SHA-256 of their content, below a prefix that is the function's alone. A function that still runs the old
code never loses it: what is run no more is removed in the plan's second phase, when the function has been updated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.errors import ConflictError
from scar.plan.resource import Id

PART_BYTES: Final = 8 << 20  # S3 takes 10,000 parts: 80 GB, more than Lambda runs
_PARALLEL: Final = 4

Tell = Callable[[int, int, str], None]


def _unwatched() -> AbstractContextManager[Tell]:
    return nullcontext(lambda done, total, what: None)


@dataclass(frozen=True, slots=True)
class CodeObject:
    """`name` is the content's SHA-256 in hex. `open` answers its bytes in chunks, and raises at the end when they are others."""

    name: str
    size: int
    open: Callable[[], Iterator[bytes]] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name[:12]


@dataclass(frozen=True, slots=True)
class CodeObjects:
    """Every object that the function needs. What lies beside them below `prefix` is not looked at. `watch` begins a progress bar."""

    function: str
    bucket: str
    prefix: str
    state_bucket: str
    objects: tuple[CodeObject, ...]
    watch: Callable[[], AbstractContextManager[Tell]] = field(default=_unwatched, compare=False, repr=False)

    @property
    def id(self) -> Id:
        return Id("code", self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        """The state bucket bears the mark by which `rm` finds what is uploaded here."""
        return (Id("state bucket", self.state_bucket), Id("bucket", self.bucket))

    @property
    def note(self) -> str:
        size = sum(item.size for item in self.objects)
        return f"{size / 1_000_000:.1f} MB to s3://{self.bucket}"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.prefix + item.name for item in self.objects)

    def read(self, aws: Aws) -> CodeObjects | None:
        sizes = dict(_listed(aws, self.bucket, self.prefix))
        there = tuple(item for item in self.objects if sizes.get(self.prefix + item.name) == item.size)
        return replace(self, objects=there) if there else None

    def create(self, aws: Aws) -> None:
        self._upload(aws, self.objects)

    def update(self, aws: Aws, actual: CodeObjects) -> None:
        self._upload(aws, tuple(item for item in self.objects if item not in actual.objects))

    def delete(self, aws: Aws) -> None:
        """Never as a whole: `OldCode` removes what is run no more."""

    def _upload(self, aws: Aws, missing: tuple[CodeObject, ...]) -> None:
        total, done = sum(item.size for item in missing), 0
        with self.watch() as tell, ThreadPoolExecutor(_PARALLEL, "code") as pool:

            def counted(item: CodeObject) -> Iterator[bytes]:
                nonlocal done
                for chunk in item.open():
                    done += len(chunk)  # a lost addition between threads costs the bar a chunk
                    tell(min(done, total), total, "upload")
                    yield chunk

            sent = [pool.submit(self._send, aws, item, counted(item)) for item in missing]
            try:
                for future in sent:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, aws: Aws, item: CodeObject, content: Iterator[bytes]) -> None:
        """One object, a part of it in memory at a time. Another that uploads the same is no harm: whoever is second stops."""
        where: dict[str, Any] = {"Bucket": self.bucket, "Key": self.prefix + item.name}
        parts = _parts(content)
        try:
            if item.size <= PART_BYTES:
                aws.s3.put_object(**where, Body=io.BytesIO(b"".join(parts)), IfNoneMatch="*")
            else:
                _send_parts(aws, where, parts)
        except ClientError as error:
            if code_of(error) not in {"PreconditionFailed", "412"}:
                raise
            if aws.s3.head_object(**where)["ContentLength"] != item.size:
                raise ConflictError(
                    f"s3://{self.bucket}/{where['Key']} is there with another size",
                    fix="Remove it: scar names objects by their content.",
                ) from error


@dataclass(frozen=True, slots=True)
class OldCode:
    """What lies below a function's prefix and is not in `keep`: there to be deleted."""

    bucket: str
    prefix: str
    state_bucket: str
    keep: frozenset[str] = frozenset()
    found: tuple[str, ...] = ()

    @property
    def id(self) -> Id:
        return Id("old code", f"s3://{self.bucket}/{self.prefix}")

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("state bucket", self.state_bucket),)

    @property
    def note(self) -> str:
        return f"{len(self.found)} objects" if len(self.found) > 1 else "1 object"

    def read(self, aws: Aws) -> OldCode | None:
        found = tuple(key for key, _ in _listed(aws, self.bucket, self.prefix) if key not in self.keep)
        return replace(self, found=found) if found else None

    def create(self, aws: Aws) -> None:
        """Never wanted."""

    def update(self, aws: Aws, actual: OldCode) -> None:
        """Never wanted."""

    def delete(self, aws: Aws) -> None:
        try:
            for start in range(0, len(self.found), 1000):  # s3:DeleteObjects takes as many
                keys: Any = [{"Key": key} for key in self.found[start : start + 1000]]
                answer = aws.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
                if left := answer.get("Errors"):
                    raise ConflictError(
                        f"{len(left)} objects of {self.bucket} could not be deleted: {left[0].get('Message')}"
                    )
            if not self.keep:  # the function goes: so do uploads that were cut short
                for cut in aws.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix).get("Uploads", ()):
                    aws.s3.abort_multipart_upload(Bucket=self.bucket, Key=cut["Key"], UploadId=cut["UploadId"])
        except ClientError as error:
            if not is_absent(error):
                raise


def _listed(aws: Aws, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Keys and sizes below a prefix, one call for every 1000; none where there is no bucket."""
    try:
        for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                yield item["Key"], item["Size"]
    except ClientError as error:
        if not is_absent(error):
            raise


def _parts(content: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    have = 0
    for chunk in content:
        rest = chunk
        while have + len(rest) >= PART_BYTES:
            cut = PART_BYTES - have
            yield b"".join((*waiting, rest[:cut]))
            waiting, have, rest = [], 0, rest[cut:]
        if rest:
            waiting.append(rest)
            have += len(rest)
    if waiting:
        yield b"".join(waiting)


# A file and not bytes: a socket's timeout is for one call of sendall, and on a slow line a whole part would never arrive in time.
def _send_parts(aws: Aws, where: dict[str, Any], parts: Iterator[bytes]) -> None:
    upload = aws.s3.create_multipart_upload(**where)["UploadId"]
    try:
        sent: Any = [
            {
                "PartNumber": number,
                "ETag": aws.s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=io.BytesIO(part))["ETag"],
            }
            for number, part in enumerate(parts, 1)
        ]
        aws.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent}, IfNoneMatch="*")
    except BaseException:
        aws.s3.abort_multipart_upload(**where, UploadId=upload)
        raise
