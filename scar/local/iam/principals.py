"""Who has an access key, and which policies are theirs? Read from moto's IAM and STS at the moment of asking: what changes counts at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scar.local.iam.evaluate import Policy, Principal

# The account's own keys. They are no secret: whoever reaches the local AWS is its owner, unless they come with keys of less.
ROOT_KEY: Final = "local"
ACCOUNT: Final = "123456789012"  # moto's


@dataclass(frozen=True, slots=True)
class Known:
    """A key's owner, its secret, and the session token that must come with it."""

    principal: Principal
    secret: str
    token: str | None = None


def root(partition: str) -> Principal:
    arn = f"arn:{partition}:iam::{ACCOUNT}:root"
    return Principal(arn, ACCOUNT, arn, root=True)


def known(key: str, partition: str) -> Known | None:
    """None for a key that nobody has, and for one that was switched off."""
    from moto.iam.models import iam_backends

    if key == ROOT_KEY:
        return Known(root(partition), ROOT_KEY)
    for account, of_account in list(iam_backends.items()):
        backend = of_account[partition]
        found = backend.access_keys.get(key)
        if found is None:
            continue
        if found.role_arn is not None:
            return _session(account, partition, key)
        user = backend.users.get(found.user_name)
        if user is None or found.status != "Active":
            return None
        return Known(_of_user(backend, user, str(account)), str(found.secret_access_key))
    return None


def role(arn: str, *, session: str = "") -> Principal:
    """A role as whoever acts as it. One that is not there has no policies."""
    partition, account, name = arn.split(":")[1], arn.split(":")[4], arn.rpartition("/")[2]
    backend = _iam(account, partition)
    found = next((one for one in list(backend.roles.values()) if one.name == name), None)
    caller = f"arn:{partition}:sts::{account}:assumed-role/{name}/{session}" if session else arn
    if found is None:
        return Principal(caller, account, arn)
    boundary = None
    if found.permissions_boundary_arn:
        boundary = _managed(backend, found.permissions_boundary_arn)
    return Principal(caller, account, str(found.arn), tuple(_policies(found)), boundary)


def trust_of(arn: str) -> Policy:
    """Who may take a role on; nobody one that is not there."""
    account, name = arn.split(":")[4], arn.rpartition("/")[2]
    found = next((one for one in list(_iam(account, arn.split(":")[1]).roles.values()) if one.name == name), None)
    return {"Statement": []} if found is None else _parsed(found.assume_role_policy_document)


def _session(account: str, partition: str, key: str) -> Known | None:
    from moto.sts.models import sts_backends

    sessions = list(sts_backends[account][partition].assumed_roles)
    found = next((one for one in reversed(sessions) if one.access_key_id == key), None)
    if found is None:
        return None
    principal = role(str(found.role_arn), session=str(found.session_name))
    return Known(principal, str(found.secret_access_key), str(found.session_token))


def _of_user(backend: Any, user: Any, account: str) -> Principal:
    groups = [group for group in list(backend.groups.values()) if user in group.users]
    policies = [policy for owner in (user, *groups) for policy in _policies(owner)]
    return Principal(str(user.arn), account, str(user.arn), tuple(policies))


def _policies(owner: Any) -> Iterator[Policy]:
    """Inline ones, then attached ones, in their default version."""
    for document in list(owner.policies.values()):
        yield _parsed(document)
    for policy in list(owner.managed_policies.values()):
        yield _default(policy)


def _default(policy: Any) -> Policy:
    versions = list(policy.versions)
    return _parsed(next(one.document for one in versions if one.version_id == policy.default_version_id))


def _managed(backend: Any, arn: str) -> Policy:
    """A boundary that is not there allows nothing."""
    found = backend.managed_policies.get(arn)
    return {"Statement": []} if found is None else _default(found)


def _parsed(document: Any) -> Policy:
    parsed: Mapping[str, Any] = json.loads(document) if isinstance(document, str) else document
    return parsed


def _iam(account: str, partition: str) -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[account][partition]
