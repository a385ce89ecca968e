"""Where does a function run, and how is it asked to? Its place in the account, one invocation, and the record of one that was killed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from faassupervisor import contract
from scar.aws.errors import whole
from scar.aws.wait import until
from scar.errors import NotFoundError, ServiceError, TimedOutError

if TYPE_CHECKING:
    from faassupervisor.contract import Failure
    from scar.aws.clients import Aws

# Lambda's own words for a run that it ended itself: nothing inside the sandbox could say or do anything any more.
_KILLED: Final = frozenset({"Sandbox.Timedout", "Runtime.ExitError"})
_THROTTLED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a function's Lambda configuration says of where it stands. `arn` has no version.

    `state` is its part of the state bucket (contract.STATE), None for a function that an older scar deployed; `job_queue` is None when it
    hands nothing over.
    """

    function: str
    arn: str
    state: str | None
    job_queue: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What Lambda answered. `body` is empty for an asynchronous invocation; `failed` when it is an error document."""

    request_id: str
    body: bytes
    failed: bool


def place(aws: Aws, function: str) -> Place | None:
    """None when there is no such function (lambda:GetFunctionConfiguration)."""
    try:
        found = aws.lambda_.get_function_configuration(FunctionName=function)
    except aws.lambda_.exceptions.ResourceNotFoundException:
        return None
    variables: Mapping[str, str] = found["Environment"].get("Variables", {}) if "Environment" in found else {}
    return Place(
        function, whole(found, "FunctionArn"), variables.get(contract.STATE), variables.get(contract.JOB_QUEUE)
    )


def invoke(aws: Aws, function: str, payload: bytes, *, asynchronous: bool) -> Answer:
    """Run a function once (lambda:Invoke); a synchronous one is waited for. Raises NotFoundError.

    An invocation that Lambda throttled has not begun, so it is asked for again for a while; any other is asked for once.
    """
    kind: Literal["Event", "RequestResponse"] = "Event" if asynchronous else "RequestResponse"
    refused: list[Exception] = []

    def once() -> Answer | None:
        try:
            answer = aws.invoker.invoke(FunctionName=function, InvocationType=kind, Payload=payload)
        except aws.invoker.exceptions.ResourceNotFoundException as error:
            raise absent(function) from error
        except aws.invoker.exceptions.TooManyRequestsException as error:
            refused.append(error)
            return None
        body = b"" if asynchronous else answer["Payload"].read()
        return Answer(answer["ResponseMetadata"]["RequestId"], body, "FunctionError" in answer)

    try:
        return until(once, deadline_s=_THROTTLED_S, what=f"a free place to run {function} in", clock=aws.clock)
    except TimedOutError as error:
        raise ServiceError(
            f"Lambda runs as many functions as it may, and had no place for {function} for {_THROTTLED_S:g} s",
            fix="Start fewer at a time, or ask AWS for a higher limit of concurrent executions.",
        ) from (refused[-1] if refused else error)


def absent(function: str) -> NotFoundError:
    return NotFoundError(f"there is no function called {function!r} here", fix="See what there is: scar ls")


def killed_by_platform(failure: Failure) -> bool:
    """Whether Lambda itself ended the run: its time or memory was up, or the agent's process was gone."""
    return failure.kind in _KILLED or timed_out(failure)


def timed_out(failure: Failure) -> bool:
    """Whether its time was up. Older answers have no `errorType`, only these words."""
    return failure.kind == "Sandbox.Timedout" or (
        failure.kind == "Unknown" and "Task timed out after" in failure.message
    )


def failure_record(where: Place, request_id: str, payload: bytes, response: bytes) -> bytes:
    """What Lambda sends to the destination of failed asynchronous invocations, for one that was synchronous.

    Source: lambda/latest/dg/invocation-async-retain-records, invocation record version 1.0.
    """
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{where.arn}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 1,
        },
        "requestPayload": json.loads(payload),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": json.loads(response),
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
