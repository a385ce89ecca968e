"""The runtime of zip functions in Python: asks for events, calls `module.function` and answers. Standard library only.

Lambda has such a program at /var/runtime; a copy of this file lies there in the local AWS's sandboxes, and nothing imports it here.
Texts and kinds of errors follow Lambda's own runtime client.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

_API = "/2018-06-01/runtime"


class Context:
    """What a handler is given as its second argument."""

    def __init__(self, headers: Any) -> None:
        self.aws_request_id: str = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn: str = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self.client_context = _client_context(headers["Lambda-Runtime-Client-Context"])
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, text: object) -> None:
        sys.stdout.write(str(text))


def _client_context(text: str | None) -> SimpleNamespace | None:
    if not text:
        return None
    told = json.loads(text)
    client = told.get("client")
    return SimpleNamespace(
        custom=told.get("custom"), env=told.get("env"), client=SimpleNamespace(**client) if client else None
    )


class HandlerError(Exception):
    """The handler cannot be had. `kind` is Lambda's word for why."""

    def __init__(self, kind: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind, self.trace = kind, trace or []


def find(handler: str) -> Callable[[Any, Context], Any]:
    """The function that `module.function` (or `folder/module.function`) names."""
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        message = f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)"
        raise HandlerError("Runtime.MalformedHandlerName", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise HandlerError("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from error
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        raise HandlerError("Runtime.UserCodeSyntaxError", message, trace) from error
    try:
        found: Callable[[Any, Context], Any] = getattr(module, name)
    except AttributeError as error:
        raise HandlerError("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module_name}'") from error
    return found


def document(kind: str, message: str, trace: list[str], request_id: str = "") -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def failure_of(error: BaseException, request_id: str = "") -> dict[str, Any]:
    """The error document, told to the log as well; the trace begins in the function's code."""
    if isinstance(error, HandlerError):
        found = document(error.kind, str(error), error.trace, request_id)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        trace = traceback.format_list([frame for frame in frames if frame.filename != __file__])
        found = document(type(error).__name__, str(error), trace, request_id)
    lines = [f"[ERROR] {found['errorType']}: {found['errorMessage']}"]
    if found["stackTrace"]:
        lines += ["Traceback (most recent call last):", *"".join(found["stackTrace"]).rstrip().split("\n")]
    sys.stdout.write("\r".join(lines) + "\n")
    return found


class Api:
    """Lambda's Runtime API, over one connection."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address)

    def next(self) -> tuple[Any, bytes]:
        self._connection.request("GET", f"{_API}/invocation/next")
        answer = self._connection.getresponse()
        return answer.headers, answer.read()

    def post(self, path: str, content: bytes, error_type: str | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        if error_type is not None:
            headers["Lambda-Runtime-Function-Error-Type"] = error_type
        sys.stdout.flush()
        self._connection.request("POST", f"{_API}/{path}", content, headers)
        self._connection.getresponse().read()


class _RequestId(logging.Filter):
    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.request_id
        return True


def set_logging_up() -> _RequestId:
    """As Lambda does: the root logger writes lines with level, time and request id."""
    named = _RequestId()
    output = logging.StreamHandler(sys.stdout)
    text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
    formatter = logging.Formatter(text, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    output.setFormatter(formatter)
    output.addFilter(named)
    logging.getLogger().addHandler(output)
    return named


def answer_one(api: Api, handler: Callable[[Any, Context], Any], named: _RequestId) -> None:
    headers, event = api.next()
    context = Context(headers)
    named.request_id = context.aws_request_id
    try:
        result = handler(json.loads(event), context)
        try:
            reply = json.dumps(result, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise HandlerError("Runtime.MarshalError", f"Unable to marshal response: {error}") from error
    except Exception as error:  # noqa: BLE001  (the handler is a stranger's: whatever it raises is its answer)
        found = failure_of(error, context.aws_request_id)
        path = f"invocation/{context.aws_request_id}/error"
        api.post(path, json.dumps(found).encode(), found["errorType"])
    else:
        api.post(f"invocation/{context.aws_request_id}/response", reply)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    root = os.environ["LAMBDA_TASK_ROOT"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path[:1] = [root, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    named = set_logging_up()
    try:
        handler = find(os.environ["_HANDLER"])
    except Exception as error:  # noqa: BLE001  (the module is a stranger's too)
        found = failure_of(error)
        api.post("init/error", json.dumps(found).encode(), found["errorType"])
        raise SystemExit(1) from None
    while True:
        answer_one(api, handler, named)


if __name__ == "__main__":
    main()
