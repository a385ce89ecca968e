"""What Batch asks of the services around it: do this role, this instance profile, these subnets exist? Answered from moto's IAM and EC2.

Each answer is None, or the reason as Batch would tell it of an INVALID environment. Read at the moment of asking: what is made later counts later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

ECS_INSTANCES: Final = "ec2.amazonaws.com"
BATCH: Final = "batch.amazonaws.com"
SPOT_FLEET: Final = "spotfleet.amazonaws.com"


class Surroundings(Protocol):
    """One region of one account, as Batch sees it."""

    def role(self, arn_or_name: str, service: str) -> str | None:
        """Why `service` cannot assume the role."""

    def instance_profile(self, arn_or_name: str) -> str | None:
        """Why machines cannot have the profile."""

    def subnets(self, ids: Iterable[str]) -> str | None: ...

    def security_groups(self, ids: Iterable[str]) -> str | None: ...

    def launch_template(self, id_or_name: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Moto:
    """moto's backends, imported when first asked: EC2's takes a second. `wake` is told before a service of moto's is asked."""

    account: str
    region: str
    wake: Callable[[str], None] = lambda _: None

    def role(self, arn_or_name: str, service: str) -> str | None:
        role = _named(self._iam().get_roles(), arn_or_name)
        if role is not None and service in trusted(str(role.assume_role_policy_document)):
            return None
        # docs.aws.amazon.com/batch/latest/userguide/invalid_compute_environment.html
        return (
            "CLIENT_ERROR - Not authorized to perform sts:AssumeRole "
            f"(Service: AWSSecurityTokenService; Status Code: 403; Error Code: AccessDenied; {_why(role, arn_or_name, service)})"
        )

    def instance_profile(self, arn_or_name: str) -> str | None:
        profile = _named(self._iam().get_instance_profiles(), arn_or_name)
        if profile is None:
            return f"CLIENT_ERROR - Invalid IamInstanceProfile: {arn_or_name}"
        for role in profile.roles:
            if ECS_INSTANCES in trusted(str(role.assume_role_policy_document)):
                return None
            return f"CLIENT_ERROR - {_why(role, str(role.name), ECS_INSTANCES)} (instance profile {arn_or_name})"
        return f"CLIENT_ERROR - Instance profile {arn_or_name} has no role"

    def subnets(self, ids: Iterable[str]) -> str | None:
        known = {name for zone in list(self._ec2().subnets.values()) for name in list(zone)}
        return _missing(ids, known, "The subnet ID '{}' does not exist")

    def security_groups(self, ids: Iterable[str]) -> str | None:
        known = {name for vpc in list(self._ec2().groups.values()) for name in list(vpc)}
        return _missing(ids, known, "The security group '{}' does not exist")

    def launch_template(self, id_or_name: str) -> str | None:
        known = self._ec2().launch_template_name_to_ids
        found = id_or_name in known or id_or_name in list(known.values())
        return None if found else f"CLIENT_ERROR - The launch template '{id_or_name}' does not exist"

    def _iam(self) -> Any:
        from moto.iam.models import iam_backends
        from moto.utilities.utils import get_partition

        return iam_backends[self.account][get_partition(self.region)]

    def _ec2(self) -> Any:
        from moto.ec2.models import ec2_backends

        self.wake("ec2")
        return ec2_backends[self.account][self.region]


def trusted(document: str) -> frozenset[str]:
    """The services that a trust policy lets assume its role."""
    statements = json.loads(document or "{}").get("Statement", [])
    found: set[str] = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow":
            found.update([services] if isinstance(services, str) else services)
    return frozenset(found)


def _named(table: Iterable[Any], arn_or_name: str) -> Any:
    asked = arn_or_name.strip("/")
    for one in list(table):
        if one.arn == asked if asked.startswith("arn:") else asked in {one.name, f"{one.path}{one.name}".strip("/")}:
            return one
    return None


def _why(role: Any, name: str, service: str) -> str:
    return f"there is no role {name}" if role is None else f"the role {name} does not trust {service}"


def _missing(ids: Iterable[str], known: set[str], words: str) -> str | None:
    missing = next((one for one in ids if one not in known), None)
    return None if missing is None else f"CLIENT_ERROR - {words.format(missing)}"
