"""`scar run`: one run of a function, now. The script's exit code is ours."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scar.commands.common import connect, one_name
from scar.errors import ConflictError, NotFoundError, RunFailedError, UsageError
from scar.limits import LAMBDA_ASYNC_PAYLOAD_BYTES, LAMBDA_SYNC_PAYLOAD_BYTES
from scar.report import size

if TYPE_CHECKING:
    from argparse import Namespace

    from faassupervisor.contract import Failure
    from scar.cli import Context
    from scar.fdl.model import Function


def run(context: Context, args: Namespace) -> int:
    """Invoke (lambda:Invoke) and show what the process wrote; with `-a` only the request id."""
    from faassupervisor.contract import Failure, Reply

    name, functions = one_name(context, args.name, args.conf_file)
    fn = functions[0] if functions else None
    asynchronous = args.asynchronous or bool(fn and fn.lambda_.asynchronous)
    payload = _payload(args, fn)
    _check_size(payload, asynchronous=asynchronous)
    aws, _ = connect(context, functions)
    kind: Literal["Event", "RequestResponse"] = "Event" if asynchronous else "RequestResponse"
    try:
        answer = aws.invoker.invoke(FunctionName=name, InvocationType=kind, Payload=payload)
    except aws.invoker.exceptions.ResourceNotFoundException as error:
        raise NotFoundError(f"there is no function called {name!r} here", fix="See what there is: scar ls") from error
    request_id = answer["ResponseMetadata"]["RequestId"]
    if asynchronous:
        return _launched(context, name, request_id)
    body = answer["Payload"].read()
    if answer.get("FunctionError"):
        failure = Failure.from_json(body)
        raise RunFailedError(
            f"{name}: {failure.message}",
            exit_code=exit_code_of(failure),
            last_lines=failure.last_lines,
            fix=f"See the whole log: scar log -n {name} -ri {failure.request_id or request_id}",
        )
    reply = Reply.from_json(body)
    output = "".join(item.output for item in reply.runs)
    if context.report.json:
        context.report.document(reply)
    elif args.output not in {"table", "json"}:
        Path(args.output).write_text(output, encoding="utf-8", errors="surrogateescape")
        context.report.say(f"output written to {args.output}")
    else:
        context.report.line(output.removesuffix("\n"))
    return 0


def exit_code_of(failure: Failure) -> int:
    """The exit code a failure means: the script's own, or what a shell would say when Lambda itself ended the run."""
    if failure.kind == "Sandbox.Timedout":
        return 124
    if failure.kind == "Runtime.ExitError" and "signal: killed" in failure.message:  # out of memory
        return 137
    return failure.exit_code


def _launched(context: Context, name: str, request_id: str) -> int:
    if context.report.json:
        context.report.document({"function": name, "request_id": request_id})
    else:
        context.report.line(request_id)
        context.report.say(f"{name} was launched. See what it does: scar log -n {name} -ri {request_id}")
    return 0


def _payload(args: Namespace, fn: Function | None) -> bytes:
    """The event: a document given with `-e`, or what the predecessor's `run` sends (`script`, `cmd_args`)."""
    if args.event is not None:
        if args.run_script or args.c_args:
            raise UsageError("--event cannot be combined with a script or arguments")
        return _event_document(args.event)
    event: dict[str, Any] = {}
    script = args.run_script or (fn.lambda_.run_script if fn else None)
    arguments = args.c_args or (list(fn.lambda_.c_args) if fn else [])
    if script is not None:
        if not script.is_file():
            raise NotFoundError(f"{script}: no such script")
        event["script"] = base64.b64encode(script.read_bytes()).decode("ascii")
    if arguments:
        event["cmd_args"] = json.dumps(arguments)
    return json.dumps(event).encode()


def _event_document(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        json.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return text


def _check_size(payload: bytes, *, asynchronous: bool) -> None:
    limit = LAMBDA_ASYNC_PAYLOAD_BYTES if asynchronous else LAMBDA_SYNC_PAYLOAD_BYTES
    if len(payload) > limit:
        kind = "asynchronous" if asynchronous else "synchronous"
        raise ConflictError(
            f"the event is {size(len(payload))}, Lambda takes {size(limit)} in an {kind} invocation",
            fix="Put the data into a bucket: scar put.",
        )
