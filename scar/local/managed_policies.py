"""AWS's own IAM policies: moto knows them all, but has them in an account only when it is told to load all 1,400 at its start.

Here one comes into the account when it is first attached to something.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend

_OWNED_BY_AWS: Final = "arn:aws:iam::aws:policy/"
_ATTACHING: Final = ("attach_role_policy", "attach_group_policy", "attach_user_policy")


def install() -> None:
    """Hook the attaching of policies."""
    for name in _ATTACHING:
        setattr(IAMBackend, name, _after_loading(getattr(IAMBackend, name)))


def _after_loading(attach: Callable[[Any, str, str], Any]) -> Callable[[Any, str, str], Any]:
    @functools.wraps(attach)
    def attached(backend: Any, policy_arn: str, whom: str) -> Any:
        if policy_arn.startswith(_OWNED_BY_AWS) and policy_arn not in backend.managed_policies:
            name = policy_arn.rpartition("/")[2]
            told = _policies().get(name)
            if told is not None:
                policy = AWSManagedPolicy.from_data(name, backend.account_id, backend.region_name, dict(told))
                backend.managed_policies[policy.arn] = policy
        return attach(backend, policy_arn, whom)

    return attached


@functools.cache
def _policies() -> Mapping[str, Mapping[str, Any]]:
    policies: Mapping[str, Mapping[str, Any]] = json.loads(aws_managed_policies_data)
    return policies
