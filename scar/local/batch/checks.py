"""What Batch says no to, and how it says it: refusals, the size of a request as it was sent, and what several operations have in common.

What single members may be is checked against botocore's model in `shapes`; what members must be to each other, beside what they belong to.
Texts are Batch's own where users have reported them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.hops import KIB, Hop
from scar.local.refusal import RefusalError

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")  # botocore batch:Create*Request.*Name, jobDefinitionName
MIN_TIMEOUT_S: Final = 60  # botocore batch:JobTimeout.attemptDurationSeconds
MAX_ATTEMPTS: Final = 10  # botocore batch:RetryStrategy.attempts
MAX_CONDITIONS: Final = 5  # botocore batch:RetryStrategy.evaluateOnExit
CONDITION_CHARS: Final = 512  # botocore batch:EvaluateOnExit
# botocore batch:EvaluateOnExit: letters, numbers, periods, colons, white space; a star only at the end. An exit code: digits.
_TEXT: Final = re.compile(r"[A-Za-z0-9.:\s]*\*?")
_CONDITIONS: Final = {"onStatusReason": _TEXT, "onReason": _TEXT, "onExitCode": re.compile(r"[0-9]*\*?")}


CHANGING: Final = frozenset({"CREATING", "UPDATING", "DELETING"})  # states of environments and queues that do not last


class ClientError_(RefusalError):  # noqa: N801, N818 - Batch's own name for it is ClientException
    """HTTP 400, ClientException: what Batch answers to nearly everything that it does not do."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "ClientException", message)


class ServerError_(RefusalError):  # noqa: N801, N818 - Batch's own name for it is ServerException
    """HTTP 500, ServerException."""

    def __init__(self, message: str) -> None:
        super().__init__(500, "ServerException", message)


class Request(dict[str, Any]):
    """A request's parameters, with the bytes that its body had on the wire."""

    def __init__(self, parameters: Mapping[str, Any], sent_bytes: int) -> None:
        super().__init__(parameters)
        self.sent_bytes = sent_bytes


def executing(what: str) -> ClientError_:
    """A refusal as Batch words what its own validation finds."""
    return ClientError_(f"Error executing request, Exception : {what}")


def check_size(request: Mapping[str, Any], hop: Hop, what: str) -> None:
    """Refuse a request whose body is above the limit of `hop`; `what` is Batch's word for it (`Job`, `Job definition`)."""
    size = request.sent_bytes if isinstance(request, Request) else 0
    if size > hop.limit:
        # "Job size must be less than 30 KiB, got 47 KiB": github.com/ASFHyP3/hyp3/issues/3041
        raise executing(f"{what} size must be less than {hop.limit // KIB} KiB, got {-(-size // KIB)} KiB")


def check_name(name: str, what: str) -> None:
    """`what` is Batch's word for the thing (`Job Queue`)."""
    if not NAME.fullmatch(name):
        raise executing(f"{what} name should match a valid pattern.")


def check_tags(tags: Mapping[str, str]) -> None:
    """Number and lengths are in the model."""
    for key in tags:
        if key.lower().startswith("aws:"):
            raise ClientError_(f"Tag keys must not begin with aws: ({key})")


def check_timeout(timeout: Mapping[str, Any] | None) -> None:
    """`timeout` of RegisterJobDefinition and SubmitJob."""
    if timeout and timeout.get("attemptDurationSeconds", MIN_TIMEOUT_S) < MIN_TIMEOUT_S:
        raise executing(f"AttemptDurationSeconds in Timeout must be at least {MIN_TIMEOUT_S} seconds.")


def check_retry(strategy: Mapping[str, Any] | None) -> None:
    """`retryStrategy` of RegisterJobDefinition and SubmitJob."""
    if not strategy:
        return
    attempts, conditions = strategy.get("attempts"), strategy.get("evaluateOnExit") or []
    if attempts is not None and not 1 <= attempts <= MAX_ATTEMPTS:
        raise executing(f"RetryAttempts must be between 1 and {MAX_ATTEMPTS}.")
    if conditions and attempts is None:
        raise executing("EvaluateOnExit requires attempts to be specified.")
    if len(conditions) > MAX_CONDITIONS:
        raise executing(f"EvaluateOnExit supports at most {MAX_CONDITIONS} conditions.")
    for condition in conditions:
        _check_condition(condition)


def _check_condition(condition: Mapping[str, Any]) -> None:
    given = {name: condition[name] for name in _CONDITIONS if name in condition}
    if not given:
        raise executing("EvaluateOnExit should contain at least one of onExitCode, onReason or onStatusReason")
    for name, pattern in given.items():
        if len(pattern) > CONDITION_CHARS:
            raise executing(f"Evaluate on exit condition cannot exceed {CONDITION_CHARS} characters.")
        if not pattern or not _CONDITIONS[name].fullmatch(pattern):
            raise executing("Evaluate on exit condition contains restricted characters.")


def check_environment(variables: Sequence[Mapping[str, Any]]) -> None:
    """`environment` of a container, and of what SubmitJob overrides."""
    for variable in variables:
        if not variable.get("name"):
            raise executing("Environment variable name is required.")
        if str(variable["name"]).startswith("AWS_BATCH"):
            raise executing(f"Environment variable names must not begin with AWS_BATCH ({variable['name']}).")


def amounts(requirements: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """`resourceRequirements` by type. Refuses a type that comes twice."""
    found = {str(one["type"]): str(one["value"]) for one in requirements}
    if len(found) != len(requirements):
        raise executing("Cannot provide duplicates in resourceRequirements.")
    return found


def check_updatable(status: str) -> None:
    """An environment or a queue that comes to rest only later takes no update."""
    if status in CHANGING:
        raise ClientError_("Cannot update, resource is being modified")


def check_deletable(status: str, state: str, what: str) -> None:
    """`what` is the kind of thing, as Batch says it: `job queue`."""
    if status in CHANGING:
        raise ClientError_("Cannot delete, resource is being modified")
    if state != "DISABLED":
        raise ClientError_(f"Cannot delete, {what} must be in DISABLED state")
