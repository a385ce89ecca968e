"""A function's log group: made before the function, so that its role need not be allowed to make one."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.tags import Pairs
from scar.plan.resource import Id


@dataclass(frozen=True, slots=True)
class LogGroup:
    """`retention_days` is None for logs that are kept for ever. A group that Lambda made by itself is taken over."""

    name: str
    arn: str
    retention_days: int | None
    tags: Pairs

    @property
    def id(self) -> Id:
        return Id("log group", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return ()

    def read(self, aws: Aws) -> LogGroup | None:
        pages = aws.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=self.name)
        for page in pages:
            for group in page["logGroups"]:
                if group["logGroupName"] == self.name:
                    found = aws.logs.list_tags_for_resource(resourceArn=self.arn)["tags"]
                    return LogGroup(self.name, self.arn, group.get("retentionInDays"), tags.pairs(found))
        return None

    def create(self, aws: Aws) -> None:
        try:
            aws.logs.create_log_group(logGroupName=self.name, tags=tags.written(self.tags))
        except ClientError as error:
            if code_of(error) != "ResourceAlreadyExistsException":
                raise
            aws.logs.tag_resource(resourceArn=self.arn, tags=tags.written(self.tags))
        self._put_retention(aws)

    def update(self, aws: Aws, actual: LogGroup) -> None:
        if actual.retention_days != self.retention_days:
            self._put_retention(aws)
        if actual.tags != self.tags:
            aws.logs.tag_resource(resourceArn=self.arn, tags=tags.written(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.logs.untag_resource(resourceArn=self.arn, tagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        try:
            aws.logs.delete_log_group(logGroupName=self.name)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _put_retention(self, aws: Aws) -> None:
        if self.retention_days is not None:
            aws.logs.put_retention_policy(logGroupName=self.name, retentionInDays=self.retention_days)
        else:
            aws.logs.delete_retention_policy(logGroupName=self.name)
