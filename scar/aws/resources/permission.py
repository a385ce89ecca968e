"""Leave for one bucket to invoke one function: a statement of the function's own policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from scar.aws import names
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.plan.resource import Id

_INVOKE = "lambda:InvokeFunction"
_S3 = "s3.amazonaws.com"


@dataclass(frozen=True, slots=True)
class InvokePermission:
    """`account` owns the bucket: a name alone could pass to another account once the bucket is deleted.

    `exact` is False for a statement under our name that grants something else.
    """

    function: str
    bucket: str
    bucket_arn: str
    account: str
    exact: bool = True

    @property
    def id(self) -> Id:
        return Id("permission", f"{self.bucket} → {self.function}")

    @property
    def needs(self) -> tuple[Id, ...]:
        return (self.within,)

    @property
    def within(self) -> Id:
        return Id("function", self.function)

    def read(self, aws: Aws) -> InvokePermission | None:
        for statement in statements(aws, self.function):
            if statement.get("Sid") == self._sid:
                return replace(self, exact=self._grants(statement))
        return None

    def create(self, aws: Aws) -> None:
        try:
            self._add(aws)
        except ClientError as error:
            if code_of(error) != "ResourceConflictException":
                raise
            actual = self.read(aws)
            if actual is not None and actual.exact:
                return
            self.delete(aws)
            self._add(aws)

    def update(self, aws: Aws, actual: InvokePermission) -> None:
        self.delete(aws)
        self._add(aws)

    def delete(self, aws: Aws) -> None:
        try:
            aws.lambda_.remove_permission(FunctionName=self.function, StatementId=self._sid)
        except ClientError as error:
            if not is_absent(error):
                raise

    @property
    def _sid(self) -> str:
        return names.statement_id(self.bucket)

    def _add(self, aws: Aws) -> None:
        aws.lambda_.add_permission(
            FunctionName=self.function,
            StatementId=self._sid,
            Action=_INVOKE,
            Principal=_S3,
            SourceArn=self.bucket_arn,
            SourceAccount=self.account,
        )

    def _grants(self, statement: Mapping[str, Any]) -> bool:
        return (
            statement.get("Effect") == "Allow"
            and statement.get("Action") == _INVOKE
            and statement.get("Principal") == {"Service": _S3}
            and _condition(statement, "AWS:SourceAccount") == self.account
            and _condition(statement, "AWS:SourceArn") == self.bucket_arn
        )


def statements(aws: Aws, function: str) -> list[Mapping[str, Any]]:
    """The statements of a function's policy; none when there is no policy or no function."""
    try:
        policy = aws.lambda_.get_policy(FunctionName=function)["Policy"]
    except ClientError as error:
        if is_absent(error):
            return []
        raise
    found: list[Mapping[str, Any]] = json.loads(policy)["Statement"]
    return found


def invoking_buckets(aws: Aws, function: str) -> frozenset[str]:
    """The buckets that a statement of ours lets invoke the function."""
    arns = (
        _condition(statement, "AWS:SourceArn")
        for statement in statements(aws, function)
        if str(statement.get("Sid", "")).startswith("scar-")
    )
    return frozenset(arn.rpartition(":")[2] for arn in arns if arn is not None and ":s3:::" in arn)


def _condition(statement: Mapping[str, Any], key: str) -> str | None:
    """The value that a condition wants, whatever its operator. AWS's own capitals differ from place to place."""
    for tests in (statement.get("Condition") or {}).values():
        for name, value in tests.items():
            if name.lower() == key.lower():
                return str(value)
    return None
