"""What a job of a function is: image, resources, roles, retries. A definition's name says its content, so it never changes.

Another content is another definition; jobs that were submitted keep theirs. Those that are no longer the function's are deregistered
once nothing submits to them any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import is_absent
from scar.aws.resources import batch_states as states
from scar.aws.tags import Pairs
from scar.plan.resource import Id

if TYPE_CHECKING:
    from mypy_boto3_batch.type_defs import JobDefinitionTypeDef

KIND: Final = "job definition"
OLD_KIND: Final = "old job definitions"


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """`request` is RegisterJobDefinition's parameters without name and tags, as canonical JSON; the name tells it."""

    name: str
    function: str
    request: str
    tags: Pairs
    after: tuple[Id, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> Id:
        return Id(KIND, self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    def read(self, aws: Aws) -> JobDefinition | None:
        active = list(self._active(aws))
        if not active:
            return None
        for one in active:
            tags.ours_only(_tags(one), str(self.id), self.function)
        return replace(self, tags=_tags(max(active, key=lambda one: one["revision"])))

    def create(self, aws: Aws) -> None:
        """Registers it unless it is there: an answer may have been lost."""
        if next(self._active(aws), None) is None:
            parameters: dict[str, Any] = json.loads(self.request)
            aws.batch.register_job_definition(jobDefinitionName=self.name, tags=tags.written(self.tags), **parameters)

    def update(self, aws: Aws, actual: JobDefinition) -> None:
        for one in self._active(aws):
            states.retag(aws, one["jobDefinitionArn"], _tags(one), self.tags)

    def delete(self, aws: Aws) -> None:
        for one in list(self._active(aws)):
            _deregister(aws, one["jobDefinitionArn"])

    def _active(self, aws: Aws) -> Iterator[JobDefinitionTypeDef]:
        pages = aws.batch.get_paginator("describe_job_definitions").paginate(
            jobDefinitionName=self.name, status="ACTIVE"
        )
        for page in pages:
            yield from page["jobDefinitions"]


@dataclass(frozen=True, slots=True)
class OldDefinitions:
    """The registered definitions of a function but those to `keep`. It exists while there is one; deleting it deregisters them.

    Batch lists definitions by exact name or all of them, so all are read, a hundred a call.
    """

    function: str
    keep: frozenset[str] = field(default=frozenset(), compare=False)
    found: tuple[str, ...] = ()
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id(OLD_KIND, self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    @property
    def note(self) -> str:
        return f"{len(self.found)}" if self.found else ""

    def read(self, aws: Aws) -> OldDefinitions | None:
        pages = aws.batch.get_paginator("describe_job_definitions").paginate(
            status="ACTIVE", PaginationConfig={"PageSize": 100}
        )
        found = tuple(
            one["jobDefinitionArn"]
            for page in pages
            for one in page["jobDefinitions"]
            if names.is_job_definition_of(self.function, one["jobDefinitionName"])
            and one["jobDefinitionName"] not in self.keep
            and tags.is_ours(_tags(one), self.function)
        )
        return replace(self, found=found) if found else None

    def create(self, aws: Aws) -> None:
        raise AssertionError("old definitions are only ever removed")

    def update(self, aws: Aws, actual: OldDefinitions) -> None:
        raise AssertionError("old definitions are only ever removed")

    def delete(self, aws: Aws) -> None:
        for arn in self.found:
            _deregister(aws, arn)


def _deregister(aws: Aws, arn: str) -> None:
    try:
        aws.batch.deregister_job_definition(jobDefinition=arn)
    except ClientError as error:
        if not is_absent(error):
            raise


def _tags(definition: JobDefinitionTypeDef) -> Pairs:
    return tags.pairs(definition.get("tags") or {})
