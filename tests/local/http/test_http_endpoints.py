"""What callers of an endpoint and its function see of each other: format 1.0 of REST APIs, 2.0 of URLs, who may, and AWS's answers to the rest."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from http_gate import ACCOUNT, REGION, Failed, Gate, Got

from scar.local.functions.configuration import CannotRunError, StoppingError, ThrottledError
from scar.local.http.door import Endpoints
from scar.local.iam.authority import Authority
from scar.local.server import Server

BINARY = bytes(range(256)) * 40 + b"\r\n\r\n\0"


def signed(
    gate: Gate, path: str, service: str, *, key: str = "local", secret: str = "local", body: bytes = b"", **more: Any
) -> Got:
    request = AWSRequest("POST", f"http://127.0.0.1:{gate.port}{path}", data=body)
    SigV4Auth(Credentials(key, secret), service, more.pop("region", REGION)).add_auth(request)
    return gate.ask(path, method="POST", body=more.pop("sent", body), headers=list(request.headers.items()))


@pytest.mark.parametrize("body", [BINARY, b"", b"null", b"3", b'"a"', b"\r\n", b"\xff\xfe", b'{"Records": []}'])
@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", ""])
def test_a_body_reaches_the_function_and_comes_back_byte_for_byte(gate: Gate, body: bytes, kind: str) -> None:
    """AP1: by an API and by a URL, whatever the content type says."""
    for path in (gate.rest_api(), gate.url()):
        got = gate.ask(f"{path}/x", method="POST", body=body, headers=[("Content-Type", kind)] if kind else [])
        assert (got.status, got.body) == (200, body)


def test_a_rest_api_sends_format_1_as_aws_does(gate: Gate) -> None:
    """apigateway/latest/developerguide/set-up-lambda-proxy-integrations"""
    path = gate.rest_api()
    gate.ask(
        f"{path}/a%20b/c?x=1&x=2&y=%C3%A9&empty=",
        method="PUT",
        body=b"hi",
        headers=[("X-Two", "1"), ("X-Two", "2"), ("User-Agent", "t"), ("Connection", "keep-alive")],
    )
    (event,) = gate.answers.events
    context = event["requestContext"]
    assert {name: event[name] for name in ("resource", "path", "httpMethod", "pathParameters", "stageVariables")} == {
        "resource": "/{proxy+}", "path": "/a%20b/c", "httpMethod": "PUT", "pathParameters": {"proxy": "a%20b/c"}, "stageVariables": None,
    }  # fmt: skip
    assert event["queryStringParameters"] == {"x": "2", "y": "é", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"], "y": ["é"], "empty": [""]}
    assert (event["headers"]["X-Two"], event["multiValueHeaders"]["X-Two"]) == ("2", ["1", "2"])
    assert "Connection" not in event["headers"]
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"hi").decode(), True)
    assert (context["stage"], context["path"], context["accountId"]) == ("scar", "/scar/a%20b/c", ACCOUNT)
    assert (context["identity"]["sourceIp"], context["identity"]["userAgent"]) == ("127.0.0.1", "t")
    assert context["requestId"]


def test_a_url_sends_format_2_as_aws_does(gate: Gate) -> None:
    """lambda/latest/dg/urls-invocation"""
    gate.ask(
        f"{gate.url()}/a%20b?x=1&x=2",
        method="POST",
        body=b'{"a": 1}',
        headers=[("X-Two", "1"), ("x-two", "2"), ("Cookie", "a=1; b=2"), ("Content-Type", "application/json")],
    )
    (event,) = gate.answers.events
    assert {name: event[name] for name in ("version", "routeKey", "rawPath", "rawQueryString", "cookies", "body")} == {
        "version": "2.0", "routeKey": "$default", "rawPath": "/a%20b", "rawQueryString": "x=1&x=2", "cookies": ["a=1", "b=2"],
        "body": '{"a": 1}',
    }  # fmt: skip
    assert event["queryStringParameters"] == {"x": "1,2"}
    assert (event["headers"]["x-two"], "cookie" in event["headers"]) == ("1,2", False)
    http = event["requestContext"]["http"]
    assert (http["method"], http["path"], http["sourceIp"]) == ("POST", "/a%20b", "127.0.0.1")
    assert event["requestContext"]["accountId"] == "anonymous"


def test_an_endpoint_is_found_by_its_host_too(gate: Gate) -> None:
    api_id, stage = gate.rest_api().split("/")[3:]
    url_id = gate.url().rpartition("/")[2]
    for host in (f"{api_id}.execute-api.{REGION}.amazonaws.com", f"{api_id}.execute-api.localhost:{gate.port}"):
        assert gate.ask(f"/{stage}/x", host=host, method="POST", body=b"1").body == b"1"
    for host in (f"{url_id}.lambda-url.{REGION}.on.aws", f"{url_id}.lambda-url.localhost:{gate.port}"):
        assert gate.ask("/x", host=host, method="POST", body=b"1").body == b"1"


def test_what_is_not_there_is_answered_as_aws_does(gate: Gate) -> None:
    """AP9: unknown paths, stages and APIs; HEAD and OPTIONS are requests like others, and no CORS header is made up."""
    path = gate.rest_api(path="launch")
    missing, forbidden = {"message": "Missing Authentication Token"}, {"message": "Forbidden"}
    assert (gate.ask(f"{path}/other").status, gate.ask(f"{path}/other").json) == (403, missing)
    assert (gate.ask(path).status, gate.ask(path.replace("/scar", "/no") + "/launch").json) == (403, forbidden)
    assert gate.ask("/_aws/execute-api/nobody/scar/launch").json == forbidden
    assert gate.ask("/_aws/lambda-url/nobody/").status == 403
    gate.answers.reply = lambda event: {"statusCode": 200, "body": event["httpMethod"]}
    head = gate.ask(f"{path}/launch", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "4")
    options = gate.ask(f"{path}/launch", method="OPTIONS", headers=[("Origin", "http://localhost")])
    assert options.body == b"OPTIONS"
    assert not [name for name in options.headers if name.startswith("access-control")]


def test_signatures_are_verified(gate: Gate) -> None:
    """AP7: unsigned, by an unknown key, over another body, for another service or region, with another secret: 403, and nothing runs."""
    for path, service in ((gate.rest_api(authorization="AWS_IAM"), "execute-api"), (gate.url("AWS_IAM"), "lambda")):
        gate.answers.events.clear()
        assert gate.ask(f"{path}/x").json == {"message": "Missing Authentication Token"}
        for wrong in (
            signed(gate, f"{path}/x", service, secret="other"),
            signed(gate, f"{path}/x", service, key="AKIAUNKNOWN", secret="secret"),
            signed(gate, f"{path}/x", service, body=b"1", sent=b"2"),
            signed(gate, f"{path}/x", "s3"),
            signed(gate, f"{path}/x", service, region="eu-west-1"),
            gate.ask(f"{path}/x", headers=[("Authorization", "Basic YTpi")]),
        ):
            assert (wrong.status, wrong.headers["x-amzn-errortype"][-9:]) == (403, "Exception")
        assert gate.answers.events == []
        right = signed(gate, f"{path}/a%20b/~c?y=2&x=a%20b", service, body=BINARY)
        assert (right.status, right.body) == (200, BINARY)
        context = gate.answers.events[0]["requestContext"]
        user = context["identity"]["userArn"] if "identity" in context else context["authorizer"]["iam"]["userArn"]
        assert user == f"arn:aws:iam::{ACCOUNT}:root"


def test_where_iam_is_enforced_a_signature_is_not_enough(gate: Gate) -> None:
    """AP7 with `--iam`: the caller's policies count, for the API's route and for the URL's two actions."""
    iam = boto3.client("iam", "us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    path, url = gate.rest_api(authorization="AWS_IAM"), gate.url("AWS_IAM")
    api_id = path.split("/")[3]
    server = Server(0, Endpoints(gate.answers, authority=Authority()))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    enforced = dataclasses.replace(gate, port=server.port)

    def asked() -> list[int]:
        keys = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
        return [
            signed(enforced, f"{path}/x", "execute-api", **keys).status,
            signed(enforced, f"{path}/y", "execute-api", **keys).status,
            signed(enforced, url, "lambda", **keys).status,
        ]

    assert asked() == [403, 403, 403]
    stranger = signed(
        enforced, f"{path}/x", "execute-api", key="nobody", secret="nobody"
    )  # root's, where nothing is enforced
    assert (stranger.status, stranger.headers["x-amzn-errortype"]) == (403, "UnrecognizedClientException")
    own = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:cow"
    allowed = [
        ("execute-api:Invoke", f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api_id}/scar/POST/x"),
        ("lambda:InvokeFunctionUrl", own),
        ("lambda:InvokeFunction", own),
    ]
    for count, expected in ((1, [200, 403, 403]), (2, [200, 403, 403]), (3, [200, 403, 200])):
        statements = [{"Effect": "Allow", "Action": action, "Resource": arn} for action, arn in allowed[:count]]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=document)
        assert asked() == expected
    server.shutdown()
    server.end()


