"""Messages of queues, topics and EventBridge: what the script gets of them, and which of a queue's messages come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.supervisor.batch_double import Fault
from tests.supervisor.batch_lab import Handing, handing
from tests.supervisor.conftest import Agent, Bucket, Lab
from tests.supervisor.runtime_api import Answer

__all__ = ["handing"]

# A message's text is a program of its own, so that one agent serves every test.
PROGRAM = '. "$INPUT_FILE_PATH"\n'


def message(name: str, body: object, group: str | None = None) -> dict[str, Any]:
    """As Lambda hands over what it took from a queue (with-sqs)."""
    return {
        "messageId": name,
        "receiptHandle": "AQEB",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1", **({"MessageGroupId": group} if group else {})},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:q{'.fifo' if group else ''}",
    }


def batch(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(messages)}


def back(answer: Answer) -> list[str]:
    """What comes back, in Lambda's words."""
    assert answer.error_type is None, answer.body
    assert answer.document.keys() == {"batchItemFailures"}
    assert all(failure.keys() == {"itemIdentifier"} for failure in answer.document["batchItemFailures"])
    return [failure["itemIdentifier"] for failure in answer.document["batchItemFailures"]]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Agent]:
    with ExitStack() as stack:
        yield Lab(tmp_path_factory.mktemp("queues"), s3_endpoint, stack).agent(PROGRAM)


def test_of_a_batch_exactly_the_failed_messages_come_back(agent: Agent) -> None:
    """EV10: a message that fails, one that cannot be understood, one that nobody can fetch; the good ones are done."""
    elsewhere = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "no-such-bucket"}, "object": {"key": "in/a", "sequencer": "01"}},
    }
    answer = agent.invoke(
        batch(
            message("m-1", "echo one"),
            message("m-2", "exit 7"),
            message("m-3", {"Records": [{**elsewhere, "eventVersion": "9.0"}]}),
            message("m-4", {"Records": [elsewhere]}),
            message("m-5", {"Event": "s3:TestEvent"}),
            message("m-6", "echo six"),
        )
    )
    assert back(answer) == ["m-2", "m-3", "m-4"]
    agent.says("one\n")
    agent.says("six\n")
    failed = [fact["message_id"] for fact in agent.facts() if "message_id" in fact]
    assert failed == ["m-2", "m-3", "m-4"]


def test_a_message_of_several_records_comes_back_when_one_of_them_failed(agent: Agent) -> None:
    """EV10, EV4: once, however many of its records failed."""
    bad = {"eventSource": "aws:s3", "eventVersion": "9.0"}
    skipped = {"eventSource": "aws:s3", "eventName": "ObjectRemoved:Delete"}
    answer = agent.invoke(batch(message("m-1", {"Records": [skipped, bad, bad]}), message("m-2", "true")))
    assert back(answer) == ["m-1"]


def test_a_batch_without_a_failure_names_none(agent: Agent) -> None:
    """EV10: also when nothing of it ran."""
    assert back(agent.invoke(batch(message("m-1", "true"), message("m-2", {"Event": "s3:TestEvent"})))) == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_of_which_nothing_succeeded_fails_and_comes_back_whatever_the_mapping_says(
    agent: Agent, count: int
) -> None:
    """EV10: without ReportBatchItemFailures an answer would delete the messages."""
    answer = agent.invoke(batch(*(message(f"m-{number}", "exit 7") for number in range(count))))
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 7)


def test_a_failure_that_no_message_is_to_blame_for_fails_the_batch(agent: Agent) -> None:
    """EV4: it could not be named."""
    answer = agent.invoke(batch(message("m-1", "true"), {"eventSource": "aws:sqs", "body": "true"}))
    assert (answer.error_type, "messageId is missing" in answer.document["errorMessage"]) == ("BadEvent", True)


def test_in_a_fifo_queue_what_follows_a_failed_message_of_its_group_waits_for_it(agent: Agent) -> None:
    """EV10, EV6: order within a group is kept; another group does not wait."""
    answer = agent.invoke(
        batch(
            message("m-1", "echo first", "g"),
            message("m-2", "exit 1", "g"),
            message("m-3", "echo h-runs", "h"),
            message("m-4", "echo never", "g"),
        )
    )
    assert back(answer) == ["m-2", "m-4"]
    agent.says("h-runs\n")
    assert "never\n" not in agent.log


