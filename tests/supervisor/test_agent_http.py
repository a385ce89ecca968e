"""The agent behind an HTTP endpoint: what a request becomes for the script, and what its caller is answered."""

from __future__ import annotations

import base64
import io
import json
import urllib.parse
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from faassupervisor.contract import Storage
from faassupervisor.http_answer import MOST_ZIPPED_BYTES
from tests.supervisor.batch_lab import Handing, handing
from tests.supervisor.conftest import Agent, Bucket, Lab
from tests.support.loopback import Handler, Loopback

__all__ = ["handing"]

# The body is a program of its own, so that one agent serves every test.
PROGRAM = 'set -e; . "$INPUT_FILE_PATH"\n'
LIMIT = 6 * 1024 * 1024
SECRETS = {
    "Authorization": "Bearer hush-1",
    "Cookie": "session=hush-2",
    "X-Api-Key": "hush-3",
    "X-Amz-Security-Token": "hush-4",
}


def v1(body: str | bytes | None, method: str = "POST", path: str = "/run", **more: Any) -> dict[str, Any]:
    """As a REST API hands a request over (set-up-lambda-proxy-integrations)."""
    headers = more.pop("headers", {"Content-Type": "application/octet-stream"})
    query: dict[str, list[str]] = more.pop("query", {})
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.strip("/")},
        "stageVariables": None,
        "requestContext": {"stage": "scar", "httpMethod": method, "identity": {"sourceIp": "192.0.2.1"}},
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": isinstance(body, bytes),
        **more,
    }


def v2(body: str | bytes | None, method: str = "POST", path: str = "/run", **more: Any) -> dict[str, Any]:
    """As a function URL hands it over (urls-invocation): without a body when there is none."""
    query: dict[str, list[str]] = more.pop("query", {})
    content = {} if body is None else {"body": base64.b64encode(body).decode() if isinstance(body, bytes) else body}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": urllib.parse.urlencode(query, doseq=True),
        "headers": {name.lower(): value for name, value in more.pop("headers", {}).items()},
        "requestContext": {"stage": "$default", "http": {"method": method, "path": path, "protocol": "HTTP/1.1"}},
        "isBase64Encoded": isinstance(body, bytes),
        **content,
        **more,
    }


class Endpoint:
    """One agent, asked as a gateway asks it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.status, self.headers, self.body = 0, dict[str, str](), b""

    def ask(self, event: dict[str, Any], *, request_id: str = "r-1", timeout_s: float = 30) -> Endpoint:
        answer = self.agent.invoke(event, request_id=request_id, timeout_s=timeout_s)
        assert answer.error_type is None, answer.body
        assert len(answer.body) < LIMIT
        told = answer.document
        assert told.keys() == {"statusCode", "headers", "body", "isBase64Encoded"}
        self.status, self.headers = told["statusCode"], told["headers"]
        self.body = base64.b64decode(told["body"], validate=True) if told["isBase64Encoded"] else told["body"].encode()
        assert self.headers["x-scar-request-id"] == request_id
        return self

    def run(self, program: str, **more: Any) -> Endpoint:
        return self.ask(v1(program, **more))

    @property
    def document(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path_factory.mktemp("http"), s3_endpoint, stack)


@pytest.fixture(scope="module")
def endpoint(shared: Lab) -> Endpoint:
    return Endpoint(shared.agent(PROGRAM))


@pytest.fixture(scope="module")
def echo(shared: Lab) -> Endpoint:
    return Endpoint(shared.agent('cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/body"'))


@pytest.mark.parametrize("shape", [v1, v2])
@pytest.mark.parametrize(
    "body",
    [bytes(range(256)) * 10, b"\0\xff\r\n", b"", "null", "7", '{"a":\r\n1}', "h\u00e9 \U0001f600\n", "\ufeff{}", None],
    ids=["bytes", "few", "empty", "null", "number", "crlf", "unicode", "mark", "none"],
)
def test_a_body_comes_in_and_goes_out_byte_for_byte(echo, shape, body):
    """AP1."""
    expected = body if isinstance(body, bytes) else (body or "").encode()
    answer = echo.ask(shape(body))
    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("size", [128 * 1024 + 1, 4_500_000])
def test_a_body_of_any_size_reaches_the_script_by_a_file(echo, size):
    """EV16, AP3: 4.5 MB is what base64 leaves of an answer's 6 MB."""
    body = (b"x" * 99 + b"\xff") * (size // 100)
    assert echo.ask(v1(body)).body == body


@pytest.mark.parametrize(
    "event",
    [
        v1("@@@", isBase64Encoded=True),
        v1("a", query={"a-b": ["1"]}),
        v1("a", query={"": ["1"]}),
        v1("a", query={"a": ["\0"]}),
    ],
)
def test_a_request_that_cannot_be_served_is_the_callers_mistake_and_starts_nothing(echo, event):
    """AP2, AP6."""
    before = echo.agent.log.count("script ended")
    answer = echo.ask(event, request_id="r-bad")
    assert answer.status == 400
    assert answer.document.keys() == {"error", "message", "exit_code", "request_id"}
    assert (answer.document["error"], answer.document["request_id"]) == ("BadEvent", "r-bad")
    echo.ask(v1("x"))
    echo.agent.says('"status": 400')
    assert echo.agent.log.count("script ended") == before + 1


def test_what_the_script_wrote_is_the_answer_when_it_left_no_file(endpoint):
    answer = endpoint.run("echo out; echo err >&2; printf 'h\\303\\251'")
    assert (answer.status, answer.body) == (200, "out\nerr\nh\u00e9".encode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert endpoint.run("true").body == b""
    long = endpoint.run("head -c 300000 /dev/zero | tr '\\0' x")
    assert (len(long.body), long.headers["x-scar-output-shortened"]) == (256 * 1024, "true")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", "\\211PNG", "image/png"),
        ("sub/a.JSON", "{}", "application/json; charset=utf-8"),
        ("a.txt", "h\\303\\251", "text/plain; charset=utf-8"),
        ("latin.txt", "h\\351", "text/plain"),
        ("empty.csv", "", "text/csv; charset=utf-8"),
        (".hidden", "x", "application/octet-stream"),
        ("a.txt/b", "x", "application/octet-stream"),
    ],
)
def test_one_file_is_the_answer_and_its_name_tells_the_type(endpoint, name, content, kind):
    """AP3."""
    answer = endpoint.run(
        f'mkdir -p "$(dirname "$TMP_OUTPUT_DIR/{name}")"; printf \'{content}\' > "$TMP_OUTPUT_DIR/{name}"; echo unseen'
    )
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert answer.body == content.encode().decode("unicode_escape").encode("latin-1")


