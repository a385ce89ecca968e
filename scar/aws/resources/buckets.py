"""How every bucket that scar makes is made: private, encrypted, owned whole, and reached over TLS only."""

from __future__ import annotations

import json
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of
from scar.aws.wait import until

BUSY_S: Final = 120.0

PUBLIC_ACCESS_BLOCK: Final = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
ENCRYPTION: Final = {
    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}]
}


def tls_only(bucket: str, partition: str) -> dict[str, Any]:
    """The bucket policy that refuses plain HTTP to everyone."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def create(aws: Aws, bucket: str) -> None:
    """Make the bucket in the region of `aws` if this account does not have it yet.

    S3 turns away whoever comes while another makes or deletes a bucket of the name; then it is asked again.
    """
    settings: dict[str, Any] = {"Bucket": bucket, "ObjectOwnership": "BucketOwnerEnforced"}
    if aws.region != "us-east-1":  # the one region that must not be named
        settings["CreateBucketConfiguration"] = {"LocationConstraint": aws.region}

    def attempt() -> bool | None:
        try:
            aws.s3.create_bucket(**settings)
        except ClientError as error:
            if code_of(error) == "OperationAborted":
                return None
            if code_of(error) != "BucketAlreadyOwnedByYou":
                raise
        return True

    until(attempt, deadline_s=BUSY_S, what=f"another to be done with bucket {bucket}", clock=aws.clock)


def secure(aws: Aws, bucket: str) -> None:
    """Every protection that creation itself does not give, each call harmless when repeated. The bucket must be ours."""
    owner: dict[str, Any] = {"Bucket": bucket, "ExpectedBucketOwner": aws.account}
    block: Any = PUBLIC_ACCESS_BLOCK
    encryption: Any = ENCRYPTION
    aws.s3.put_public_access_block(**owner, PublicAccessBlockConfiguration=block)
    aws.s3.put_bucket_encryption(**owner, ServerSideEncryptionConfiguration=encryption)
    aws.s3.put_bucket_policy(**owner, Policy=json.dumps(tls_only(bucket, aws.partition), sort_keys=True))


def tag(aws: Aws, bucket: str, tags: dict[str, str]) -> None:
    tag_set: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
    aws.s3.put_bucket_tagging(Bucket=bucket, ExpectedBucketOwner=aws.account, Tagging={"TagSet": tag_set})
