"""The account's private bucket for what scar itself must keep: spilled payloads, ledgers, marks of work in progress.

It holds nothing of a user's. All functions of a region share it, each with a mark under `members/`; the one whose mark is the
last takes the bucket with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources import buckets
from scar.aws.tags import Pairs
from scar.errors import ConflictError
from scar.plan.resource import Id

SPILL_DAYS: Final = 14  # twice as long as Batch remembers a job
LIFECYCLE: Final = {
    "Rules": [
        {
            "ID": "spills",
            "Status": "Enabled",
            "Filter": {"Prefix": "functions/"},
            "Expiration": {"Days": SPILL_DAYS},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
        {
            "ID": "code",
            "Status": "Enabled",
            "Filter": {"Prefix": names.CODE_PREFIX},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
        {"ID": "leases", "Status": "Enabled", "Filter": {"Prefix": names.LEASES_PREFIX}, "Expiration": {"Days": 1}},
    ]
}
# Changes with whatever the bucket is set to, so that a newer scar brings an older bucket up to date.
SETTINGS: Final = hashlib.sha256(
    json.dumps([buckets.PUBLIC_ACCESS_BLOCK, buckets.ENCRYPTION, LIFECYCLE, 1], sort_keys=True).encode()
).hexdigest()[:12]
_SETTINGS_KEY: Final = f"settings/{SETTINGS}"


@dataclass(frozen=True, slots=True)
class StateBucket:
    """One function's share of the bucket. It exists when the bucket is set up as today and bears the function's mark.

    The mark lists the buckets that notify the function, those that hold code of it, its places in Batch, the SSM parameters with its
    `credentials` and the kinds of its HTTP `endpoints`, so that they are found when nothing else of it is left. A bucket that ever held
    code stays in the mark, and so does a place, a parameter or a kind: what lies there may not all be gone.
    `batch` has pairs of a place (the name of a queue and its compute environment) and the label under which it is shared, '' if it is not.
    `marked` is False for a bucket that was found without a mark of the function.
    """

    name: str
    function: str
    inputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    batch: Pairs = ()
    credentials: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    marked: bool = field(default=True, compare=False)

    @property
    def id(self) -> Id:
        return Id("state bucket", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return ()

    @property
    def note(self) -> str:
        return f"what is {self.function}'s in it"

    def read(self, aws: Aws) -> StateBucket | None:
        if not has(aws, self.name, _SETTINGS_KEY):
            return None
        found = mark(aws, self.name, self.function)
        if found is None:
            return None
        return replace(
            self,
            inputs=found.inputs,
            code=tuple(bucket for bucket in self.code if bucket in found.code),
            batch=tuple(place for place in self.batch if place in found.batch),
            credentials=tuple(name for name in self.credentials if name in found.credentials),
            endpoints=tuple(kind for kind in self.endpoints if kind in found.endpoints),
        )

    def create(self, aws: Aws) -> None:
        """The mark is written last: whoever finds it finds the bucket complete."""
        if not has(aws, self.name, _SETTINGS_KEY):
            buckets.create(aws, self.name)
            buckets.secure(aws, self.name)
            lifecycle: Any = LIFECYCLE
            aws.s3.put_bucket_lifecycle_configuration(**self._owned(aws), LifecycleConfiguration=lifecycle)
            buckets.tag(aws, self.name, tags.written(tags.pairs({tags.CREATED_BY: tags.SCAR})))
            aws.s3.put_object(**self._owned(aws), Key=_SETTINGS_KEY)
        self._put_mark(aws)

    def update(self, aws: Aws, actual: StateBucket) -> None:
        self._put_mark(aws)

    def present(self, aws: Aws) -> StateBucket | None:
        """What `delete` has to take: this function's mark, or a bucket that nobody's mark holds any more."""
        try:
            found = _read_mark(aws, self.name, self.function)
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                return None if members(aws, self.name) else replace(self, marked=False)
            if is_absent(error):
                return None
            raise
        return replace(
            self,
            inputs=found.inputs,
            code=found.code,
            batch=found.batch,
            credentials=found.credentials,
            endpoints=found.endpoints,
        )

    def delete(self, aws: Aws) -> None:
        """Takes this function's objects, and the whole bucket when no other function is left.

        Other functions' marks are never touched: one that appears meanwhile keeps the bucket.
        """
        try:
            self._empty(aws, names.state_prefix(self.function))
            alone = not members(aws, self.name) - {self.function}
            if alone:
                self._empty(aws, "", but=names.MEMBERS_PREFIX)
            aws.s3.delete_object(**self._owned(aws), Key=self._mark)
            if alone:
                aws.s3.delete_bucket(**self._owned(aws))
        except ClientError as error:
            if not is_absent(error) and code_of(error) != "BucketNotEmpty":
                raise

    @property
    def _mark(self) -> str:
        return _mark_of(self.function)

    def _put_mark(self, aws: Aws) -> None:
        known = mark(aws, self.name, self.function) or Mark()
        code = sorted({*self.code, *known.code})
        batch = {**dict(known.batch), **dict(self.batch)}
        further = {
            "code": code,
            "batch": batch,
            "credentials": sorted({*self.credentials, *known.credentials}),
            "endpoints": sorted({*self.endpoints, *known.endpoints}),
        }
        written = {"inputs": self.inputs, **{name: what for name, what in further.items() if what}}
        aws.s3.put_object(**self._owned(aws), Key=self._mark, Body=json.dumps(written).encode())

    def _owned(self, aws: Aws) -> dict[str, Any]:
        return {"Bucket": self.name, "ExpectedBucketOwner": aws.account}

    def _empty(self, aws: Aws, prefix: str, but: str | None = None) -> None:
        for page in self._pages(aws, prefix):
            keys = [key for key in page if but is None or not key.startswith(but)]
            if not keys:
                continue
            answer = aws.s3.delete_objects(
                **self._owned(aws), Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
            if left := answer.get("Errors"):
                raise ConflictError(
                    f"{len(left)} objects of {self.name} could not be deleted: {left[0].get('Message')}"
                )

    def _pages(self, aws: Aws, prefix: str) -> Iterator[list[str]]:
        paginator = aws.s3.get_paginator("list_objects_v2")
        for page in paginator.paginate(**self._owned(aws), Prefix=prefix):
            if keys := [item["Key"] for item in page.get("Contents", ())]:
                yield keys


@dataclass(frozen=True, slots=True)
class Mark:
    """What the mark of a function lists: buckets that notify it, those that hold code of it, its places in Batch, its credentials, endpoints."""

    inputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    batch: Pairs = ()
    credentials: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()


def mark(aws: Aws, bucket: str, function: str) -> Mark | None:
    """The mark of a function; None when there is no mark, or no state bucket."""
    try:
        return _read_mark(aws, bucket, function)
    except ClientError as error:
        if is_absent(error):
            return None
        raise


def _read_mark(aws: Aws, bucket: str, function: str) -> Mark:
    body = aws.s3.get_object(Bucket=bucket, Key=_mark_of(function), ExpectedBucketOwner=aws.account)["Body"].read()
    found = json.loads(body or b"{}")
    return Mark(
        tuple(found.get("inputs", ())),
        tuple(found.get("code", ())),
        tuple(sorted(found.get("batch", {}).items())),
        tuple(found.get("credentials", ())),
        tuple(found.get("endpoints", ())),
    )


def members(aws: Aws, bucket: str) -> frozenset[str]:
    """Every function that bears a mark here."""
    return listed(aws, bucket, names.MEMBERS_PREFIX)


def listed(aws: Aws, bucket: str, prefix: str) -> frozenset[str]:
    """What stands below a prefix, without it; nothing where there is no bucket."""
    pages = aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, ExpectedBucketOwner=aws.account
    )
    try:
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
    except ClientError as error:
        if is_absent(error):
            return frozenset()
        raise
    return frozenset(key.removeprefix(prefix) for key in found)


def _mark_of(function: str) -> str:
    return f"{names.MEMBERS_PREFIX}{function}"


def has(aws: Aws, bucket: str, key: str) -> bool:
    """Whether the state bucket holds an object. A bucket of that name in another account's hands is a ConflictError."""
    try:
        aws.s3.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=aws.account)
    except ClientError as error:
        if is_absent(error):
            return False
        if code_of(error) == "403" and _is_foreign(aws, bucket):
            raise ConflictError(
                f"bucket {bucket} belongs to another account",
                fix="Its name is reserved for this account's scar; ask AWS support who holds it.",
            ) from error
        raise
    return True


def _is_foreign(aws: Aws, bucket: str) -> bool:
    """A 403 means a stranger's bucket, or no permission to look: listing our own buckets tells which."""
    try:
        pages = aws.s3.get_paginator("list_buckets").paginate(Prefix=bucket)
        return all(item["Name"] != bucket for page in pages for item in page.get("Buckets", ()))
    except ClientError:
        return False  # not allowed to list either: the refusal itself is the better message
