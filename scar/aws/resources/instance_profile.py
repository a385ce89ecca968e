"""The instance profile through which the machines of a compute environment come by their role."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.batch_share import Leaving
from scar.aws.tags import Pairs
from scar.plan.resource import Id


@dataclass(frozen=True, slots=True)
class InstanceProfile:
    """`role` is the one role in it; '' for a profile without one, or one that is looked for by name (what is not ours is not there then).

    `shared` is the label of functions that share it; `leaving` is then how it goes.
    """

    name: str
    role: str
    function: str
    shared: str | None
    tags: Pairs
    leaving: Leaving | None = field(default=None, compare=False)
    after: tuple[Id, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return Id("instance profile", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("role", self.role), *self.after) if self.role else self.after

    def read(self, aws: Aws) -> InstanceProfile | None:
        try:
            found = aws.iam.get_instance_profile(InstanceProfileName=self.name)["InstanceProfile"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        owned = tags.pairs_of(found.get("Tags", ()))
        if not self.role and not tags.is_ours(owned, self.function, self.shared):
            return None
        tags.ours_only(owned, str(self.id), self.function, self.shared)
        return replace(self, role="".join(role["RoleName"] for role in found["Roles"][:1]), tags=owned)

    def create(self, aws: Aws) -> None:
        try:
            aws.iam.create_instance_profile(InstanceProfileName=self.name, Tags=tags.key_values(self.tags))
        except ClientError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
            actual = self.read(aws)
            if actual is None:
                raise
            return self.update(aws, actual)
        return self._add(aws)

    def update(self, aws: Aws, actual: InstanceProfile) -> None:
        if actual.role != self.role:
            if actual.role:
                self._take_out(aws, actual.role)
            self._add(aws)
        if actual.tags != self.tags:
            aws.iam.tag_instance_profile(InstanceProfileName=self.name, Tags=tags.key_values(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.iam.untag_instance_profile(InstanceProfileName=self.name, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        if self.leaving is not None and self.leaving.stays(aws):
            return
        if self.role:
            self._take_out(aws, self.role)
        try:
            aws.iam.delete_instance_profile(InstanceProfileName=self.name)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _add(self, aws: Aws) -> None:
        """A profile holds one role: LimitExceeded says that it is there already, from an answer that was lost or another's hand."""
        try:
            aws.iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.role)
        except ClientError as error:
            if code_of(error) != "LimitExceeded":
                raise
            actual = self.read(aws)
            if actual is None or actual.role != self.role:
                raise

    def _take_out(self, aws: Aws, role: str) -> None:
        try:
            aws.iam.remove_role_from_instance_profile(InstanceProfileName=self.name, RoleName=role)
        except ClientError as error:
            if not is_absent(error):
                raise
