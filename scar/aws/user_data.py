"""A user's bucket with all that is in it, for the one case in which it is to go: when its owner has named it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.wait import until
from scar.errors import ConflictError

SETTLE_S: Final = 60.0  # while runs that were under way still write into it


def holds_something(aws: Aws, bucket: str) -> bool | None:
    """Whether there is an object, or a version of one; None when there is no such bucket of this account."""
    try:
        answer = aws.s3.list_object_versions(Bucket=bucket, MaxKeys=1, ExpectedBucketOwner=aws.account)
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    return bool(answer.get("Versions") or answer.get("DeleteMarkers"))


def delete(aws: Aws, bucket: str, tell: Callable[[int], None] = lambda count: None) -> int:
    """Every object with all its versions, then the bucket; answers how many objects and versions went. One that is absent is no error.

    `tell` hears how many went, now and then.
    """
    count = 0

    def attempt() -> bool | None:
        nonlocal count
        try:
            for page in _pages(aws, bucket):
                answer = aws.s3.delete_objects(
                    Bucket=bucket,
                    ExpectedBucketOwner=aws.account,
                    Delete={"Objects": page, "Quiet": True},  # type: ignore[typeddict-item]  # keys and versions
                )
                if left := answer.get("Errors"):
                    raise ConflictError(
                        f"{len(left)} objects of bucket {bucket} could not be deleted: {left[0].get('Message', '')}",
                        fix="See who holds them (a retention, a policy), then run the same command again.",
                    )
                count += len(page)
                tell(count)
            aws.s3.delete_bucket(Bucket=bucket, ExpectedBucketOwner=aws.account)
        except ClientError as error:
            if code_of(error) == "BucketNotEmpty":
                return None
            if not is_absent(error):
                raise
        return True

    until(attempt, deadline_s=SETTLE_S, what=f"nothing new to come into bucket {bucket}", clock=aws.clock)
    return count


def _pages(aws: Aws, bucket: str) -> Iterator[list[dict[str, Any]]]:
    """At most a thousand each, as many as one call deletes."""
    pages = aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, ExpectedBucketOwner=aws.account)
    for page in pages:
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            yield [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
