"""A role that a function, its jobs or their machines run as: one inline policy, and AWS's own policies where it names them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.batch_share import Leaving
from scar.aws.tags import Pairs
from scar.plan.resource import Id

POLICY_NAME: Final = "scar"


@dataclass(frozen=True, slots=True)
class Role:
    """`trust` and `policy` are JSON in canonical form (`canonical`), so that equal documents are equal strings.

    `attached` are the ARNs of managed policies; what others attached beside them is no difference. `shared` is the label of functions that
    share it. Without `trust` it is looked for by name, and what is not ours is not there; `leaving` is then how what is shared goes.
    """

    name: str
    function: str
    trust: str
    policy: str | None
    tags: Pairs
    attached: tuple[str, ...] = ()
    shared: str | None = None
    leaving: Leaving | None = field(default=None, compare=False)
    after: tuple[Id, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return Id("role", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    def read(self, aws: Aws) -> Role | None:
        try:
            role = aws.iam.get_role(RoleName=self.name)["Role"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        found = tags.pairs_of(role.get("Tags", ()))
        if not self.trust and not tags.is_ours(found, self.function, self.shared):
            return None
        tags.ours_only(found, f"role {self.name}", self.function, self.shared)
        return replace(
            self,
            trust=canonical(role["AssumeRolePolicyDocument"]),
            policy=self._read_policy(aws),
            tags=found,
            attached=self._read_attached(aws) if self.attached else (),
        )

    def create(self, aws: Aws) -> None:
        try:
            aws.iam.create_role(
                RoleName=self.name,
                AssumeRolePolicyDocument=self.trust,
                Description=f"What {self._whose} may do (made by scar)",
                Tags=tags.key_values(self.tags),
            )
        except ClientError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
        self._put_policy(aws)
        self._attach(aws, self.attached)

    def update(self, aws: Aws, actual: Role) -> None:
        if actual.trust != self.trust:
            aws.iam.update_assume_role_policy(RoleName=self.name, PolicyDocument=self.trust)
        if actual.policy != self.policy:
            self._put_policy(aws)
        self._attach(aws, (arn for arn in self.attached if arn not in actual.attached))
        if actual.tags != self.tags:
            aws.iam.tag_role(RoleName=self.name, Tags=tags.key_values(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.iam.untag_role(RoleName=self.name, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        """Takes away policies that others attached to it, which would hold it."""
        if self.leaving is not None and self.leaving.stays(aws):
            return
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
            try:
                self._strip(aws)
                aws.iam.delete_role(RoleName=self.name)
            except ClientError as late:  # another who shared it was at it, too
                if not is_absent(late):
                    raise

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

    def _read_attached(self, aws: Aws) -> tuple[str, ...]:
        """Those of ours that are attached, in our order."""
        pages = aws.iam.get_paginator("list_attached_role_policies").paginate(RoleName=self.name)
        found = {policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]}
        return tuple(arn for arn in self.attached if arn in found)

    def _attach(self, aws: Aws, arns: Iterable[str]) -> None:
        for arn in arns:
            aws.iam.attach_role_policy(RoleName=self.name, PolicyArn=arn)

    @property
    def _whose(self) -> str:
        return f"the function {self.function}" if self.shared is None else f"what shares {self.shared}"

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
