"""What is too large for an invocation: put into the function's part of the state bucket, and sent as a reference.

The bucket is private and of this account; what lies there under the digest of its content expires after two weeks (resources.state_bucket).
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from faassupervisor.contract import SPILL_FOLDER, Reference
from scar.aws.errors import mapped
from scar.errors import ConflictError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.runs import Place


def put(aws: Aws, where: Place, payload: bytes) -> Reference:
    """Raises ConflictError for a function that was deployed without a place for it."""
    if where.state is None or not where.state.startswith("s3://"):
        raise ConflictError(
            f"{where.function} was deployed by an older SCAR and takes nothing through the state bucket",
            fix="Bring it up to date with `scar init`, or put the data into a bucket: scar put.",
        )
    digest = hashlib.sha256(payload)
    bucket, _, prefix = where.state.removeprefix("s3://").partition("/")
    key = f"{prefix}{SPILL_FOLDER}{digest.hexdigest()}"
    with mapped(f"put the event of {where.function} into s3://{bucket}/{key}"):
        aws.s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=payload,
            ExpectedBucketOwner=aws.account,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
        )
    return Reference(f"s3://{bucket}/{key}", len(payload), digest.hexdigest())
