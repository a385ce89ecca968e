"""One statement of a function's own policy, which lets somebody else than a bucket invoke it: who, and by which way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.permission import statements

# How AddPermission calls what the policy then has as a condition; source: lambda/latest/dg/urls-auth, and botocore's AddPermission
_CONDITIONS: Final = {
    "source_arn": ("SourceArn", "aws:sourcearn"),
    "url_auth": ("FunctionUrlAuthType", "lambda:functionurlauthtype"),
    "via_url": ("InvokedViaFunctionUrl", "lambda:invokedviafunctionurl"),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """`principal` is a service, or `*`; the rest are conditions, absent where None."""

    function: str
    sid: str
    action: str = "lambda:InvokeFunction"
    principal: str = "*"
    source_arn: str | None = None
    url_auth: str | None = None
    via_url: bool | None = None

    def given(self, aws: Aws) -> bool:
        """Whether the policy has exactly this under our name."""
        return any(
            statement.get("Sid") == self.sid and self._is(statement) for statement in statements(aws, self.function)
        )

    def give(self, aws: Aws) -> None:
        try:
            self._add(aws)
        except ClientError as error:
            if code_of(error) != "ResourceConflictException":
                raise
            if not self.given(aws):
                self.take(aws)
                self._add(aws)

    def take(self, aws: Aws) -> None:
        """What stands under our name goes; absent is success."""
        try:
            aws.lambda_.remove_permission(FunctionName=self.function, StatementId=self.sid)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _add(self, aws: Aws) -> None:
        conditions: dict[str, Any] = {
            wire: value for name, (wire, _) in _CONDITIONS.items() if (value := getattr(self, name)) is not None
        }
        aws.lambda_.add_permission(
            FunctionName=self.function,
            StatementId=self.sid,
            Action=self.action,
            Principal=self.principal,
            **conditions,
        )

    def _is(self, statement: Mapping[str, Any]) -> bool:
        principal = "*" if self.principal == "*" else {"Service": self.principal}
        wanted = {
            key: str(value).lower() if isinstance(value, bool) else value
            for name, (_, key) in _CONDITIONS.items()
            if (value := getattr(self, name)) is not None
        }
        found = {
            key.lower(): value for tests in (statement.get("Condition") or {}).values() for key, value in tests.items()
        }
        return (
            statement.get("Effect") == "Allow"
            and statement.get("Action") == self.action
            and statement.get("Principal") in (principal, {"AWS": principal})
            and found == wanted
        )
