"""An SSM parameter with the credentials of one storage provider of one function, encrypted with the account's own `aws/ssm` key.

Its value is compared, and neither shown nor told: it has no form that a plan, a message or a log could hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.tags import Pairs
from scar.plan.resource import Id
from scar.secret import Secret

_ENCRYPTED: Final = "SecureString"


@dataclass(frozen=True, slots=True)
class SecretParameter:
    """`value` is a JSON object of strings; None for one that is there in another type than encrypted, and so has to be written anew.

    Without `tags` it is looked for by name, and what is not ours is not there.
    """

    name: str
    function: str
    value: Secret | None = None
    tags: Pairs = ()
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id("credentials", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    @property
    def note(self) -> str:
        return "encrypted; only the function may read them"

    def read(self, aws: Aws) -> SecretParameter | None:
        try:
            found = aws.ssm.get_parameter(Name=self.name, WithDecryption=True)["Parameter"]
            listed = aws.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)["TagList"]
        except ClientError as error:
            if _is_gone(error):
                return None
            raise
        actual = tags.pairs_of(listed)
        if not self.tags and not tags.is_ours(actual, self.function):
            return None
        tags.ours_only(actual, f"SSM parameter {self.name}", self.function)
        value = Secret(found["Value"]) if found["Type"] == _ENCRYPTED else None
        return replace(self, value=value, tags=actual)

    def create(self, aws: Aws) -> None:
        """With its tags in one call: there is never one that is not known to be ours."""
        try:
            self._put(aws, Tags=tags.key_values(self.tags))
        except ClientError as error:
            if code_of(error) != "ParameterAlreadyExists":
                raise
            if (actual := self.read(aws)) is not None:
                self.update(aws, actual)

    def update(self, aws: Aws, actual: SecretParameter) -> None:
        if actual.value != self.value:
            self._put(aws, Overwrite=True)  # tags are not taken together with it: API_PutParameter
        if actual.tags != self.tags:
            of_it = {"ResourceType": "Parameter", "ResourceId": self.name}
            aws.ssm.add_tags_to_resource(**of_it, Tags=tags.key_values(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.ssm.remove_tags_from_resource(**of_it, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        try:
            aws.ssm.delete_parameter(Name=self.name)
        except ClientError as error:
            if not _is_gone(error):
                raise

    def _put(self, aws: Aws, **more: object) -> None:
        assert self.value is not None, "only what was read has none"
        aws.ssm.put_parameter(Name=self.name, Value=self.value.reveal(), Type=_ENCRYPTED, **more)


def found_by_path(aws: Aws, function: str) -> tuple[str, ...]:
    """Names of what is there under the function's path, whoever's it is: for when no mark says what there should be."""
    pages = aws.ssm.get_paginator("get_parameters_by_path").paginate(
        Path=names.secret_parameters(function).rstrip("/"), Recursive=False, WithDecryption=False
    )
    return tuple(found["Name"] for page in pages for found in page["Parameters"])


def _is_gone(error: ClientError) -> bool:
    return is_absent(error) or code_of(error) in {"ParameterNotFound", "InvalidResourceId"}
