"""What does Lambda's Invoke answer? Requests as moto has read them, in; statuses, headers and refusals as AWS's, out.

Each function here takes the place of one of moto's; `hooks` puts them there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse

from scar.limits import LAMBDA_ASYNC_PAYLOAD_BYTES, LAMBDA_SYNC_PAYLOAD_BYTES
from scar.local.functions import control
from scar.local.functions.configuration import CannotRunError, Outcome, StoppingError, ThrottledError

if TYPE_CHECKING:
    from scar.local.functions.engine import Functions

_Headers = Mapping[str, str]

_ASYNCHRONOUS: Final[ContextVar[bool]] = ContextVar("asynchronous", default=False)  # set while SNS or Logs hand over
_REQUEST_ID: Final = "scar-request-id"  # of our answer, on its way to the header that moto fills with a random one


def with_request_id(original: Callable[..., Any]) -> Callable[..., Any]:
    """The response's request id is the invocation's, as on AWS: it finds the run in the log."""

    def replacement(headers: dict[str, str], body: Any) -> tuple[dict[str, str], Any]:
        request_id = headers.pop(_REQUEST_ID, None)
        headers, body = original(headers, body)
        if request_id is not None:
            headers["x-amzn-requestid"] = request_id
        return headers, body

    return staticmethod(replacement)


def invoke_request(functions: Functions, response: LambdaResponse) -> tuple[int, dict[str, str], bytes]:
    """POST …/functions/<name>/invocations. moto reads `qualifier`; the API sends `Qualifier`."""
    name = unquote(response.path.rstrip("/").rsplit("/", 2)[-2])
    qualifier = (response.querystring.get("Qualifier") or [None])[0]
    function = response.backend.get_function(name, qualifier)
    headers: _Headers = response.headers
    kind = headers.get("X-Amz-Invocation-Type") or "RequestResponse"
    payload = _payload(response.body, kind)
    executed = {"X-Amz-Executed-Version": str(function.version)}
    match kind:
        case "DryRun":
            return _answer(204, executed)
        case "Event":
            executed[_REQUEST_ID] = _accept(functions, function, name, qualifier, payload)
            return _answer(202, executed)
        case "RequestResponse":
            outcome = _run(functions, function, payload, headers)
            executed[_REQUEST_ID] = outcome.request_id
            if headers.get("X-Amz-Log-Type") == "Tail":
                executed["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
            if outcome.failed:
                executed["X-Amz-Function-Error"] = "Unhandled"
            executed["Content-Type"] = "application/json"
            return _answer(outcome.status_code, executed, outcome.payload)
        case _:
            raise control.RefusedError("InvalidParameterValueException", f"Invalid invocation type: {kind}")


def invoke_async_request(functions: Functions, response: LambdaResponse) -> tuple[int, dict[str, str], bytes]:
    """The deprecated InvokeAsync."""
    name = unquote(response.path.rstrip("/").rsplit("/", 2)[-2])
    function = response.backend.get_function(name, None)
    _accept(functions, function, name, None, _payload(response.body, "Event"))
    return _answer(202, {})


def _answer(status: int, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """moto takes the status from a header of this name, and forgets the one beside it."""
    return status, {**headers, "status": str(status)}, body


def invoke_by_moto(
    functions: Functions, function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any
) -> bytes:
    """moto's own event sources (SNS, SQS mappings, log subscriptions, state machines) come this way, the API does not."""
    kind = "Event" if _ASYNCHRONOUS.get() else "RequestResponse"
    payload = _payload(body, kind)
    if kind == "Event":
        _accept(functions, function, function.function_arn, None, payload)
        return b""
    outcome = _run(functions, function, payload, request_headers or {})
    if outcome.failed:
        response_headers["x-amz-function-error"] = "Unhandled"
    response_headers["x-amz-log-result"] = base64.b64encode(outcome.log_tail).decode()
    return outcome.payload


def asynchronously(original: Callable[..., Any]) -> Callable[..., Any]:
    """SNS and CloudWatch Logs invoke asynchronously on AWS; moto would wait for the function's end."""

    def replacement(*args: Any, **kwargs: Any) -> Any:
        before = _ASYNCHRONOUS.set(True)
        try:
            return original(*args, **kwargs)
        finally:
            _ASYNCHRONOUS.reset(before)

    return replacement


def _payload(body: Any, kind: str) -> bytes:
    payload = body.encode() if isinstance(body, str) else (body or b"")
    limit = LAMBDA_ASYNC_PAYLOAD_BYTES if kind == "Event" else LAMBDA_SYNC_PAYLOAD_BYTES
    if len(payload) > limit:
        what = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        raise control.RefusedError("RequestTooLargeException", what, 413)
    try:
        json.loads(payload or b"{}")
    except ValueError as error:
        what = f"Could not parse request body into json: {error}"
        raise control.RefusedError("InvalidRequestContentException", what) from error
    return payload or b"{}"


def _accept(functions: Functions, function: LambdaFunction, name: str, qualifier: str | None, payload: bytes) -> str:
    """Take the event and let it run; its request id."""
    arn = control.unqualified_arn(function)
    asked = (
        qualifier or name.removeprefix(arn).rpartition(":")[2] if qualifier or ":" in name.removeprefix(arn) else None
    )
    target = f"{arn}:{asked}" if asked else arn
    token = functions.accept(target, payload, account=function.account_id, region=function.region)
    functions.dispatch(token)
    return token.request_id


def _run(functions: Functions, function: LambdaFunction, payload: bytes, headers: Any) -> Outcome:
    encoded = dict(headers).get("X-Amz-Client-Context")
    try:
        context = base64.b64decode(encoded, validate=True).decode() if encoded else None
    except ValueError as error:
        raise control.RefusedError("InvalidRequestContentException", "Client context is not base64 of JSON") from error
    try:
        return functions.invoke(function, payload, client_context=context)
    except ThrottledError as error:
        raise control.RefusedError("TooManyRequestsException", f"Rate Exceeded. Reason: {error.reason}", 429) from error
    except CannotRunError as error:
        kind, status = ("InvalidRuntimeException", 502) if error.lasting else ("ServiceException", 500)
        raise control.RefusedError(kind, str(error), status) from error
    except StoppingError as error:
        raise control.RefusedError("ServiceException", "The local AWS is stopping.", 500) from error
