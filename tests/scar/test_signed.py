"""One signed request of the agent to a service: where it goes, when it is sent again, and what it never says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from faassupervisor import signed
from faassupervisor.aws import Aws, Keys
from faassupervisor.deadline import Deadline

SECRET = "canary-of-the-role"


@dataclass
class Service:
    """Answers with the next of `answers`, then with 200; None closes the connection."""

    endpoint: str = ""
    answers: list[tuple[int, str] | None] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            made.requests.append((self.path, self.headers["Authorization"], self.headers["X-Amz-Security-Token"]))
            answer = made.answers.pop(0) if made.answers else (200, "fine")
            if answer is None:
                self.close_connection = True
                return
            status, text = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def role(service: Service, **more: str) -> Aws:
    keys = {"AWS_ACCESS_KEY_ID": "ROLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "token"}
    return Aws({"AWS_ENDPOINT_URL": service.endpoint, "AWS_REGION": "eu-west-1", **keys, **more})


def test_it_is_signed_for_the_service_and_its_region_as_the_role(service: Service) -> None:
    answer = signed.call(
        role(service), "lambda", path="/2015-03-31/functions/f%20g/invocations", body=b"{}", deadline=Deadline(9, 0)
    )
    assert (answer.status, answer.body, answer.ok, answer.code) == (200, b"fine", True, "")
    ((path, authorization, token),) = service.requests
    assert path == "/2015-03-31/functions/f%20g/invocations"
    assert "Credential=ROLE/" in authorization
    assert "/eu-west-1/lambda/aws4_request" in authorization
    assert token == "token"


@pytest.mark.parametrize(
    "first",
    [None, (500, ""), (503, ""), (429, ""), (400, '{"__type": "com.amazonaws.ssm#ThrottlingException"}')],
    ids=str,
)
def test_what_may_pass_is_asked_again_and_with_one_attempt_it_is_not(
    first: tuple[int, str] | None, service: Service
) -> None:
    service.answers[:] = [first]
    assert signed.call(role(service), "ssm", deadline=Deadline(9, 0)).status == 200
    assert len(service.requests) == 2
    service.answers[:] = [first]
    if first is None:
        with pytest.raises(signed.CallError) as told:
            signed.call(role(service), "ssm", deadline=Deadline(9, 0), attempts=1)
        assert SECRET not in str(told.value)
    else:
        assert signed.call(role(service), "ssm", deadline=Deadline(9, 0), attempts=1).status == first[0]
    assert len(service.requests) == 3


def test_a_refusal_is_an_answer_and_not_asked_again(service: Service) -> None:
    service.answers[:] = [(400, '{"__type": "AccessDeniedException", "Message": "no"}')]
    assert signed.call(role(service), "ssm", deadline=Deadline(9, 0)).code == "AccessDeniedException"
    assert len(service.requests) == 1


def test_without_time_nothing_is_sent(service: Service) -> None:
    with pytest.raises(signed.CallError, match="no time was left"):
        signed.call(role(service), "ssm", deadline=Deadline(0, 0))
    assert service.requests == []


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "ssm.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "ssm.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "ssm.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "ssm.eusc-de-east-1.amazonaws.eu"),
        ("us-isob-east-1", "ssm.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_a_service_answers_where_its_partition_has_it(region: str, host: str) -> None:
    """The same as botocore's own table of endpoints."""
    import botocore.session

    session = botocore.session.Session()
    client = session.create_client("ssm", region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
    assert Aws({"AWS_REGION": region}).endpoint("ssm") == client.meta.endpoint_url == f"https://{host}"
    given = Aws({"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SSM": "http://one/"})
    assert (given.endpoint("ssm"), given.endpoint("lambda")) == ("http://one", "http://all")


def test_keys_are_not_shown() -> None:
    assert repr(Keys("AKIA", SECRET, "t")) == "Keys()"