def test_several_files_are_a_zip_with_their_relative_names(endpoint):
    """AP3, KEY10: in order, and the same files give the same bytes."""
    program = 'cd "$TMP_OUTPUT_DIR"; mkdir -p b; echo 1 > b/x; echo 2 > a; : > "c d\u00e9"'
    answer = endpoint.run(program)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a": b"2\n",
            "b/x": b"1\n",
            "c d\u00e9": b"",
        }
        assert archive.namelist() == ["a", "b/x", "c d\u00e9"]
    assert endpoint.run(program).body == answer.body


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ('head -c 6000000 /dev/zero | tr "\\0" x > a.txt', 200),
        ('head -c 6291457 /dev/zero | tr "\\0" x > a.txt', 413),
        ("head -c 4800000 /dev/urandom > a.bin", 413),
        ("head -c 4000000 /dev/urandom > a; head -c 4000000 /dev/urandom > b", 413),
        (f"truncate -s {MOST_ZIPPED_BYTES} a; : > b; echo > c", 413),
        ("truncate -s 1T a", 413),
    ],
    ids=["text", "text+1", "bytes", "zip", "sparse zip", "sparse"],
)
def test_an_answer_that_is_too_large_says_so(endpoint, program, status):
    """AP3, KEY11."""
    answer = endpoint.run(f'cd "$TMP_OUTPUT_DIR"; {program}')
    assert answer.status == status
    if status == 413:
        assert answer.document["error"] == "ReplyTooLarge"
        assert "6 MB" in answer.document["message"]


@pytest.mark.parametrize(
    ("program", "status", "kind", "code"),
    [
        ("echo secret-output; exit 7", 500, "ScriptFailed", 7),
        ("kill -9 $$", 500, "ScriptFailed", 137),
        ('ln -s /etc/passwd "$TMP_OUTPUT_DIR/p"', 500, "StageOutFailed", 1),
        ('echo x > "$TMP_OUTPUT_DIR/half"; sleep 30', 504, "ScriptTimedOut", 124),
    ],
)
def test_a_failure_is_never_a_200_and_tells_nothing_of_the_inside(endpoint, program, status, kind, code):
    """AP4."""
    answer = endpoint.ask(v1(program), request_id="r-7", timeout_s=2 if code == 124 else 30)
    assert answer.status == status
    document = answer.document
    said = document.pop("message")
    assert document == {"error": kind, "exit_code": code, "request_id": "r-7"}
    for inside in ("/", "secret-output", "Traceback", "passwd", "half"):
        assert inside not in said
    endpoint.agent.says(f'"kind": "{kind}"')


