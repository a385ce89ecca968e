"""A bucket that the user's files come from or go to: made if it is absent, and from then on the user's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources import buckets
from scar.aws.resources.state_bucket import has
from scar.errors import ConflictError
from scar.plan.resource import Id

# What a run that was killed in the middle of a large upload leaves: parts that nobody sees and everybody pays for.
# Source: AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config
UNFINISHED_UPLOADS_DAYS: Final = 7
LIFECYCLE: Final = {
    "Rules": [
        {
            "ID": "unfinished uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOADS_DAYS},
        }
    ]
}


@dataclass(frozen=True, slots=True)
class UserBucket:
    """One that exists is left exactly as it is. None is ever deleted here: `delete` does nothing.

    While scar makes a bucket the state bucket bears a mark; a bucket with a mark is one whose making was cut short. `local`
    asks that it be in our region and account, as AWS demands of a bucket that notifies a function or holds its code.
    """

    name: str
    state_bucket: str
    local: bool = field(default=True, compare=False)
    finished: bool = True

    @property
    def id(self) -> Id:
        return Id("bucket", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("state bucket", self.state_bucket),)

    @property
    def note(self) -> str:
        return "new; rm leaves it"

    def read(self, aws: Aws) -> UserBucket | None:
        try:
            head = aws.s3.head_bucket(Bucket=self.name)
        except ClientError as error:
            if is_absent(error):
                return None
            if code_of(error) == "403":
                raise ConflictError(
                    f"bucket {self.name} exists and these credentials may not use it",
                    fix="Bucket names are shared by all of AWS: choose another, or ask its owner for access.",
                ) from error
            raise
        region = head.get("BucketRegion", aws.region)
        if self.local and region != aws.region:
            raise ConflictError(
                f"bucket {self.name} is in {region}, the function in {aws.region}: it takes its input and its code from buckets of its own region only",
                fix=f"Set `region: {region}` for the function, or use a bucket in {aws.region}.",
            )
        return replace(self, finished=not has(aws, self.state_bucket, self._mark))

    def create(self, aws: Aws) -> None:
        state = {"Bucket": self.state_bucket, "ExpectedBucketOwner": aws.account, "Key": self._mark}
        aws.s3.put_object(**state)  # type: ignore[arg-type]  # every value is a str
        buckets.create(aws, self.name)
        buckets.secure(aws, self.name)
        lifecycle: Any = LIFECYCLE
        aws.s3.put_bucket_lifecycle_configuration(
            Bucket=self.name, ExpectedBucketOwner=aws.account, LifecycleConfiguration=lifecycle
        )
        buckets.tag(aws, self.name, tags.written(tags.pairs({tags.CREATED_BY: tags.SCAR})))
        aws.s3.delete_object(**state)  # type: ignore[arg-type]  # every value is a str

    def update(self, aws: Aws, actual: UserBucket) -> None:
        """Finish what was cut short: the only way in which one of ours can differ."""
        self.create(aws)

    def delete(self, aws: Aws) -> None:
        """Never: it holds the user's data."""

    @property
    def _mark(self) -> str:
        return f"{names.CREATING_PREFIX}{self.name}"
