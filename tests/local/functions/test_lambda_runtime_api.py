"""The Runtime API towards code that does as it likes."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
from collections.abc import Iterator

import pytest

from scar.local.functions.configuration import REPLY_BYTES
from scar.local.functions.runtime_api import Next, RuntimeApi

ROOT = "/2018-06-01/runtime"


class Recorder:
    """A sandbox's side that only remembers."""

    def __init__(self) -> None:
        self.work: queue.Queue[Next | None] = queue.Queue()
        self.said: list[tuple[str, bytes, bool]] = []

    def next(self) -> Next | None:
        return self.work.get()

    def answer(self, request_id: str, body: bytes, *, too_large: bool) -> bool:
        self.said.append(("answer", body, too_large))
        return request_id == "1"

    def fail(self, request_id: str, body: bytes) -> bool:
        self.said.append(("fail", body, False))
        return request_id == "1"

    def init_failed(self, body: bytes) -> None:
        self.said.append(("init", body, False))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def api(recorder: Recorder) -> Iterator[RuntimeApi]:
    made = RuntimeApi(recorder)
    made.open(lambda _: True)
    yield made
    recorder.work.put(None)
    made.close()


def post(api: RuntimeApi, path: str, body: object, **headers: str) -> int:
    connection = http.client.HTTPConnection(api.address, timeout=5)
    connection.request("POST", ROOT + path, body=body, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_next_answers_the_event_with_lambdas_headers(api: RuntimeApi, recorder: Recorder) -> None:
    recorder.work.put(Next("1", b'{"a": 1}', 1234567890123, "arn:aws:lambda:x", '{"c": 1}'))
    connection = http.client.HTTPConnection(api.address, timeout=5)
    connection.request("GET", f"{ROOT}/invocation/next")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"a": 1}')
    assert answer.headers["Lambda-Runtime-Aws-Request-Id"] == "1"
    assert answer.headers["Lambda-Runtime-Deadline-Ms"] == "1234567890123"
    assert answer.headers["Lambda-Runtime-Invoked-Function-Arn"] == "arn:aws:lambda:x"
    assert answer.headers["Lambda-Runtime-Client-Context"] == '{"c": 1}'
    connection.close()


def test_who_is_not_admitted_gets_no_word_and_takes_no_place(recorder: Recorder) -> None:
    api = RuntimeApi(recorder)
    mine: list[int] = []
    api.open(lambda connection: connection.getpeername()[1] in mine)
    host, port = api.address.split(":")
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(40)]
        for stranger in strangers:
            with contextlib.suppress(ConnectionError):
                stranger.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
                assert stranger.recv(1) == b""
        own = stack.enter_context(socket.socket())
        own.bind(("127.0.0.1", 0))
        mine.append(own.getsockname()[1])
        own.settimeout(5)
        own.connect((host, int(port)))
        own.sendall(b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert own.recv(100).startswith(b"HTTP/1.1 202")
    api.close()
    assert recorder.said == [("init", b"{}", False)]


def test_a_reply_in_chunks_is_put_together(api: RuntimeApi, recorder: Recorder) -> None:
    assert post(api, "/invocation/1/response", iter([b"a" * 10, b"b" * 70_000])) == 202
    assert recorder.said == [("answer", b"a" * 10 + b"b" * 70_000, False)]


def test_a_reply_that_is_too_large_is_not_kept(api: RuntimeApi, recorder: Recorder) -> None:
    assert post(api, "/invocation/1/response", b"x" * REPLY_BYTES) == 202
    assert post(api, "/invocation/1/response", b"x" * (REPLY_BYTES + 1)) == 413
    assert recorder.said[1] == ("answer", b"", True)


def test_a_streamed_reply_that_ends_with_an_error_is_an_error(api: RuntimeApi, recorder: Recorder) -> None:
    host, port = api.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(
            f"POST {ROOT}/invocation/1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            "4\r\nhalf\r\n0\r\nLambda-Runtime-Function-Error-Type: Broken\r\n\r\n".encode()
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 202")
    ((kind, body, _),) = recorder.said
    assert kind == "fail"
    assert b"Broken" in body


def test_an_unknown_request_id_is_refused(api: RuntimeApi) -> None:
    assert post(api, "/invocation/2/response", b"{}") == 400
    assert post(api, "/invocation/2/error", b"{}") == 400
    assert post(api, "/nowhere", b"{}") == 404


def test_init_error_is_taken(api: RuntimeApi, recorder: Recorder) -> None:
    assert post(api, "/init/error", b"why") == 202
    assert recorder.said == [("init", b"why", False)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0\r\n\r\n",
        b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_ends_its_own_connection_only(api: RuntimeApi, recorder: Recorder, garbage: bytes) -> None:
    host, port = api.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(garbage)
        with contextlib.suppress(OSError):  # not connected: the server has ended it by now
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while raw.recv(65_536):
                pass
    assert not recorder.said
    assert post(api, "/invocation/1/response", b"{}") == 202


def test_connections_are_bounded_and_closing_cuts_them(api: RuntimeApi) -> None:
    host, port = api.address.split(":")
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(40)]
    ended = [raw for raw in held[16:] if _ended(raw)]
    assert len(ended) >= 20
    api.close()
    assert all(_ended(raw) for raw in held)
    for raw in held:
        raw.close()


def _ended(raw: socket.socket) -> bool:
    raw.settimeout(2)
    try:
        return raw.recv(1) == b""
    except ConnectionError:
        return True
