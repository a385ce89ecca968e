"""What moto forgets of functions' URLs, put right: conditions of permissions, one URL a function, where it leads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import FunctionUrlConfig, LambdaFunction
from moto.awslambda.policy import Policy

from scar.local import hooks as moto_names

URL_PATH: Final = "/_aws/lambda-url/"

# moto's names, and the parameters that they must still take; scar.local.hooks checks them when the daemon starts.
NAMES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "moto.awslambda.policy:Policy.condition_merge": ("self", "obj"),
    "moto.awslambda.policy:Policy.add_statement": ("self", "raw", "qualifier"),
    "moto.awslambda.models:FunctionUrlConfig.update": ("self", "new_config"),
    "moto.awslambda.models:FunctionUrlConfig.to_dict": ("self",),
    "moto.awslambda.models:LambdaFunction.create_url_config": ("self", "config"),
    "moto.awslambda.models:LambdaFunction.delete_url_config": ("self",),
}

_Replacement = Callable[[Callable[..., Any]], Callable[..., Any]]


def install(endpoint: Callable[[], str] | None = None) -> Callable[[], None]:
    """Put the corrections in place; what is answered takes them away again. `endpoint` is where URLs of functions are served, if they are."""
    moto_names.check(NAMES)
    undo = ExitStack()
    for owner, name, replacement in (*_REPLACED, (FunctionUrlConfig, "to_dict", _url_at(endpoint))):
        original = vars(owner)[name]
        undo.callback(setattr, owner, name, original)
        setattr(owner, name, replacement(original))
    return undo.close


def _condition_merge(original: Callable[..., Any]) -> Callable[..., Any]:
    """What AddPermission takes beside the condition is a condition of the policy."""

    def replacement(policy: Policy, statement: dict[str, Any]) -> None:
        original(policy, statement)
        conditions = statement.get("Condition") or {}
        auth, via = statement.pop("FunctionUrlAuthType", None), statement.pop("InvokedViaFunctionUrl", None)
        if auth is not None:
            conditions = {
                **conditions,
                "StringEquals": {"lambda:FunctionUrlAuthType": auth, **conditions.get("StringEquals", {})},
            }
        if via is not None:
            conditions = {**conditions, "Bool": {"lambda:InvokedViaFunctionUrl": str(bool(via)).lower()}}
        if conditions:
            statement["Condition"] = conditions

    return replacement


def _add_statement(original: Callable[..., Any]) -> Callable[..., Any]:
    """A statement id is used once."""

    def replacement(policy: Policy, raw: str, qualifier: str | None = None) -> Any:
        statement = json.loads(raw).get("StatementId")
        if statement is not None and any(kept.get("Sid") == statement for kept in policy.statements):
            message = f"The statement id ({statement}) provided already exists. Please provide a new statement id, or remove the existing statement."
            raise _lambda_refusal("ResourceConflictException", message, 409)
        return original(policy, raw, qualifier)

    return replacement


def _create_url(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(function: LambdaFunction, config: dict[str, Any]) -> Any:
        if function.url_config is not None:
            raise _lambda_refusal("ResourceConflictException", "FunctionUrlConfig exists for this Lambda function", 409)
        if config.get("AuthType") not in ("AWS_IAM", "NONE"):
            raise _lambda_refusal("ValidationException", "AuthType must be AWS_IAM or NONE", 400)
        return original(function, config)

    return replacement


def _delete_url(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(function: LambdaFunction) -> Any:
        function.get_url_config()  # raises where there is none
        return original(function)

    return replacement


def _update_url(original: Callable[..., Any]) -> Callable[..., Any]:
    """An empty CORS setting takes the one away that was there."""

    def replacement(config: FunctionUrlConfig, new_config: dict[str, Any]) -> None:
        original(config, new_config)
        if new_config.get("Cors") == {}:
            config.config.pop("Cors", None)
        if new_config.get("InvokeMode"):
            config.config["InvokeMode"] = new_config["InvokeMode"]

    return replacement


def _url_at(endpoint: Callable[[], str] | None) -> _Replacement:
    """An address that leads here: the one on AWS is nobody's."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(config: FunctionUrlConfig) -> dict[str, Any]:
            answer: dict[str, Any] = original(config)
            mode = str(answer.get("InvokeMode") or "BUFFERED").upper()
            url = f"{endpoint()}{URL_PATH}{url_id(config.url)}/" if endpoint is not None else f"{config.url}/"
            return {**answer, "FunctionUrl": url, "InvokeMode": mode}

        return replacement

    return wrap


def url_id(address: str) -> str:
    """`abc` of `https://abc.lambda-url.eu-west-1.on.aws`."""
    return address.partition("://")[2].partition(".")[0]


def _lambda_refusal(kind: str, message: str, status: int) -> LambdaClientError:
    refusal = LambdaClientError(kind, message)
    refusal.code = status
    return refusal


_REPLACED: Final[tuple[tuple[type, str, _Replacement], ...]] = (
    (Policy, "condition_merge", _condition_merge),
    (Policy, "add_statement", _add_statement),
    (LambdaFunction, "create_url_config", _create_url),
    (LambdaFunction, "delete_url_config", _delete_url),
    (FunctionUrlConfig, "update", _update_url),
)
