"""Where moto answers otherwise than AWS, put right for the time of a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3.models import FakeBucket


@contextmanager
def corrected() -> Iterator[None]:
    """moto ignores the conditions of a bucket policy: a refusal of plain HTTP then refuses everything."""
    original = FakeBucket.get_permission
    FakeBucket.get_permission = _permission_over_tls
    try:
        yield
    finally:
        FakeBucket.get_permission = original


def _permission_over_tls(bucket: Any, action: str, resource: str) -> PermissionResult:
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(bucket.policy)
    over_http_only = {"Bool": {"aws:SecureTransport": "false"}}
    policy["Statement"] = [item for item in policy["Statement"] if item.get("Condition") != over_http_only]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)
