"""A role that leaves an instance profile twice: AWS says that it is not there, moto breaks down. Two removals at once come upon it."""

from __future__ import annotations

import functools
from typing import Any

from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend


def install() -> None:
    """Hook RemoveRoleFromInstanceProfile."""
    remove = IAMBackend.remove_role_from_instance_profile

    @functools.wraps(remove)
    def removed(backend: Any, profile_name: str, role_name: str) -> None:
        try:
            remove(backend, profile_name, role_name)
        except ValueError as error:
            message = f"Role {role_name} in instance profile {profile_name} cannot be found."
            raise NotFoundException(message) from error

    IAMBackend.remove_role_from_instance_profile = removed
