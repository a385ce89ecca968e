"""Small calls of the agent's own: an answer that is cut on its way is no answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from faassupervisor import signed
from faassupervisor.aws import Aws
from faassupervisor.deadline import Deadline
from tests.support.loopback import Handler, Loopback

WHOLE = b'{"Parameter": {"Value": "{}"}}'


class _Cutting(Handler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        owner: Cutting = self.owner
        owner.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.end_headers()
        cut = owner.asked <= owner.times
        self.wfile.write(WHOLE[:9] if cut else WHOLE)
        self.close_connection = cut


@dataclass
class Cutting(Loopback):
    """Answers whole, but for the first `times`."""

    times: int
    asked: int = field(default=0, init=False)

    @property
    def handler(self) -> type[Handler]:
        return _Cutting


def call(server: Cutting, attempts: int) -> signed.Answer:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
    aws = Aws({**keys, "AWS_ENDPOINT_URL_SSM": server.endpoint})
    return signed.call(aws, "ssm", body=b"{}", deadline=Deadline(60, 1), attempts=attempts)


def test_an_answer_that_is_cut_is_asked_for_again() -> None:
    with Cutting(2) as server:
        assert call(server, 3).body == WHOLE
        assert server.asked == 3


def test_an_answer_that_is_always_cut_is_none_and_what_may_be_sent_once_is_sent_once() -> None:
    with Cutting(9) as server, pytest.raises(signed.CallError, match="cut on its way"):
        call(server, 1)
    assert server.asked == 1
