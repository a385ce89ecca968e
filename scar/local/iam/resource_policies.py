"""What does a resource's own policy say? Bucket policies, functions' permissions and repositories' policies, read from moto when asked."""

from __future__ import annotations

import json
from typing import Any

from scar.local.iam.evaluate import Policy


def policy_of(arn: str) -> tuple[Policy | None, str]:
    """The policy of what an ARN names, and the account that owns it ('' where that makes no difference)."""
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return None, ""
    _, _, service, region, account, resource = parts
    match service:
        case "s3":
            return _of_bucket(resource.partition("/")[0])
        case "lambda" if resource.startswith("function:"):
            return _of_function(arn, account, region), account
        case "ecr" if resource.startswith("repository/"):
            return _of_repository(resource.removeprefix("repository/"), account, region), account
        case _:
            return None, ""


def _of_bucket(name: str) -> tuple[Policy | None, str]:
    from moto.s3.models import s3_backends

    where = s3_backends.bucket_accounts.get(name)
    if where is None:
        return None, ""
    partition, account = where
    bucket = s3_backends[account][partition].buckets.get(name)
    return (_parsed(bucket.policy) if bucket is not None and bucket.policy else None), str(account)


def _of_function(arn: str, account: str, region: str) -> Policy | None:
    from moto.awslambda.exceptions import UnknownFunctionException
    from moto.awslambda.models import lambda_backends

    try:
        found = lambda_backends[account][region].get_function(arn)
    except UnknownFunctionException:
        return None
    return {"Statement": list(found.policy.statements)} if found.policy is not None else None


def _of_repository(name: str, account: str, region: str) -> Policy | None:
    from moto.ecr.models import ecr_backends

    found = ecr_backends[account][region].repositories.get(name)
    return _parsed(found.policy) if found is not None and found.policy else None


def _parsed(document: Any) -> Policy:
    parsed: Policy = json.loads(document) if isinstance(document, str | bytes) else document
    return parsed
