"""S3: names of buckets and keys."""

from __future__ import annotations

import re
from typing import Any

from scar.limits import BUCKET_NAME_PATTERN, OBJECT_KEY_BYTES
from scar.local.address import S3Address
from scar.local.refusal import Refusal


def check(method: str, address: S3Address, environ: dict[str, Any]) -> None:
    if (
        method == "PUT"
        and not address.key
        and not address.query
        and not re.fullmatch(BUCKET_NAME_PATTERN, address.bucket)
    ):
        raise Refusal(400, "InvalidBucketName", "The specified bucket is not valid.")
    if len(address.key.encode()) > OBJECT_KEY_BYTES:
        raise Refusal(400, "KeyTooLongError", "Your key is too long")