def test_a_messages_text_is_the_input_file_and_its_record_the_event(agent: Agent) -> None:
    """EV9, EV15: of a queue, of a topic, of EventBridge."""
    show = 'echo "gold in the event: $(grep -c gold-1 "$SCAR_EVENT_FILE")"; basename "$INPUT_FILE_PATH"; exit 0'
    assert back(agent.invoke(batch({**message("m-1", show), "messageAttributes": {"kind": "gold-1"}}))) == []
    agent.says("gold in the event: 1\nmessage\n")
    topic = {"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": "echo of-a-topic"}}
    answer = agent.invoke({"Records": [topic]})
    assert answer.document["runs"][0]["output"] == "of-a-topic\n"
    failed = agent.invoke({"Records": [{**topic, "Sns": {"MessageId": "n-2", "Message": "exit 7"}}]})
    assert failed.error_type == "ScriptFailed"


@pytest.mark.parametrize("size", [30 * 1024 + 1, 256 * 1024, 1024 * 1024 - 1])
def test_a_payload_of_any_size_reaches_the_script_by_a_file(agent: Agent, size: int) -> None:
    """EV16: as its input and, in its envelope, as its event."""
    program = '[ "$(wc -c < "$INPUT_FILE_PATH")" -gt 30000 ] && wc -c < "$INPUT_FILE_PATH" && exit 0\n#'
    event = {
        "Records": [
            {"EventSource": "aws:sns", "Sns": {"MessageId": "n", "Message": program + "x" * (size - len(program))}}
        ]
    }
    answer = agent.invoke(event)
    assert answer.document["runs"][0]["output"].strip() == str(size)


@pytest.mark.parametrize("mode", ["batch", "lambda-batch"])
def test_a_message_that_could_not_be_handed_over_comes_back_alone_and_is_handed_over_then(
    handing: Handing, mode: str
) -> None:
    """EV10, EV5: a message has its id in every delivery, so what Batch has already, or is done, is not done again."""
    agent = handing.agent(handing.function('sleep "$(cat "$INPUT_FILE_PATH")"', mode))
    both = batch(message("m-1", "0"), message("m-2", "30"))
    refused = Fault(status=400, code="ClientException")
    handing.batch.faults["submitjob"] = [Fault(), refused] if mode == "batch" else [refused]
    assert back(agent.invoke(both, request_id="r-1", timeout_s=2)) == ["m-2"]
    jobs = len(handing.batch.jobs)
    assert back(agent.invoke(both, request_id="r-2", timeout_s=2)) == []
    assert back(agent.invoke(both, request_id="r-3", timeout_s=2)) == []
    assert len(handing.batch.jobs) == jobs + 1 == (2 if mode == "batch" else 1)


def test_every_record_of_minio_and_of_dcache_without_its_storage_is_a_failure_that_says_so(agent: Agent) -> None:
    """EV11, EV12: never a silent success."""
    minio = {
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}},
    }
    for event, reason in (
        ({"Records": [minio]}, "no storage provider of that kind"),
        ({"event": {"Records": [minio]}, "storage_provider": "minio.x"}, "'minio.x' is not one of the function's"),
        ({"event": {"name": "x", "mask": ["IN_CLOSE_WRITE"]}, "subscription": "u"}, "no input of a WebDAV storage"),
    ):
        answer = agent.invoke(event)
        assert (answer.error_type, reason in answer.document["errorMessage"]) == ("BadEvent", True), answer.body


def test_the_same_object_twice_in_a_batch_runs_once(agent: Agent, bucket: Bucket) -> None:
    """EV5."""
    note = {"Records": [bucket.put("in/once", b"echo ran-once-for-both")]}
    assert back(agent.invoke(batch(message("m-1", note), message("m-2", note)))) == []
    agent.says("ran-once-for-both\n")
    assert agent.log.count("ran-once-for-both\n") == 1