def test_an_api_key_opens_its_stage_only(gate: Gate) -> None:
    """AP7: no key, another key, the key of another stage."""
    path, other = gate.rest_api(key=True), gate.rest_api(key=True)
    values = {}
    for where in (path, other):
        api_id = where.split("/")[3]
        key = gate.api.create_api_key(name=api_id, enabled=True)
        plan = gate.api.create_usage_plan(name=api_id, apiStages=[{"apiId": api_id, "stage": "scar"}])
        gate.api.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
        values[where] = key["value"]
    asked = [
        gate.ask(path, headers=[("X-Api-Key", value)] if value else [])
        for value in ("", "no", values[other], values[path])
    ]
    assert [got.status for got in asked] == [403, 403, 403, 200]
    assert asked[0].json == {"message": "Forbidden"}


def test_without_leave_in_the_functions_policy_nothing_runs(gate: Gate) -> None:
    assert gate.ask(gate.rest_api(permitted=False)).status == 500
    assert gate.ask(gate.url(permitted=False)).status == 403
    assert gate.answers.events == []


def _error(kind: Exception) -> Any:
    def reply(_: dict[str, Any]) -> Any:
        raise kind

    return reply


MALFORMED: list[Any] = [
    "text", 3, {"body": "x"}, {"statusCode": "no"}, {"statusCode": 200, "body": {"a": 1}}, {"statusCode": 200, "headers": "x"}, b"not json",
    {"statusCode": 200, "body": "!", "isBase64Encoded": True}, {"statusCode": 200, "surprise": 1},
]  # fmt: skip


