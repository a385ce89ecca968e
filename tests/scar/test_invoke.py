"""`scar invoke`: what is sent, once, and what an answer means."""

from __future__ import annotations

import argparse
import io
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scar.arguments import build
from scar.aws.clients import Access, Aws
from scar.aws.endpoints import Auth, Endpoint
from scar.cli import Context
from scar.commands.answer_file import AnswerFile
from scar.commands.invoke import Answered, failure_of, send
from scar.errors import RunFailedError, ServiceError, UsageError
from scar.local.iam import signature
from scar.report import Report, Style

HOST = "127.0.0.2"  # to us another machine, which a proxy or ~/.netrc might concern
AWS = Aws(Access("eu-west-1", endpoint_url="http://127.0.0.1:1", access_key="AKIA1", secret_key="s3cret"))


@pytest.fixture
def context() -> Context:
    return Context(Report(Style(), io.StringIO(), io.StringIO()), None, None, None)


@dataclass
class Heard:
    """A server that writes down what it is sent, and says `answer`."""

    port: int
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Scar-Request-Id: r1\r\n\r\nok"
    requests: list[bytes] = field(default_factory=list)

    def endpoint(self, auth: Auth = "none") -> Endpoint:
        return Endpoint("cow", "api gateway", f"http://{HOST}:{self.port}/stage", auth, "execute-api")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server((HOST, 0)) as listening:
        made = Heard(listening.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    made.requests.append(_whole_request(connection))
                    connection.sendall(made.answer)

        threading.Thread(target=serve, daemon=True).start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)


def _whole_request(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(1 << 16)
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def _args(*words: str) -> argparse.Namespace:
    return build().parse_args(["invoke", "-n", "cow", *words])


def _sent(
    heard: Heard, context: Context, auth: Auth, *words: str, body: bytes = b""
) -> tuple[str, dict[str, str], bytes]:
    """The request line, the headers and the body of the one request."""
    answered = send(context, AWS, heard.endpoint(auth), _args(*words), body=io.BytesIO(body), size=len(body))
    assert (answered.body, answered.request_id, len(heard.requests)) == (b"ok", "r1", 1)
    head, _, content = heard.requests[0].partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    return line, {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}, content


def test_data_makes_a_post_with_the_bytes_as_they_are(heard: Heard, context: Context, tmp_path: Path) -> None:
    """SCAR 4 sent base64 of a file, and JSON as a form."""
    content = b"\0\xff\r\n" * 100
    (tmp_path / "f").write_bytes(content)
    line, headers, body = _sent(heard, context, "none", "-db", str(tmp_path / "f"), "--path", "/a b/é", body=content)
    assert line == "POST /stage/a%20b/%C3%A9 HTTP/1.1"
    assert (body, headers["content-type"], headers["content-length"]) == (content, "application/octet-stream", "400")


def test_parameters_headers_and_methods_go_as_they_were_said(heard: Heard, context: Context) -> None:
    said = ("-p", '{"a": [1, "x y"], "b": true, "c": null, "d": "é&="}', "-H", "Accept: image/png", "-X", "put", "-a")
    line, headers, _ = _sent(heard, context, "none", *said, "-jd", '{"m": 1}', body=b'{"m": 1}')
    assert line == "PUT /stage/?a=1&a=x%20y&b=true&c=&d=%C3%A9%26%3D HTTP/1.1"
    assert (headers["accept"], headers["x-amz-invocation-type"]) == ("image/png", "Event")
    assert headers["content-type"] == "application/json"


def test_a_closed_endpoint_is_sent_a_signature_and_a_password_of_netrc_never_takes_its_place(
    heard: Heard, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AP7, SE: a tool that adds credentials of its own accord is not let."""
    (tmp_path / ".netrc").write_text("default login evil password evil\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    line, headers, body = _sent(heard, context, "iam", "-jd", "3", "-p", '{"z": 1, "a": "ü"}', body=b"3")
    method, target, _ = line.split()
    path, _, query = target.partition("?")
    wire = signature.Wire(method, path, query, headers, body)
    found = signature.read(wire)
    assert found is not None
    assert (found.key, found.scope[1:]) == ("AKIA1", ("eu-west-1", "execute-api"))
    assert signature.fits(found, wire, "s3cret")


def test_an_answer_that_breaks_off_or_fails_is_not_asked_for_again(heard: Heard, context: Context) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"):
        heard.answer, heard.requests = answer, []
        with pytest.raises(ServiceError, match="broke off"):
            send(context, AWS, heard.endpoint(), _args(), body=io.BytesIO(), size=0)
        assert len(heard.requests) == 1
    heard.answer, heard.requests = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", []
    assert send(context, AWS, heard.endpoint(), _args(), body=io.BytesIO(), size=0).status == 503
    assert len(heard.requests) == 1


def test_an_answer_that_leads_elsewhere_is_not_followed(heard: Heard, context: Context) -> None:
    """A function's answer could lead a signed request, or an API key, to another machine."""
    heard.answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    assert send(context, AWS, heard.endpoint(), _args(), body=io.BytesIO(), size=0).status == 302


OURS = {"request_id": "r2", "message": "m"}


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (500, {**OURS, "error": "ScriptFailed", "exit_code": 7}, 7),
        (500, {**OURS, "error": "ScriptFailed", "exit_code": 137}, 137),
        (500, {**OURS, "error": "ScriptFailed", "exit_code": 0}, 6),
        (500, {**OURS, "error": "StageOutFailed", "exit_code": 1}, 6),
        (504, {**OURS, "error": "ScriptTimedOut", "exit_code": 124}, 124),
        (504, {"message": "Endpoint request timed out"}, 124),
        (400, {**OURS, "error": "BadEvent", "exit_code": 1}, 2),
        (403, {"message": "Missing Authentication Token"}, 4),
        (401, {}, 4),
        (404, {}, 3),
        (409, {**OURS, "error": "AlreadyServed", "exit_code": 1}, 5),
        (413, {"message": "Request Too Long"}, 5),
        (429, {"message": "Too Many Requests"}, 6),
        (502, {"message": "Internal server error"}, 6),
        (503, [], 6),
        (500, "text", 6),
    ],
)
def test_an_answer_that_is_a_failure_means_one_exit_code(
    context: Context, status: int, document: Any, code: int
) -> None:
    """AP4: the script's own code where it is the script that failed, and whose id to look for."""
    error = failure_of(
        context, "cow", Answered(status, {"x-scar-request-id": "r1"}, json.dumps(document).encode()), asynchronous=False
    )
    assert error.exit_code == code
    assert isinstance(error, RunFailedError) == (code in {7, 137})
    assert "request r" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        ("-p", "[1]"),
        ("-p", "{"),
        ("-jd", "no"),
        ("-H", "a\r\nb: c"),
        ("-H", "nothing"),
        ("-X", "BREW"),
        ("-jd", "1", "-db", "f"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_the_command_line(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        _args(*words)


def test_a_file_is_there_whole_or_not_at_all(context: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        AnswerFile(context.report, str(tmp_path / "no" / "such"))
    out = AnswerFile(context.report, str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
    out.write(b"\0whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"\0whole")]
    AnswerFile(context.report, "/dev/null").write(b"gone")
    assert not Path("/dev/null").is_file()
