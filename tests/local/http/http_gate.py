"""Endpoints of a local AWS in this process: moto keeps the settings, functions answer what a test says, requests come over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from scar.local.functions.configuration import Outcome

ACCOUNT, REGION = "123456789012", "us-east-1"
Reply = Callable[[dict[str, Any]], Any]


class Answers:
    """In the place of the Lambda engine: `reply` is what the function is. An exception of it is what the engine raises; `Failed` a failed run."""

    def __init__(self) -> None:
        self.reply: Reply = echo
        self.events: list[dict[str, Any]] = []
        self.ended = threading.Event()

    def invoke(self, function: Any, payload: bytes, *, client_context: str | None = None) -> Outcome:
        event = json.loads(payload)
        self.events.append(event)
        try:
            said = self.reply(event)
        finally:
            self.ended.set()
        if isinstance(said, Failed):
            return Outcome(b'{"errorType": "Error", "errorMessage": "/var/task secret"}', True, "$LATEST", "r")
        return Outcome(said if isinstance(said, bytes) else json.dumps(said).encode(), False, "$LATEST", "r")


class Failed:
    """A run that failed."""


def echo(event: dict[str, Any]) -> dict[str, Any]:
    """The body, as it came."""
    return {"statusCode": 200, "body": event.get("body") or "", "isBase64Encoded": event["isBase64Encoded"]}


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gate:
    """An AWS with one function, `cow`, and a server before its endpoints."""

    port: int
    answers: Answers
    api: Any
    lambda_: Any
    apis: dict[str, str] = field(default_factory=dict)

    def rest_api(
        self, *, authorization: str = "NONE", key: bool = False, permitted: bool = True, path: str = "{proxy+}"
    ) -> str:
        """Make one like SCAR's; answers the path at which it is."""
        api = self.api.create_rest_api(
            name="a", binaryMediaTypes=["*/*"], endpointConfiguration={"types": ["REGIONAL"]}
        )
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:cow"
        child = self.api.create_resource(restApiId=api["id"], parentId=api["rootResourceId"], pathPart=path)["id"]
        for resource in (api["rootResourceId"], child) if path == "{proxy+}" else (child,):
            where = {"restApiId": api["id"], "resourceId": resource, "httpMethod": "ANY"}
            self.api.put_method(**where, authorizationType=authorization, apiKeyRequired=key)
            uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
            self.api.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
        self.api.create_deployment(restApiId=api["id"], stageName="scar")
        if permitted:
            self.lambda_.add_permission(
                FunctionName="cow",
                StatementId=f"s{api['id']}",
                Action="lambda:InvokeFunction",
                Principal="apigateway.amazonaws.com",
                SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api['id']}/scar/*/*",
            )
        return f"/_aws/execute-api/{api['id']}/scar"

    def url(self, auth: str = "NONE", *, permitted: bool = True) -> str:
        """Make the function's URL; answers the path at which it is."""
        address = self.lambda_.create_function_url_config(FunctionName="cow", AuthType=auth)["FunctionUrl"]
        if permitted and auth == "NONE":
            more = (
                ({"FunctionUrlAuthType": "NONE"}, "lambda:InvokeFunctionUrl"),
                ({"InvokedViaFunctionUrl": True}, "lambda:InvokeFunction"),
            )
            for number, (conditions, action) in enumerate(more):
                self.lambda_.add_permission(
                    FunctionName="cow", StatementId=f"u{number}", Action=action, Principal="*", **conditions
                )
        return "/" + address.split("/", 3)[3].rstrip("/")

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        host: str = "",
    ) -> Got:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return parsed(self.raw(("\r\n".join(lines) + "\r\n\r\n").encode() + body))

    def raw(self, content: bytes, *, timeout_s: float = 10, half_closed: bool = False) -> bytes:
        """Send bytes as they are, and read until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            try:
                connection.sendall(content)
                if half_closed:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answer may be there all the same
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while chunk := connection.recv(1 << 16):
        found += chunk
    return found


def parsed(answer: bytes) -> Got:
    head, _, body = answer.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Got(int(status.split()[1]), headers, body)