@pytest.mark.parametrize("reply", MALFORMED, ids=str)
def test_what_is_no_answer_is_a_502_of_a_rest_api(gate: Gate, reply: Any) -> None:
    """AP4: and it tells nothing of the function."""
    gate.answers.reply = lambda _: reply
    got = gate.ask(gate.rest_api())
    assert (got.status, got.json) == (502, {"message": "Internal server error"})


def test_failures_are_never_a_200_and_tell_nothing_of_the_inside(gate: Gate) -> None:
    """AP4: a failed run, Lambda's refusals, time over: each with a request id. services-apigateway-errors for 500 and 502."""
    path, url = gate.rest_api(), gate.url()
    expected = {
        Failed: (502, 502), StoppingError("x"): (500, 502), ThrottledError("x"): (500, 429), CannotRunError("/secret"): (500, 502),
    }  # fmt: skip
    for failure, statuses in expected.items():
        gate.answers.reply = (lambda _: Failed()) if failure is Failed else _error(failure)  # type: ignore[arg-type]
        for where, status in zip((path, url), statuses, strict=True):
            got = gate.ask(where)
            assert got.status == status
            assert got.headers["x-amzn-requestid"]
            assert b"secret" not in got.body


def test_after_29_seconds_the_caller_hears_504_and_the_run_goes_on(gate: Gate) -> None:
    """AP4; the limit is 0.3 s here."""
    gate.answers.reply = lambda _: time.sleep(0.6) or {"statusCode": 200}
    began = time.monotonic()
    got = gate.ask(gate.rest_api())
    assert (got.status, got.json) == (504, {"message": "Endpoint request timed out"})
    assert time.monotonic() - began < 0.6 + 2
    assert gate.answers.ended.wait(10)
    gate.answers.ended.clear()
    assert gate.ask(gate.url()).status == 200  # a URL waits for as long as the function may run


