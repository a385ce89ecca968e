"""How an event that Lambda has given up on comes back to its function: a rule of EventBridge, whose target the function is.

Lambda takes no function as its own destination ("You can't specify the function as a destination for itself."), but it takes the account's
default event bus. The rule picks this function's failures there, and hands on what Lambda wrote of each, as a destination would get it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.permission import statements
from scar.aws.tags import Pairs
from scar.plan.resource import Id

KIND: Final = "failure rule"
_TARGET: Final = "function"  # the one target's id
_STATEMENT: Final = "scar-failures"
# What Lambda puts onto the bus. Source: lambda/latest/dg/invocation-async-retain-records
_FAILED: Final = "Lambda Function Invocation Result - Failure"
_WHAT_LAMBDA_WROTE: Final = "$.detail"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """`whole` unless the pattern, the target or the leave to invoke is not as it should be: then all are made anew.

    Without `tags` it is looked for by name, and what is not ours is not there.
    """

    name: str
    arn: str
    function: str
    function_arn: str
    tags: Pairs
    whole: bool = True
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id(KIND, self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (Id("function", self.function), *self.after)

    @property
    def note(self) -> str:
        return "what Lambda gives up on comes back, to be handed over"

    def read(self, aws: Aws) -> FailureRule | None:
        try:
            found = aws.events.describe_rule(Name=self.name)
            owned = tags.pairs_of(aws.events.list_tags_for_resource(ResourceARN=self.arn)["Tags"])
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        if not self.tags and not tags.is_ours(owned, self.function):
            return None
        tags.ours_only(owned, str(self.id), self.function)
        return replace(self, tags=owned, whole=self._is_whole(aws, found))

    def create(self, aws: Aws) -> None:
        """The target comes last: from then on failures arrive."""
        if self.read(aws) is None:
            aws.events.put_rule(
                Name=self.name, EventPattern=self._pattern, State="ENABLED", Tags=tags.key_values(self.tags)
            )
        else:  # tags of a rule that is there are not taken by PutRule
            aws.events.put_rule(Name=self.name, EventPattern=self._pattern, State="ENABLED")
            aws.events.tag_resource(ResourceARN=self.arn, Tags=tags.key_values(self.tags))
        self._permit(aws)
        target = {"Id": _TARGET, "Arn": self.function_arn, "InputPath": _WHAT_LAMBDA_WROTE}
        aws.events.put_targets(Rule=self.name, Targets=[target])

    def update(self, aws: Aws, actual: FailureRule) -> None:
        self.create(aws)
        if surplus := tags.removed(actual.tags, self.tags):
            aws.events.untag_resource(ResourceARN=self.arn, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        """The leave to invoke goes first: without the rule nobody would look for it any more."""
        self._forbid(aws)
        try:
            aws.events.remove_targets(Rule=self.name, Ids=[_TARGET])
            aws.events.delete_rule(Name=self.name)
        except ClientError as error:
            if not is_absent(error):
                raise

    @property
    def _pattern(self) -> str:
        wanted = {
            "source": ["lambda"],
            "detail-type": [_FAILED],
            "detail": {"requestContext": {"functionArn": [f"{self.function_arn}:$LATEST"]}},
        }
        return json.dumps(wanted, sort_keys=True)

    def _is_whole(self, aws: Aws, found: dict[str, Any]) -> bool:
        targets = aws.events.list_targets_by_rule(Rule=self.name)["Targets"]
        arrives = [(each["Arn"], each.get("InputPath")) for each in targets]
        return (
            found.get("State") == "ENABLED"
            and json.loads(found.get("EventPattern") or "{}") == json.loads(self._pattern)
            and arrives == [(self.function_arn, _WHAT_LAMBDA_WROTE)]
            and any(each.get("Sid") == _STATEMENT for each in statements(aws, self.function))
        )

    def _permit(self, aws: Aws) -> None:
        try:
            aws.lambda_.add_permission(
                FunctionName=self.function,
                StatementId=_STATEMENT,
                Action="lambda:InvokeFunction",
                Principal="events.amazonaws.com",
                SourceArn=self.arn,
            )
        except ClientError as error:
            if code_of(error) != "ResourceConflictException":
                raise

    def _forbid(self, aws: Aws) -> None:
        try:
            aws.lambda_.remove_permission(FunctionName=self.function, StatementId=_STATEMENT)
        except ClientError as error:
            if not is_absent(error):
                raise
