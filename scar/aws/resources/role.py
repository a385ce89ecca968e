"""The role a function runs as, with one inline policy: what it may do and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.tags import Pairs
from scar.plan.resource import Id

POLICY_NAME: Final = "scar"


@dataclass(frozen=True, slots=True)
class Role:
    """`trust` and `policy` are JSON in canonical form (`canonical`), so that equal documents are equal strings."""

    name: str
    function: str
    trust: str
    policy: str | None
    tags: Pairs

    @property
    def id(self) -> Id:
        return Id("role", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return ()

    def read(self, aws: Aws) -> Role | None:
        try:
            role = aws.iam.get_role(RoleName=self.name)["Role"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        found = tags.pairs_of(role.get("Tags", ()))
        tags.ours_only(found, f"role {self.name}", self.function)
        return Role(
            self.name, self.function, canonical(role["AssumeRolePolicyDocument"]), self._read_policy(aws), found
        )

    def create(self, aws: Aws) -> None:
        try:
            aws.iam.create_role(
                RoleName=self.name,
                AssumeRolePolicyDocument=self.trust,
                Description=f"What the function {self.function} may do (made by scar)",
                Tags=tags.key_values(self.tags),
            )
        except ClientError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
        self._put_policy(aws)

    def update(self, aws: Aws, actual: Role) -> None:
        if actual.trust != self.trust:
            aws.iam.update_assume_role_policy(RoleName=self.name, PolicyDocument=self.trust)
        if actual.policy != self.policy:
            self._put_policy(aws)
        if actual.tags != self.tags:
            aws.iam.tag_role(RoleName=self.name, Tags=tags.key_values(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.iam.untag_role(RoleName=self.name, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        """Takes away policies that others attached to it, which would hold it."""
        try:
            aws.iam.delete_role_policy(RoleName=self.name, PolicyName=POLICY_NAME)
        except ClientError as error:
            if not is_absent(error):
                raise
        try:
            aws.iam.delete_role(RoleName=self.name)
        except ClientError as error:
            if is_absent(error):
                return
            if code_of(error) != "DeleteConflict":
                raise
            self._strip(aws)
            aws.iam.delete_role(RoleName=self.name)

    def _read_policy(self, aws: Aws) -> str | None:
        try:
            document = aws.iam.get_role_policy(RoleName=self.name, PolicyName=POLICY_NAME)["PolicyDocument"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return canonical(document)

    def _put_policy(self, aws: Aws) -> None:
        if self.policy is not None:
            aws.iam.put_role_policy(RoleName=self.name, PolicyName=POLICY_NAME, PolicyDocument=self.policy)

    def _strip(self, aws: Aws) -> None:
        for attached in aws.iam.get_paginator("list_attached_role_policies").paginate(RoleName=self.name):
            for policy in attached["AttachedPolicies"]:
                aws.iam.detach_role_policy(RoleName=self.name, PolicyArn=policy["PolicyArn"])
        for inline in aws.iam.get_paginator("list_role_policies").paginate(RoleName=self.name):
            for name in inline["PolicyNames"]:
                aws.iam.delete_role_policy(RoleName=self.name, PolicyName=name)


def canonical(document: Any) -> str:
    """A JSON document, given as text or already parsed, in the one form that compares."""
    parsed = json.loads(document) if isinstance(document, str) else document
    return json.dumps(parsed, sort_keys=True, separators=(",", ":"))