def test_an_answers_headers_cookies_and_status_are_passed_on(gate: Gate) -> None:
    gate.answers.reply = lambda event: {
        "statusCode": 418,
        "headers": {"X-A": "1", "Content-Length": "9999", "Connection": "close", "X-B": "2\r\nSet-Cookie: evil=1"},
        **({"cookies": ["a=1"]} if "version" in event else {"multiValueHeaders": {"Set-Cookie": ["a=1"]}}),
        "body": "short",
    }
    for path in (gate.rest_api(), gate.url()):
        got = gate.ask(path)
        assert (got.status, got.headers["x-a"], got.headers["set-cookie"], got.body) == (418, "1", "a=1", b"short")
        assert got.headers["content-type"] == "application/json"
    gate.answers.reply = lambda _: {"any": "document"}
    assert gate.ask(path).json == {"any": "document"}  # of a URL, what has no status is the body


def test_bodies_beyond_the_limits_are_refused_before_they_are_read_or_run(gate: Gate) -> None:
    """AP3, AP8: 10 MB for an API, 6 MB for a URL and for any event; 10 GB are refused by their announcement."""
    path, url = gate.rest_api(), gate.url()
    mib = 1 << 20
    for where, size in ((path, 5 * mib), (path, 10 * mib + 1), (url, 5 * mib), (url, 6 * mib + 1)):
        got = gate.ask(where, method="POST", body=b"x" * size)
        assert (got.status, where, size) == (413, where, size)
    for where in (path, url):
        head = f"POST {where} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10 * 1024 * mib}\r\n\r\n".encode()
        began = time.monotonic()
        assert b" 413 " in gate.raw(head, half_closed=True)
        assert time.monotonic() - began < 3
    assert gate.answers.events == []
    got = gate.ask(path, method="POST", body=b"x" * (4 * mib))
    assert (got.status, len(got.body)) == (200, 4 * mib)


def test_a_stage_serves_what_was_deployed_whatever_the_api_has_become(gate: Gate) -> None:
    path = gate.rest_api()
    api_id = path.split("/")[3]
    root = next(one for one in gate.api.get_resources(restApiId=api_id)["items"] if one["path"] == "/")["id"]
    gate.api.delete_method(restApiId=api_id, resourceId=root, httpMethod="ANY")
    assert gate.ask(path).status == 200
    gate.api.create_deployment(restApiId=api_id, stageName="scar")
    assert gate.ask(path).status == 403


def test_more_than_can_be_run_at_once_wait_in_line(gate: Gate) -> None:
    """AP8: 100 requests, 8 at once; all are answered, the memory of a few is held."""
    path = gate.url()
    most, now, lock = [0], [0], threading.Lock()

    def reply(event: dict[str, Any]) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return {"statusCode": 200, "body": json.dumps(event["rawPath"])}

    gate.answers.reply = reply
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(gate.ask(path).status)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (got, most[0] <= 8) == ([200] * 100, True)
