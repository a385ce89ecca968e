"""`scar invoke`: one request to a function's HTTP endpoint. What the function answers is ours to pass on, byte for byte.

    answered                     its body, to standard output or a file
    taken, to be run after       its request id (202)
    the script failed            the script's own exit code (the error document says it)
    time was over                124: API Gateway waits 29 s, and the run goes on
    anything else                2 bad request, 3 no endpoint, 4 not allowed, 5 too large, 6 AWS

A request is sent once: whoever heard nothing does not know whether it ran.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from faassupervisor import hops
from scar.commands.answer_file import AnswerFile
from scar.commands.common import connect, one_name
from scar.commands.watching import command
from scar.errors import (
    ConflictError,
    DeniedError,
    NotFoundError,
    RunFailedError,
    ScarError,
    ServiceError,
    TimedOutError,
    UsageError,
)

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.endpoints import Endpoint
    from scar.cli import Context

CONNECT_S: Final = 10.0
API_READ_S: Final = 40.0  # API Gateway has answered after 29 s; source: apigateway/latest/developerguide/limits
URL_READ_S: Final = 920.0  # a function runs for at most 900 s
ENVELOPE_BYTES: Final = (
    16 * 1024
)  # of an event, around its body: path, query, and headers, of which API Gateway takes 10 KB
_ID: Final = "x-scar-request-id"
_SAFE: Final = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The run's own, else the gateway's."""
        return self.headers.get(_ID) or self.headers.get("x-amzn-requestid", "")

    @property
    def said(self) -> Mapping[str, Any]:
        """The document that an error or an acceptance is; empty for anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def invoke(context: Context, args: Namespace) -> int:
    """Call the function's REST API, or its URL where it has no API."""
    if args.path and not args.path.startswith("/"):
        raise UsageError(f"--path {args.path}: a path begins with /")
    name, functions = one_name(context, args.name, args.conf_file)
    out = AnswerFile(context.report, args.output)
    with _body(args) as (body, size):
        if not hops.SYNC_INVOKE.fits(whole := _event_bytes(size)):
            raise ConflictError(
                f"the request would become an event of {whole} bytes, and Lambda takes {hops.SYNC_INVOKE.limit}: "
                "what is sent over HTTP grows by a third on its way",
                fix=f"Put it into an input bucket of the function: {command(context)} put -b BUCKET/FOLDER -p FILE",
            )
        aws, _ = connect(context, functions)
        answered = send(context, aws, _endpoint(context, aws, name), args, body=body, size=size)
    if answered.status >= 400:
        raise failure_of(context, name, answered, asynchronous=args.asynchronous)
    return _show(context, args, name, answered, out)


def _endpoint(context: Context, aws: Aws, name: str) -> Endpoint:
    from scar.aws import runs
    from scar.aws.endpoints import endpoints_of

    found = endpoints_of(aws, name)
    if found:
        return found[0]
    if runs.place(aws, name) is None:
        raise runs.absent(name)
    raise NotFoundError(
        f"{name} has no HTTP endpoint",
        fix=f"Give it one: write `api_gateway: {{name: {name}}}` beside its `lambda:` and run {command(context)} init; "
        f"or start it with: {command(context)} run -n {name}",
    )


@contextmanager
def _body(args: Namespace) -> Iterator[tuple[IO[bytes], int]]:
    """What is sent, and how many bytes that is. A file is read as it is sent."""
    if args.data_binary is not None:
        path: Path = args.data_binary
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: no such file") from error
        with file:
            if not path.is_file():
                raise UsageError(f"{path} is not a file")
            yield file, path.stat().st_size
    else:
        content = args.json_data.encode() if args.json_data is not None else b""
        yield io.BytesIO(content), len(content)


