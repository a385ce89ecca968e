"""The URL of one function: Lambda's own HTTP endpoint, with leave to call it where everyone may.

Who is in the account needs no statement of the function's policy: IAM lets him call `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction`,
or does not. Everyone else needs both as statements; source: lambda/latest/dg/urls-auth (both since October 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.grant import Grant
from scar.plan.resource import Id

_TYPES: Final = {"iam": "AWS_IAM", "none": "NONE"}
BUFFERED: Final = "BUFFERED"


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """`granted`: everyone has leave to call it if `auth` is `none`, and nobody else if not. No page of another site may: CORS is off."""

    function: str
    auth: str
    granted: bool = True
    mode: str = BUFFERED
    cors: bool = False

    @property
    def id(self) -> Id:
        return Id("function url", self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (self.within,)

    @property
    def within(self) -> Id:
        return Id("function", self.function)

    @property
    def note(self) -> str:
        return self.aloud or "callers sign their requests"

    @property
    def aloud(self) -> str:
        return "public: anyone on the internet can run it" if self.auth == "none" else ""

    def read(self, aws: Aws) -> FunctionUrl | None:
        try:
            found = aws.lambda_.get_function_url_config(FunctionName=self.function)
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        auth = next((name for name, wire in _TYPES.items() if wire == found["AuthType"]), found["AuthType"])
        return replace(
            self,
            auth=auth,
            granted=self._is_granted(aws),
            mode=str(found.get("InvokeMode", BUFFERED)).upper(),
            cors=bool(found.get("Cors")),
        )

    def create(self, aws: Aws) -> None:
        """Leave to call it is given last: whoever finds leave finds the URL."""
        try:
            aws.lambda_.create_function_url_config(
                FunctionName=self.function,
                AuthType=_TYPES[self.auth],  # type: ignore[arg-type]  # AWS's two words
                InvokeMode=BUFFERED,
            )
        except ClientError as error:
            if code_of(error) != "ResourceConflictException":
                raise
            actual = self.read(aws)  # an answer that was lost, or another's
            if actual is not None:
                self.update(aws, actual)
                return
            raise
        self._grant(aws)

    def update(self, aws: Aws, actual: FunctionUrl) -> None:
        if self.auth != "none" and not actual.granted:
            self._revoke(aws)
        if replace(actual, granted=self.granted) != self:
            aws.lambda_.update_function_url_config(
                FunctionName=self.function,
                AuthType=_TYPES[self.auth],  # type: ignore[arg-type]  # AWS's two words
                InvokeMode=BUFFERED,
                Cors={},
            )
        self._grant(aws)

    def delete(self, aws: Aws) -> None:
        self._revoke(aws)
        try:
            aws.lambda_.delete_function_url_config(FunctionName=self.function)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _is_granted(self, aws: Aws) -> bool:
        given = [grant.given(aws) for grant in self._grants()]
        return all(given) if self.auth == "none" else not any(given)

    def _grant(self, aws: Aws) -> None:
        if self.auth == "none":
            for grant in self._grants():
                grant.give(aws)

    def _revoke(self, aws: Aws) -> None:
        for grant in self._grants():
            grant.take(aws)

    def _grants(self) -> tuple[Grant, Grant]:
        return (
            Grant(self.function, "scar-url", action="lambda:InvokeFunctionUrl", url_auth="NONE"),
            Grant(self.function, "scar-url-invoke", via_url=True),
        )
