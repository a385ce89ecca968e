"""How does a job get its role's credentials? As on ECS: from an address that only it knows, with a token, renewed while it runs.

The SDKs read AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN; access keys are never in a job's environment.
Source: AmazonECS/latest/developerguide/task-iam-roles, botocore.credentials.ContainerProvider
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scar.local.functions.control import assume_role

_LIFE_S: Final = 6 * 3600.0  # as ECS's
_RENEWED_S: Final = 3600.0


class UnknownRoleError(Exception):
    """IAM has no such role, or it trusts others than ECS's tasks."""


@dataclass(frozen=True, slots=True)
class _Issued:
    account: str
    region: str
    role: str
    token: str


class JobCredentials:
    """Of all jobs that run. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issued: dict[str, _Issued] = {}
        self._sessions: dict[tuple[str, str, str], tuple[float, Mapping[str, str]]] = {}

    def issue(self, *, account: str, region: str, role: str) -> tuple[str, str]:
        """The name under which `answer` has them, and the token it wants. Raises UnknownRoleError."""
        _check_role(account, role)
        name, token = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        with self._lock:
            self._issued[name] = _Issued(account, region, role, token)
        return name, token

    def revoke(self, name: str) -> None:
        with self._lock:
            self._issued.pop(name, None)

    def answer(self, name: str, token: str | None) -> Mapping[str, Any] | None:
        """The document that SDKs read; None for a stranger."""
        with self._lock:
            issued = self._issued.get(name)
            if issued is None or token is None or not hmac.compare_digest(issued.token.encode(), token.encode()):
                return None
            return self._session(issued)

    def _session(self, issued: _Issued) -> Mapping[str, str]:
        """Jobs of one role share a session for a while: moto keeps each for ever."""
        key, now = (issued.account, issued.region, issued.role), time.time()
        made_at, document = self._sessions.get(key, (0.0, {}))
        if not document or now - made_at > _RENEWED_S:
            document = _new_session(issued, now)
            self._sessions[key] = (now, document)
        return document


def _new_session(issued: _Issued, now: float) -> Mapping[str, str]:
    variables = assume_role(
        account=issued.account,
        region=issued.region,
        partition=issued.role.split(":")[1],
        role=issued.role,
        session="scar-local-batch",
    )
    return {
        "RoleArn": issued.role,
        "AccessKeyId": variables["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": variables["AWS_SECRET_ACCESS_KEY"],
        "Token": variables["AWS_SESSION_TOKEN"],
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + _LIFE_S)),
    }


def _check_role(account: str, role: str) -> None:
    from moto.iam.models import iam_backends

    partition = role.split(":")[1] if role.count(":") >= 5 else "aws"
    name = role.rpartition("/")[2]
    found = next((one for one in iam_backends[account][partition].roles.values() if one.name == name), None)
    if found is None or "ecs-tasks.amazonaws.com" not in str(found.assume_role_policy_document):
        raise UnknownRoleError(
            f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role being passed has "
            "the proper trust relationship and permissions and that your IAM user has permissions to pass this role."
        )