def _event_bytes(size: int) -> int:
    """How large the function's event becomes: bodies travel to it in base64."""
    return 4 * ((size + 2) // 3) + ENVELOPE_BYTES if size else 0


def send(context: Context, aws: Aws, endpoint: Endpoint, args: Namespace, *, body: IO[bytes], size: int) -> Answered:
    import requests

    from scar.aws.signing import signed

    has_body = args.data_binary is not None or args.json_data is not None
    method = args.method or ("POST" if has_body else "GET")
    query = f"?{urlencode(args.parameters, quote_via=quote)}" if args.parameters else ""
    url = f"{endpoint.url}{quote(args.path, safe=_SAFE) or '/'}{query}"
    headers = {"User-Agent": "scar", "Accept": "*/*", "Accept-Encoding": "identity"}
    if has_body:
        headers["Content-Type"] = "application/json" if args.json_data is not None else "application/octet-stream"
    if args.asynchronous:
        headers["X-Amz-Invocation-Type"] = "Event"
    for name, value in args.header:
        headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()} | {name: value}
    read_s = API_READ_S if endpoint.kind == "api gateway" else URL_READ_S
    headers = signed(aws, endpoint, method=method, url=url, headers=headers, body=body)
    with requests.Session() as session:
        if urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}:
            session.trust_env = False  # no proxy stands between a machine and itself
        try:
            answer = session.request(
                method,
                url,
                data=body if size else None,
                headers=headers,
                auth=_as_it_is,
                timeout=(CONNECT_S, read_s),
                allow_redirects=False,
                verify=aws.ca_bundle or True,
            )
        except requests.exceptions.ReadTimeout as error:
            raise TimedOutError(
                f"{endpoint.function} did not answer within {read_s:.0f} s",
                fix=f"The run may go on: {command(context)} log -n {endpoint.function} --follow",
            ) from error
        except requests.exceptions.RequestException as error:
            raise ServiceError(
                f"the endpoint of {endpoint.function} cannot be reached, or broke off: {error}",
                where=endpoint.url,
                fix=f"Whether it ran is in its log: {command(context)} log -n {endpoint.function}. Then check the network.",
            ) from error
    return Answered(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content)


def _as_it_is(request: Any) -> Any:
    """Without this, requests would put a password of ~/.netrc in the place of our signature."""
    return request


def failure_of(context: Context, name: str, answered: Answered, *, asynchronous: bool) -> ScarError:
    """What an answer of 400 and above means to whoever asked; its exit code."""
    said = answered.said
    what = str(said.get("message") or said.get("Message") or f"HTTP status {answered.status}")
    kind, code, request_id = said.get("error"), said.get("exit_code"), said.get("request_id") or answered.request_id
    of_scar = _ID in answered.headers or (isinstance(kind, str) and isinstance(code, int))
    log = f"{command(context)} log -n {name}" + (f" -ri {request_id}" if of_scar and request_id else "")
    text, look = f"{name}: {what} (HTTP {answered.status}, request {request_id})", f"See its log: {log}"
    if answered.status == 504 or kind == "ScriptTimedOut":
        longer = "" if asynchronous else f" A request that is not waited for has longer: {command(context)} invoke -a"
        return TimedOutError(text, fix=f"{look}.{longer}")
    if kind == "ScriptFailed" and isinstance(code, int) and 0 < code < 256:
        return RunFailedError(text, exit_code=code, fix=look)
    match answered.status:
        case 400 | 405 | 409 | 415 | 422:
            return UsageError(text, fix=look) if answered.status != 409 else ConflictError(text, fix=look)
        case 401 | 403:
            return DeniedError(text, fix="Check which credentials are used, and that they may call this endpoint.")
        case 404:
            return NotFoundError(text, fix=look)
        case 413:
            return ConflictError(text, fix="Send less, or let files come and go through buckets.")
        case 429:
            return ServiceError(text, fix="Wait a moment, then send it again: it has not run.")
    return ServiceError(text, fix=look)


def _show(context: Context, args: Namespace, name: str, answered: Answered, out: AnswerFile) -> int:
    """Status 202 is the function's word for a run that goes on."""
    request_id = str(answered.said.get("request_id") or answered.request_id)
    job_id = answered.said.get("job_id")
    goes_on = answered.status == 202 and "request_id" in answered.said
    if context.report.json:
        context.report.document(_document(name, answered, request_id))
    elif goes_on:
        context.report.line(str(job_id or request_id))
    else:
        out.write(answered.body)
    if goes_on:
        after = f"log -n {name} -ri {job_id or request_id}"
        context.report.say(f"{name} was launched. See what it does: {command(context)} {after} --follow")
    elif "x-scar-output-shortened" in answered.headers:
        context.report.say(f"The beginning was cut. All of it: {command(context)} log -n {name} -ri {request_id}")
    return 0


def _document(name: str, answered: Answered, request_id: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "function": name,
        "status": answered.status,
        "request_id": request_id,
        "headers": dict(answered.headers),
    }
    try:
        return {**document, "body": answered.body.decode(), "base64": False}
    except UnicodeDecodeError:
        return {**document, "body": base64.b64encode(answered.body).decode(), "base64": True}
