"""S3: names of buckets and keys, sizes of metadata, access control lists on buckets that have none."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from scar.limits import BUCKET_NAME_PATTERN, KIB, OBJECT_KEY_BYTES
from scar.local.address import S3Address
from scar.local.refusal import RefusalError

Environ = dict[str, Any]

METADATA_BYTES: Final = 2 * KIB  # AmazonS3/latest/userguide/UsingMetadata: names and values of x-amz-meta-* together
OBJECT_TAGS: Final = 10
_OWNERS_ACLS: Final = frozenset({"", "private", "bucket-owner-full-control"})


def check(method: str, address: S3Address, environ: Environ) -> None:
    creates_bucket = method == "PUT" and not address.key and not address.query
    if creates_bucket and not re.fullmatch(BUCKET_NAME_PATTERN, address.bucket):
        raise RefusalError(400, "InvalidBucketName", "The specified bucket is not valid.")
    if len(address.key.encode()) > OBJECT_KEY_BYTES:
        raise RefusalError(400, "KeyTooLongError", "Your key is too long")
    if method in ("PUT", "POST") and _metadata_bytes(environ) > METADATA_BYTES:
        raise RefusalError(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    _check_tags(environ.get("HTTP_X_AMZ_TAGGING", ""))
    if method == "PUT" and not creates_bucket and _grants(environ) and not _takes_acls(address.bucket):
        raise RefusalError(400, "AccessControlListNotSupported", "The bucket does not allow ACLs")


def _check_tags(header: str) -> None:
    """Before the object is stored; moto looks at its tags afterwards. Source: AmazonS3/latest/userguide/object-tagging."""
    tags = parse_qsl(header, keep_blank_values=True)
    if len(tags) > OBJECT_TAGS:
        raise RefusalError(400, "BadRequest", f"Object tags cannot be greater than {OBJECT_TAGS}")
    for name, value in tags:
        if name.startswith("aws:") or not 1 <= len(name) <= 128 or len(value) > 256:
            raise RefusalError(400, "InvalidTag", "The tag provided was not a valid tag.")
    if len({name for name, _ in tags}) < len(tags):
        raise RefusalError(400, "InvalidArgument", "The header 'x-amz-tagging' shall not contain a tag name twice")


def _metadata_bytes(environ: Environ) -> int:
    prefix = "HTTP_X_AMZ_META_"
    return sum(len(name) - len(prefix) + len(value) for name, value in environ.items() if name.startswith(prefix))


def _grants(environ: Environ) -> bool:
    named = environ.get("HTTP_X_AMZ_ACL", "") not in _OWNERS_ACLS
    return named or any(name.startswith("HTTP_X_AMZ_GRANT_") for name in environ)


def _takes_acls(bucket_name: str) -> bool:
    """Since April 2023 a bucket's ACLs are off until its owner turns them on (userguide/about-object-ownership)."""
    from scar.local.s3_keys import find_bucket

    bucket = find_bucket(bucket_name)
    if bucket is None:
        return True  # moto says NoSuchBucket
    rules = (bucket.ownership_rule or {}).get("Rule", {})
    for rule in rules if isinstance(rules, list) else [rules]:
        if rule.get("ObjectOwnership", "BucketOwnerEnforced") != "BucketOwnerEnforced":
            return True
    return False
