"""How Lambda treats an event that a function could not take: how often it tries again, for how long, and where it sends it then."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.wait import until
from scar.plan.resource import Id

_OURS: Final = ":event-bus/default"
ROLE_DEADLINE_S: Final = 120.0  # what a policy allows is known to Lambda within seconds, rarely a minute


@dataclass(frozen=True, slots=True)
class InvokeConfig:
    """Of asynchronous events. `on_failure` is the ARN of what is told about an event that is given up on.

    Without it the configuration is looked for by name, and one that does not send such events to the default event bus is not ours (no function can
    be its own destination: see `failure_rule`).

    Lambda tries at most twice again, and keeps an event between a minute and six hours (botocore lambda:MaximumRetryAttempts,
    MaximumEventAgeInSeconds).
    """

    function: str
    on_failure: str
    retries: int = 2
    max_age_s: int = 21_600
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id("invoke config", self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        return (self.within, *self.after)

    @property
    def note(self) -> str:
        return "what Lambda gives up on is told to EventBridge" if self.on_failure else ""

    @property
    def within(self) -> Id:
        return Id("function", self.function)

    def read(self, aws: Aws) -> InvokeConfig | None:
        try:
            found = aws.lambda_.get_function_event_invoke_config(FunctionName=self.function)
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        told = ((found.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination", "")
        if not self.on_failure and not told.endswith(_OURS):
            return None
        return replace(
            self,
            on_failure=told,
            retries=found.get("MaximumRetryAttempts", 2),
            max_age_s=found.get("MaximumEventAgeInSeconds", 21_600),
        )

    def create(self, aws: Aws) -> None:
        """Replaces whatever there is. Asks again while Lambda is busy with the function, or does not yet know what its role may do."""
        refusals: list[str] = []

        def attempt() -> bool | None:
            try:
                aws.lambda_.put_function_event_invoke_config(
                    FunctionName=self.function,
                    MaximumRetryAttempts=self.retries,
                    MaximumEventAgeInSeconds=self.max_age_s,
                    DestinationConfig={"OnFailure": {"Destination": self.on_failure}},
                )
            except ClientError as error:
                if not _comes_to_pass(error):
                    raise
                refusals.append(str(error))
                return None
            return True

        def what() -> str:
            said = refusals[-1] if refusals else "nothing"
            return f"Lambda to accept where the events of {self.function} go that fail; it said: {said}"

        until(attempt, deadline_s=ROLE_DEADLINE_S, what=what, clock=aws.clock)

    def update(self, aws: Aws, actual: InvokeConfig) -> None:
        self.create(aws)

    def delete(self, aws: Aws) -> None:
        try:
            aws.lambda_.delete_function_event_invoke_config(FunctionName=self.function)
        except ClientError as error:
            if not is_absent(error):
                raise


def _comes_to_pass(error: ClientError) -> bool:
    if code_of(error) == "ResourceConflictException":
        return True
    message = error.response["Error"].get("Message", "")
    return code_of(error) == "InvalidParameterValueException" and "does not have permissions" in message
