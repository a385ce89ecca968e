"""Objects of a bucket: list, upload, download. Everything streams, so memory follows the number of threads and not the size of files."""

from __future__ import annotations

import functools
import mimetypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from scar.aws import digests
from scar.aws.carriers import Carriers
from scar.aws.direct import noticing
from scar.aws.errors import is_absent, told
from scar.errors import ScarError

if TYPE_CHECKING:
    from scar.aws.clients import Aws

Tell = Callable[[int, int, str], None]

_AHEAD: Final = 1000


@dataclass(frozen=True, slots=True)
class Object:
    """One object as a listing tells it. `etag` is quoted, as S3 gives it."""

    key: str
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Download:
    object: Object
    path: Path


def objects_below(aws: Aws, bucket: str, path: str) -> Iterator[Object]:
    """Objects at or below `path`: the key itself, or all in the folder `path/` (so `in` never means `input2/…`).

    Folder markers are left out. One call for every 1000 keys (s3:ListObjectsV2).
    """
    pages = iter(aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=path))
    while True:
        with noticing(aws, bucket):
            page = next(pages, None)
        if page is None:
            return
        for item in page.get("Contents", ()):
            key = item["Key"]
            inside = not path or path.endswith("/") or key == path or key[len(path)] == "/"
            if inside and not key.endswith("/"):
                yield Object(key, item["Size"], item["LastModified"], item["ETag"])


def one(aws: Aws, bucket: str, key: str) -> Object | None:
    """The object of exactly this key (s3:HeadObject); None when there is none."""
    try:
        found = aws.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    return Object(key, found["ContentLength"], found["LastModified"], found["ETag"])


def content(aws: Aws, bucket: str, item: Object) -> Iterator[bytes]:
    """What is in an object, piece by piece; of the version that was listed, or an error."""
    answer = aws.s3.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag)
    yield from answer["Body"].iter_chunks(1 << 20)


def upload(aws: Aws, bucket: str, uploads: Iterable[Upload], tell: Tell) -> int:
    """Upload all, in parallel; answers how many. An object appears whole or not at all: interrupted parts are thrown away.

    Raises ScarError naming each file that did not arrive.
    """
    with Carriers(aws, bucket) as carriers:

        def start(item: Upload) -> Future[None]:
            bytes_ = item.path.stat().st_size
            heard = functools.partial(_heard, tell, item.key, bytes_)
            return carriers.put(item.path, bytes_, item.key, _content_type(item.key), heard)

        return _all(((str(item.path), start, item) for item in uploads), "not uploaded")


def download(aws: Aws, bucket: str, downloads: Iterable[Download], tell: Tell) -> int:
    """Download all, in parallel. A file appears whole or not at all, and is the version that was listed."""
    with Carriers(aws, bucket) as carriers:

        def start(item: Download) -> Future[None]:
            heard = functools.partial(_heard, tell, item.object.key, item.object.size)
            return carriers.get(item.object, item.path, heard)

        return _all(((item.object.key, start, item) for item in downloads), "not downloaded")


def _heard(tell: Tell, key: str, total: int, done: int) -> None:
    tell(done, total, key)


T = TypeVar("T")


def _all(items: Iterable[tuple[str, Callable[[T], Future[None]], T]], what: str) -> int:
    """Start each, a bounded number ahead of the oldest that is under way, so that a million take no more memory than a thousand."""
    failed: list[str] = []
    first: Exception | None = None
    count = 0
    ahead: deque[tuple[str, Future[None]]] = deque()

    def settle(name: str, result: Callable[[], object]) -> object:
        nonlocal first
        try:
            return result()
        except Exception as error:  # noqa: BLE001 - one bad file must not hide the fate of the others
            first = first or error
            failed.append(f"{name}: {error}")
            return None

    for count, (name, start, item) in enumerate(items, 1):  # noqa: B007 - the last count is the answer
        future = settle(name, functools.partial(start, item))
        if isinstance(future, Future):
            ahead.append((name, future))
        if len(ahead) >= _AHEAD:
            oldest, under_way = ahead.popleft()
            settle(oldest, under_way.result)
    for name, future in ahead:
        settle(name, future.result)
    if first is not None and count == 1:
        raise first
    if failed:
        shown = "\n  ".join(failed[:10]) + (f"\n  … and {len(failed) - 10} more" if len(failed) > 10 else "")
        kind = type(told(first, "")) if isinstance(first, ClientError | BotoCoreError) else ScarError
        raise kind(f"{len(failed)} of {count} {what}:\n  {shown}") from first
    return count


def same(path: Path, item: Object) -> bool:
    """Whether a file is what the object is, as far as size and ETag can tell: encrypted with KMS an object's ETag tells nothing."""
    return digests.matches(path, item.etag, item.size)


def _content_type(key: str) -> str | None:
    kind, encoding = mimetypes.guess_type(key)
    return kind if not encoding else None
