"""`scar run -e` understands what the agent answers a queue or the caller of an endpoint: by the agent's own answers."""

from __future__ import annotations

import pytest

from faassupervisor import http_answer
from faassupervisor.contract import ContractError, Failure, Reply, Run
from faassupervisor.events import Message
from faassupervisor.queue_answer import Messages
from scar.aws import answers


def of_queue(*failed: bool) -> bytes:
    messages = Messages()
    for number in range(len(failed)):
        messages.saw(Message("sqs", f"m-{number}"))
    for number, bad in enumerate(failed):
        if bad:
            messages.failed(Message("sqs", f"m-{number}"))
    told = messages.answer()
    assert told is not None
    return told


def test_an_answer_of_the_contract_is_read_as_it_is() -> None:
    reply = Reply("r-1", (Run("k", 0, output="x"),))
    assert answers.read(reply.to_json(), "r-2") == reply


def test_messages_that_come_back_are_a_failure_that_names_them() -> None:
    """EV10."""
    failure = answers.read(of_queue(True, False, True), "r-1")
    assert isinstance(failure, Failure)
    assert (failure.exit_code, failure.request_id) == (1, "r-1")
    assert "2 came back to the queue: m-0, m-2" in failure.message
    assert isinstance(answers.read(of_queue(False), "r-1"), Reply)


@pytest.mark.parametrize("body", ["text", b"\xff\0"])
def test_what_a_caller_gets_is_the_runs_output(body: str | bytes) -> None:
    reply = answers.read(http_answer.Answer(200, body).to_json("r-1"), "r-1")
    assert isinstance(reply, Reply)
    assert [run.output for run in reply.runs] == [body if isinstance(body, str) else "\ufffd\0"]


def test_a_failure_over_http_has_the_scripts_exit_code() -> None:
    """AP4."""
    told = http_answer.failed(Failure("ScriptFailed", "exit code 7 in /tmp/x", 7, request_id="r-1"))
    failure = answers.read(told.to_json("r-1"), "r-1")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.exit_code) == ("ScriptFailed", 7)
    assert failure.message == "answered with 500: the function's script failed"


def test_an_accepted_request_names_its_job() -> None:
    """AP5."""
    reply = answers.read(http_answer.accepted("r-2", "j-1").to_json("r-1"), "r-1")
    assert isinstance(reply, Reply)
    assert [run.job_id for run in reply.runs] == ["j-1"]


@pytest.mark.parametrize("body", [b"{}", b'{"statusCode": 200}', b"[]", b"7"])
def test_what_no_function_of_ours_says_is_refused(body: bytes) -> None:
    with pytest.raises(ContractError):
        answers.read(body, "r-1")