def test_query_method_and_path_are_variables_and_headers_are_not(endpoint):
    """AP6, AP9: a name that means something to a system is harmless under its prefix; HEAD and OPTIONS run like any method."""
    query = {
        "LD_PRELOAD": ["/evil.so"],
        "PATH": ["/evil"],
        "many": ["1", "2"],
        "empty": [""],
        "meta": ["$(reboot) `x` \n'\""],
    }
    program = 'env -0 | sort -z | tr "\\0" "|"; echo "$PATH" >&2'
    for shape in (v1, v2):
        answer = endpoint.ask(
            shape(program, method="OPTIONS", path="/a b/../c", query=query, headers={"X-Evil": "of-a-header"})
        )
        found = answer.body.decode()
        assert "CONT_VAR_LD_PRELOAD=/evil.so|" in found
        assert "CONT_VAR_many=2|" in found
        assert "CONT_VAR_empty=|" in found
        assert f"CONT_VAR_meta={query['meta'][0]}|" in found
        assert "|SCAR_HTTP_METHOD=OPTIONS|" in found
        assert "|SCAR_HTTP_PATH=/a b/../c|" in found
        assert "|LD_PRELOAD=" not in found
        assert "|PATH=/evil" not in found
        assert [name for name in found.split("|") if "of-a-header" in name and not name.startswith("EVENT=")] == []


def test_what_proves_who_the_caller_is_reaches_neither_the_script_nor_the_log(endpoint):
    """EV17: the rest of the request is in the event."""
    for shape in (v1, v2):
        event = shape('cat "$SCAR_EVENT_FILE"; env; ls "$TMP_INPUT_DIR"', headers={**SECRETS, "X-Kept": "kept-1"})
        event["requestContext"]["identity"] = {"apiKey": "hush-5", "accessKey": "hush-6"}
        event["cookies"] = ["hush-7"]
        answer = endpoint.ask(event)
        assert b"hush" not in answer.body
        assert b"kept-1" in answer.body
        assert answer.body.endswith(b"body\n")
    endpoint.run("true")
    # What the script writes itself is in the log, as ever: so no secret may be there at all.
    assert "hush" not in endpoint.agent.log


def test_nothing_of_one_request_reaches_the_next(endpoint):
    """Two callers after another, through one process: neither variables, files, bodies nor environments are shared."""
    endpoint.run(
        'export LEAK=alice-secret; echo alice-secret > "$TMP_INPUT_DIR/left"; echo alice-secret > "$(dirname "$TMP_INPUT_DIR")/../left"',
        query={"user": ["alice-secret"]},
        path="/alice-secret",
        headers={"X-User": "alice-secret"},
    )
    second = endpoint.run('env; cat "$SCAR_EVENT_FILE"; find "$(dirname "$TMP_INPUT_DIR")/.." -type f -exec cat {} +')
    assert b"alice-secret" not in second.body
    assert b"CONT_VAR_" not in second.body
    assert list(endpoint.agent.temporary.iterdir()) == []


def test_a_function_with_outputs_publishes_as_always_too(lab: Lab, bucket: Bucket, out: tuple[Storage, ...]) -> None:
    """Also when the answer is too large."""
    agent = Endpoint(lab.agent(PROGRAM, outputs=out))
    assert agent.run('echo 1 > "$TMP_OUTPUT_DIR/a.txt"').body == b"1\n"
    assert agent.run('head -c 7000000 /dev/zero > "$TMP_OUTPUT_DIR/large"').status == 413
    assert agent.run('echo 1 > "$TMP_OUTPUT_DIR/never"; exit 3').status == 500
    assert bucket.keys("out/") == ["out/a.txt", "out/large"]


