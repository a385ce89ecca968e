"""Bucket policies with conditions: moto takes any statement whose condition is not met for a denial, whatever its effect.

A statement whose condition does not hold says nothing, as on AWS. Loopback counts as secure transport, so that the policy which refuses
plain HTTP, and which `init` puts on the buckets it makes, can be kept and read back here. (IAM/latest/UserGuide/reference_policies_elements_condition)
"""

from __future__ import annotations

import json
from typing import Any, Final

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3.models import FakeBucket

_TRUE_HERE: Final = {"aws:securetransport": "true"}


def install() -> None:
    """Hook FakeBucket.get_permission."""
    FakeBucket.get_permission = _get_permission


def _get_permission(self: Any, action: str, resource: str) -> Any:
    if self.policy is None:
        return PermissionResult.NEUTRAL
    document = json.loads(self.policy)
    statements = document["Statement"]
    applying = [_unconditional(s) for s in (statements if isinstance(statements, list) else [statements]) if _holds(s)]
    return IAMPolicy(json.dumps({**document, "Statement": applying})).is_action_permitted(action, resource)


def _unconditional(statement: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Condition"}


def _holds(statement: dict[str, Any]) -> bool:
    """Whether every condition is met; one that cannot be known here is not."""
    return all(
        operator in {"Bool", "BoolIfExists"} and _TRUE_HERE.get(key.lower()) in _texts(wanted)
        for operator, conditions in (statement.get("Condition") or {}).items()
        for key, wanted in conditions.items()
    )


def _texts(wanted: Any) -> set[str]:
    return {str(item).lower() for item in (wanted if isinstance(wanted, list) else [wanted])}
