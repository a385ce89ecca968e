"""Mutual exclusion between scar processes, by conditional writes to one object of the state bucket.

A lease is an object with a random body. It is taken with `If-None-Match: *`, and from a holder that died with `If-Match` on the
entity tag that has not changed for LEASE_S seconds of the *waiter's* clock, so no two clocks are ever compared.

A holder may be slow rather than dead. So it writes only while its lease is `fresh`, and who has taken over looks again, once a write that was
under way must have come.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.wait import Clock, until

LEASE_S: Final = 10.0  # what it guards takes well under two
WAIT_S: Final = 120.0
_REFUSED: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


@dataclass(frozen=True, slots=True)
class Lease:
    """`taken_over`: from a holder that did not give it back."""

    etag: str | None
    taken_over: bool
    clock: Clock
    taken_at: float

    @property
    def fresh(self) -> bool:
        """Nobody can have taken it over, nor will while one request lasts."""
        return self.clock.monotonic() - self.taken_at < LEASE_S / 2


@contextmanager
def held(aws: Aws, bucket: str, key: str) -> Iterator[Lease]:
    """Hold the lease inside the block. Without a state bucket there is nobody to exclude and nothing to hold."""
    lease = _take(aws, bucket, key)
    try:
        yield lease
    finally:
        if lease.etag is not None:
            _release(aws, bucket, key, lease.etag)


def _take(aws: Aws, bucket: str, key: str) -> Lease:
    seen: str | None = None
    seen_at = aws.clock.monotonic()

    def attempt() -> Lease | None:
        nonlocal seen, seen_at
        now_s = aws.clock.monotonic()
        expired = seen is not None and now_s - seen_at >= LEASE_S
        try:
            return Lease(_put(aws, bucket, key, over=seen if expired else None), expired, aws.clock, now_s)
        except ClientError as error:
            if code_of(error) == "NoSuchBucket":
                return Lease(None, False, aws.clock, now_s)
            if code_of(error) not in _REFUSED and not is_absent(error):
                raise
        now = _etag(aws, bucket, key)
        if now != seen:
            seen, seen_at = now, aws.clock.monotonic()
        return None

    return until(attempt, deadline_s=WAIT_S, what=f"another scar to finish with {key}", clock=aws.clock)


def _put(aws: Aws, bucket: str, key: str, *, over: str | None) -> str:
    body = secrets.token_hex(16).encode()
    if over is None:
        answer = aws.s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", ExpectedBucketOwner=aws.account)
    else:
        answer = aws.s3.put_object(Bucket=bucket, Key=key, Body=body, IfMatch=over, ExpectedBucketOwner=aws.account)
    return answer["ETag"]


def _etag(aws: Aws, bucket: str, key: str) -> str | None:
    try:
        return aws.s3.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=aws.account)["ETag"]
    except ClientError as error:
        if is_absent(error):
            return None
        raise


def _release(aws: Aws, bucket: str, key: str, etag: str) -> None:
    """Only ours: one that was taken over meanwhile is its new holder's."""
    try:
        aws.s3.delete_object(Bucket=bucket, Key=key, IfMatch=etag, ExpectedBucketOwner=aws.account)
    except ClientError as error:
        if code_of(error) not in _REFUSED and not is_absent(error):
            raise
