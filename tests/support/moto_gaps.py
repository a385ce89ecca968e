"""Where moto answers otherwise than AWS, put right for the time of a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.awslambda.models import LambdaBackend
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.exceptions import NotFoundException
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.s3.models import FakeBucket

from scar.local.http import api_hooks, hooks

_attach = IAMBackend.attach_role_policy
_remove_role = IAMBackend.remove_role_from_instance_profile
_put_config = LambdaBackend.put_function_event_invoke_config


@contextmanager
def corrected() -> Iterator[None]:
    """moto ignores the conditions of a bucket policy: a refusal of plain HTTP then refuses everything. It has AWS's own policies only when
    all of them are loaded, and keeps the first of several configurations for asynchronous events, where AWS keeps the last. It breaks down
    when a role is to leave an instance profile that it is not in. Of REST APIs and functions' URLs it forgets what the local AWS keeps."""
    replaced = [
        (FakeBucket, "get_permission", _permission_over_tls),
        (IAMBackend, "attach_role_policy", _attach_role_policy),
        (IAMBackend, "remove_role_from_instance_profile", _remove_role_from_instance_profile),
        (LambdaBackend, "put_function_event_invoke_config", _put_function_event_invoke_config),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    of_apis, of_urls = api_hooks.install(), hooks.install()
    try:
        yield
    finally:
        of_urls()
        of_apis()
        for owner, name, function in originals:
            setattr(owner, name, function)


def _attach_role_policy(iam: Any, policy_arn: str, role_name: str) -> None:
    if ":iam::aws:policy" in policy_arn and policy_arn not in iam.managed_policies:
        path, _, name = policy_arn.partition(":policy")[2].rpartition("/")
        iam.managed_policies[policy_arn] = AWSManagedPolicy(
            name, account_id=iam.account_id, region=iam.region_name, path=f"{path}/", document="{}"
        )
    _attach(iam, policy_arn, role_name)


def _remove_role_from_instance_profile(iam: Any, profile_name: str, role_name: str) -> None:
    try:
        _remove_role(iam, profile_name, role_name)
    except ValueError:
        raise NotFoundException(f"Role {role_name} in instance profile {profile_name} cannot be found.") from None


def _put_function_event_invoke_config(backend: Any, function_name: str, config: dict[str, Any]) -> Any:
    backend.get_function(function_name).event_invoke_config = []
    return _put_config(backend, function_name, config)


def _permission_over_tls(bucket: Any, action: str, resource: str) -> PermissionResult:
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(bucket.policy)
    over_http_only = {"Bool": {"aws:SecureTransport": "false"}}
    policy["Statement"] = [item for item in policy["Statement"] if item.get("Condition") != over_http_only]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)
