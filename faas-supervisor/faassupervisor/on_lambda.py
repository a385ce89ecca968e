"""The door to Lambda: asks the Runtime API for events, one after another, and answers each.

Source: lambda/latest/dg/runtimes-api. The loop ends by SIGTERM, when the Runtime API is gone, or when a run left something behind that
must not meet the next caller: Lambda then starts a fresh sandbox.
"""

from __future__ import annotations

import http.client
from typing import Final

from faassupervisor import environ, function, leaving, serving, slim
from faassupervisor.contract import ContractError, Failure
from faassupervisor.deadline import Deadline
from faassupervisor.log import Log, to_descriptor
from faassupervisor.record import Invocation
from faassupervisor.sandbox import Sandbox

_API: Final = "/2018-06-01/runtime"
_ERROR_TYPE: Final = "Lambda-Runtime-Function-Error-Type"


class RuntimeApi:
    """Client of Lambda's Runtime API. One connection, kept open; http.client sets TCP_NODELAY on it."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> tuple[http.client.HTTPMessage, bytes]:
        """Wait for the next event, without limit: Lambda freezes the sandbox meanwhile."""
        status, headers, body = self._ask("GET", "/invocation/next")
        if status != 200:
            raise ConnectionError(f"Runtime API: next: status {status}")
        return headers, body

    def respond(self, request_id: str, body: bytes) -> int:
        """Answer an event; the status says whether Lambda took it (413: too large)."""
        return self._ask("POST", f"/invocation/{request_id}/response", body, {"Content-Type": "application/json"})[0]

    def fail(self, request_id: str, kind: str, body: bytes) -> int:
        return self._ask("POST", f"/invocation/{request_id}/error", body, _error_headers(kind))[0]

    def fail_init(self, kind: str, body: bytes) -> None:
        self._ask("POST", "/init/error", body, _error_headers(kind))

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        try:
            return self._once(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A kept connection may have been closed while the sandbox was frozen. A fresh one tells whether the API is there.
            self._connection.close()
            return self._once(method, path, body, headers or {})

    def _once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request(method, _API + path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()


def run(surroundings: environ.Surroundings, api_address: str) -> int:
    """Serve until there is no more to serve; the process's exit code."""
    api = RuntimeApi(api_address)
    write = to_descriptor(1)
    leaving.raise_on_sigterm()
    try:
        sandbox = _initialise(surroundings, api, Log(write))
        if sandbox is None:
            return 1
        log = Log(write, level=sandbox.function.spec.log_level)
        while sandbox.reusable:
            _serve(api, sandbox, log)
        return 1
    except leaving.Leave:
        return 0
    except (OSError, http.client.HTTPException) as error:
        Log(write).error("the Runtime API is gone", reason=str(error))
        return 1


def _initialise(surroundings: environ.Surroundings, api: RuntimeApi, log: Log) -> Sandbox | None:
    """Everything that can be done before the first event: Lambda gives this phase a whole processor, whatever the memory size."""
    try:
        with slim.starting():
            sandbox = Sandbox(surroundings, function.load(surroundings.function_root))
            sandbox.mode.warm(log)
        return sandbox
    except Exception as error:  # noqa: BLE001  # a door: whatever it is, Lambda's caller must hear of it
        kind = "AgentFailed"
        message = f"{error}" if isinstance(error, (ContractError, OSError)) else f"{type(error).__name__}: {error}"
        log.error("cannot start", kind=kind, message=message)  # noqa: TRY400  # our Log has no tracebacks
        api.fail_init(kind, Failure(kind, message).to_json())
        return None


def _serve(api: RuntimeApi, sandbox: Sandbox, log: Log) -> None:
    headers, payload = api.next()
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    log = log.of(request_id)
    try:
        spec = sandbox.function.spec
        invocation = Invocation(
            request_id,
            payload,
            Deadline.at(
                int(headers["Lambda-Runtime-Deadline-Ms"]), spec.timeout_threshold_s, exact=spec.mode == "lambda-batch"
            ),
            trace_id=headers.get("Lambda-Runtime-Trace-Id"),
            function_arn=headers.get("Lambda-Runtime-Invoked-Function-Arn"),
        )
        served = serving.serve(sandbox, invocation, log)
    except Exception as error:  # noqa: BLE001  # a door: a defect of the agent fails this event, visibly
        log.error("the agent failed", kind=type(error).__name__, message=str(error))  # noqa: TRY400  # our Log has no tracebacks
        served = serving.of(Failure("AgentFailed", f"{type(error).__name__}: {error}", request_id=request_id))
        sandbox.reusable = False
    if served.failed is not None:
        status = api.fail(request_id, served.failed, served.body)
    else:
        status = api.respond(request_id, served.body)
    if status >= 400:
        log.error("Lambda refused the answer", status=status)


def _error_headers(kind: str) -> dict[str, str]:
    return {"Content-Type": "application/json", _ERROR_TYPE: kind}
