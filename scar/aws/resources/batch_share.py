"""Who uses a place of Batch that several functions share: a mark for each function, in the state bucket.

Whatever is shared (queue, compute environment, instance profile and role) asks here before it goes: a function that leaves takes its own
mark away first and looks for others then, so of two that leave at once at least one sees that none is left, and takes all of it away.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from botocore.exceptions import ClientError

from scar.aws import names
from scar.aws.clients import Aws
from scar.aws.errors import is_absent
from scar.aws.resources import state_bucket
from scar.plan.resource import Id

KIND: Final = "share"


@dataclass(frozen=True, slots=True)
class BatchShare:
    """One function's mark on one shared place. Whatever is shared comes after it: the mark stands before the place is relied on."""

    place: str
    function: str
    state_bucket: str
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return share_id(self.place, self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("state bucket", self.state_bucket),)

    def read(self, aws: Aws) -> BatchShare | None:
        return self if state_bucket.has(aws, self.state_bucket, self._key) else None

    def create(self, aws: Aws) -> None:
        aws.s3.put_object(Bucket=self.state_bucket, Key=self._key, ExpectedBucketOwner=aws.account)

    def update(self, aws: Aws, actual: BatchShare) -> None:
        """A mark has nothing that could differ."""

    def delete(self, aws: Aws) -> None:
        try:
            aws.s3.delete_object(Bucket=self.state_bucket, Key=self._key, ExpectedBucketOwner=aws.account)
        except ClientError as error:
            if not is_absent(error):
                raise

    @property
    def _key(self) -> str:
        return names.shares_prefix(self.place) + self.function


def share_id(place: str, function: str) -> Id:
    return Id(KIND, f"{function} in {place}")


def sharers(aws: Aws, place: str) -> frozenset[str]:
    """Every function that bears a mark on the place."""
    return state_bucket.listed(aws, _bucket(aws), names.shares_prefix(place))


class Leaving:
    """One function's way out of a place, asked by all that is shared there before it goes.

    The first answer holds for all: whoever finds another function there leaves everything to that one, even if it goes meanwhile.
    """

    def __init__(self, place: str, function: str) -> None:
        self.place, self.function = place, function
        self._lock = threading.Lock()
        self._stays: bool | None = None

    def others(self, aws: Aws) -> frozenset[str]:
        return sharers(aws, self.place) - {self.function}

    def stays(self, aws: Aws) -> bool:
        """Take the function's mark away; answers whether anybody else still used the place then."""
        with self._lock:
            if self._stays is None:
                BatchShare(self.place, self.function, _bucket(aws)).delete(aws)
                self._stays = bool(self.others(aws))
            return self._stays


def _bucket(aws: Aws) -> str:
    return names.state_bucket(aws.account, aws.region)