class Invoked(Loopback):
    """Lambda's Invoke, for whoever invokes itself."""

    def __init__(self) -> None:
        self.status = 202
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def handler(self) -> type[Handler]:
        class Lambda(Handler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.owner.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send(self.owner.status, b"", {"x-amzn-RequestId": "r-new"})

        return Lambda


@pytest.fixture
def invoked() -> Iterator[Invoked]:
    with Invoked() as server:
        yield server


def asynchronous(body: str | bytes, **more: Any) -> dict[str, Any]:
    return v1(body, headers={"X-Amz-Invocation-Type": "Event", **SECRETS}, query={"a": ["1"]}, **more)


def test_a_caller_who_does_not_wait_gets_an_id_at_once_and_the_run_is_an_event_of_its_own(lab, invoked, bucket, out):
    """AP5: the same request, without its secrets, once; its failure is an event's failure, which Lambda tries again."""
    agent = Endpoint(lab.agent(PROGRAM, outputs=out, environment={"AWS_ENDPOINT_URL_LAMBDA": invoked.endpoint}))
    program = 'echo "$CONT_VAR_a" > "$TMP_OUTPUT_DIR/ran"; exit "${CODE:-0}"'
    answer = agent.ask(asynchronous(program))
    assert (answer.status, answer.document) == (202, {"request_id": "r-new"})
    assert "script ended" not in agent.agent.log
    ((path, headers, payload),) = invoked.asked
    assert path == "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations"
    assert headers["x-amz-invocation-type"] == "Event"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert b"hush" not in payload
    run = agent.agent.invoke(payload, request_id="r-new")
    assert run.error_type is None
    assert run.document["runs"][0]["outputs"] == [f"s3://{bucket.name}/out/ran"]
    assert bucket.get("out/ran") == b"1\n"
    failed = agent.agent.invoke({**json.loads(payload), "body": "exit 7"}, request_id="r-newer")
    assert (failed.error_type, failed.document["exit_code"]) == ("ScriptFailed", 7)
    assert len(invoked.asked) == 1


def test_a_run_that_nobody_took_over_is_no_202(lab, invoked):
    """AP5: asked once, as asking twice might run it twice; the log says why, the caller only that it has not run."""
    agent = Endpoint(lab.agent(PROGRAM, environment={"AWS_ENDPOINT_URL_LAMBDA": invoked.endpoint}))
    refusals = {403: "needs lambda:InvokeFunction", 500: "itself: 500", 429: "itself: 429"}
    for asked, (status, reason) in enumerate(refusals.items(), 1):
        invoked.status = status
        answer = agent.ask(asynchronous("true"))
        assert (answer.status, answer.document["error"]) == (503, "HandOverFailed")
        assert len(invoked.asked) == asked
        agent.agent.says(reason)
    assert "script ended" not in agent.agent.log


def test_a_request_beyond_an_events_limit_goes_through_the_state_bucket_or_is_too_large(lab, invoked, bucket):
    """AP5, EV16."""
    where = {"AWS_ENDPOINT_URL_LAMBDA": invoked.endpoint, "SCAR_STATE": f"s3://{bucket.name}/functions/f/"}
    body = b"\0\xff" * 700_000
    agent = Endpoint(lab.agent('wc -c < "$INPUT_FILE_PATH"', environment=where))
    assert agent.ask(asynchronous(body)).status == 202
    ((_, _, payload),) = invoked.asked
    assert len(payload) < 1000
    assert json.loads(payload).keys() == {"scar:payload"}
    assert agent.agent.invoke(payload).document["runs"][0]["output"].strip() == "1400000"
    without = Endpoint(lab.agent("true", spill=False, environment=where))
    answer = without.ask(asynchronous(body))
    assert (answer.status, answer.document["error"]) == (413, "RequestTooLarge")
    assert "1048576" in answer.document["message"]
    assert len(invoked.asked) == 1


def test_mode_batch_answers_with_the_job_which_runs_the_same_request(handing: Handing) -> None:
    """AP5: whoever waits and who does not are answered alike; headers that prove who the caller is stay behind."""
    function = handing.function(
        'cat "$SCAR_EVENT_FILE"; od -An -tx1 "$INPUT_FILE_PATH"; echo " $SCAR_HTTP_PATH $CONT_VAR_a"', mode="batch"
    )
    endpoint = Endpoint(handing.agent(function))
    answer = endpoint.ask(asynchronous(b"\0\xfe body"))
    (job,) = handing.batch.jobs
    assert (answer.status, answer.document) == (202, {"request_id": "r-1", "job_id": job["jobId"]})
    ran = handing.job(function)
    assert ran.end() == 0
    assert " /run 1\n" in ran.log
    assert " 00 fe 20 62" in ran.log
    assert "hush" not in ran.log


def test_what_goes_on_in_batch_when_time_is_over_is_accepted(handing: Handing) -> None:
    """AP4, TM20."""
    function = handing.function('echo partial > "$TMP_OUTPUT_DIR/part"; sleep 30')
    answer = Endpoint(handing.agent(function)).ask(v1("x"), timeout_s=2)
    assert (answer.status, answer.document["job_id"]) == (202, handing.batch.jobs[0]["jobId"])
    assert handing.outputs() == []


def test_a_function_that_cannot_hand_over_answers_with_a_failure(lab: Lab) -> None:
    """AP4: before the event was even looked at."""
    answer = Endpoint(lab.agent("true", mode="batch")).ask(v1("x"))
    assert (answer.status, answer.document["error"]) == (500, "AgentFailed")
    assert "SCAR_" not in answer.document["message"]
