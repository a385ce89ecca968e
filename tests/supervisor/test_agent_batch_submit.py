"""SubmitJob without an idempotency token: what is sent, what is counted, and what is done when an answer is lost, late or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from faassupervisor import hops, on_failure
from faassupervisor.aws import Aws
from faassupervisor.contract import Task, job_name
from faassupervisor.deadline import Deadline
from faassupervisor.delegate import Batch, task_that_fits
from faassupervisor.errors import HandOverError
from faassupervisor.state import State
from tests.supervisor.batch_double import FakeBatch, Fault
from tests.supervisor.batch_lab import ARN, TIMED_OUT, failed_for_good
from tests.supervisor.conftest import CREDENTIALS

RUN = "ab" * 32
TASK = Task("f", "r-1", RUN, 1, event="{}")
NAME = job_name("f", RUN, 1)


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s
        self.pauses.append(pause_s)


class Submitting:
    def __init__(self, fake: FakeBatch, client: Any) -> None:
        self.fake, self.clock = fake, Clock()
        self.batch = Batch(client, "scar-f", "scar-f-def", pause=self.clock.sleep)

    def hand_over(self, *, continued: bool = False, left_s: float = 20.0) -> str:
        return self.batch.hand_over(TASK, NAME, Deadline(left_s, 0, clock=self.clock), continued=continued)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeBatch]:
    with FakeBatch() as batch:
        yield batch


@pytest.fixture(scope="module")
def client(fake: FakeBatch) -> Any:
    return Aws({**CREDENTIALS, "AWS_ENDPOINT_URL_BATCH": fake.endpoint}).batch()


@pytest.fixture
def submitting(fake: FakeBatch, client: Any) -> Submitting:
    for kept in (fake.calls, fake.jobs, fake.bodies, fake.faults):
        kept.clear()
    return Submitting(fake, client)


def test_a_new_hand_over_is_one_call(submitting):
    assert submitting.hand_over() == submitting.fake.jobs[0]["jobId"]
    assert submitting.fake.calls == ["submitjob"]


def test_no_connection_is_kept_for_the_next_invocation(submitting):
    """Batch may close it while Lambda has us frozen, and then it would be in doubt whether the job was submitted."""
    before = submitting.fake.connections
    submitting.hand_over()
    submitting.hand_over()
    assert submitting.fake.connections == before + 2


def test_a_continued_one_asks_for_the_job_first(submitting):
    """TM10."""
    first = submitting.hand_over()
    assert submitting.hand_over(continued=True) == first
    assert submitting.fake.calls == ["submitjob", "listjobs"] and len(submitting.fake.jobs) == 1


def test_a_job_whose_name_differs_in_case_only_is_another(submitting):
    submitting.fake.jobs.append({"jobName": NAME.upper(), "jobId": "other", "createdAt": 1})
    assert submitting.hand_over(continued=True) != "other"


@pytest.mark.parametrize(
    ("status", "code"), [(429, "TooManyRequestsException"), (500, "ServerException"), (503, "ServiceUnavailable")]
)
def test_a_refusal_that_passes_is_sent_again_and_submitted_once(submitting, status, code):
    """TM6, BA12."""
    submitting.fake.faults["submitjob"] = [Fault(status=status, code=code)] * 3
    assert submitting.hand_over() == submitting.fake.jobs[0]["jobId"]
    assert len(submitting.fake.jobs) == 1 and submitting.clock.pauses == sorted(submitting.clock.pauses)


@pytest.mark.parametrize("fault", [Fault(lose=True), Fault(cut=True)], ids=["lost", "cut"])
def test_a_lost_answer_is_looked_up_and_not_submitted_again(submitting, fault):
    """TM7."""
    submitting.fake.faults = {"submitjob": [fault], "listjobs": [fault]}
    assert submitting.hand_over() == submitting.fake.jobs[0]["jobId"]
    assert submitting.fake.calls == ["submitjob", "listjobs", "listjobs"]


def test_a_list_that_is_behind_is_asked_again_with_growing_pauses(submitting):
    """TM8."""
    submitting.fake.faults = {
        "submitjob": [Fault(lose=True)],
        "listjobs": [Fault(stale=True), Fault(status=429), Fault(lose=True)],
    }
    assert submitting.hand_over() == submitting.fake.jobs[0]["jobId"]
    assert submitting.fake.count("submitjob") == 1 and submitting.fake.count("listjobs") == 4
    assert submitting.clock.now_s < 20


def test_a_doubt_that_time_does_not_settle_is_a_failure_and_no_second_job(submitting):
    """TM8: the next attempt finds it."""
    submitting.fake.faults = {"submitjob": [Fault(lose=True)], "listjobs": [Fault(stale=True)] * 50}
    with pytest.raises(HandOverError, match=r"no job of this name is seen yet\. It was not submitted again"):
        submitting.hand_over(left_s=10)
    assert submitting.clock.now_s < 10 and len(submitting.fake.jobs) == 1
    submitting.fake.faults.clear()
    assert submitting.hand_over(continued=True) == submitting.fake.jobs[0]["jobId"]


def test_no_time_beyond_a_minute_is_spent_on_a_batch_that_does_not_answer(submitting):
    submitting.fake.faults["submitjob"] = [
        Fault(status=429, code="TooManyRequestsException", message="slow down")
    ] * 100
    with pytest.raises(HandOverError, match="queue scar-f: TooManyRequestsException: slow down"):
        submitting.hand_over(left_s=900)
    assert 50 < submitting.clock.now_s <= 60 and submitting.fake.jobs == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(status=400, code="ClientException", message="Job queue scar-f does not exist"), "Is the queue enabled"),
        (Fault(status=403, code="AccessDeniedException", message="is not authorized"), "needs batch:SubmitJob on the queue and on job definition scar-f-def"),
    ],
)  # fmt: skip
def test_what_batch_will_not_do_is_told_at_once_with_what_to_do(submitting, fault, expected):
    """TM13."""
    submitting.fake.faults["submitjob"] = [fault]
    with pytest.raises(HandOverError, match=expected) as told:
        submitting.hand_over()
    assert (
        fault.message in told.value.message and submitting.clock.pauses == [] and submitting.fake.calls == ["submitjob"]
    )


def test_a_batch_that_nobody_can_reach_is_tried_again_and_told():
    clock = Clock()
    client = Aws({**CREDENTIALS, "AWS_ENDPOINT_URL_BATCH": "http://127.0.0.1:9"}).batch()
    batch = Batch(client, "scar-f", "d", pause=clock.sleep)
    with pytest.raises(HandOverError, match="Could not connect"):
        batch.hand_over(TASK, NAME, Deadline(3, 0, clock=clock), continued=False)
    assert len(clock.pauses) > 2


class _Memory:
    """As much of S3 as a spill asks for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, str]:
        self.objects[f"{Bucket}/{Key}"] = Body
        return {"ETag": '"e"'}


def fits(submitting: Submitting, event: bytes, *, may_spill: bool = True) -> tuple[Task, dict[str, bytes]]:
    memory = _Memory()
    state = State(memory, "s3://b/functions/f/")  # type: ignore[arg-type]
    return task_that_fits(
        submitting.batch, replace(TASK, event=""), event, NAME, state, may_spill=may_spill
    ), memory.objects


def as_json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["a", '"', "é", "\n", "\\", "😀"])
def test_an_event_is_sent_along_as_long_as_every_hop_takes_it_and_by_reference_from_then_on(submitting, text):
    """BA2, BA3, TM14: counted as sent, and the event that arrives is the one that was given."""
    least, most = 0, 8192
    while most - least > 1:  # the longest that goes along
        middle = (least + most) // 2
        least, most = (middle, most) if fits(submitting, as_json(text * middle))[0].event else (least, middle)
    longest = as_json(text * least)
    task, spilled = fits(submitting, longest)
    assert spilled == {} and (task.event or "").encode() == longest
    overrides = submitting.batch.request(task, NAME)["containerOverrides"]
    assert hops.ECS_OVERRIDES.room - 30 < hops.characters(overrides) <= hops.ECS_OVERRIDES.room
    too_long = as_json(text * (least + 1))
    task, spilled = fits(submitting, too_long)
    assert task.event is None and task.reference is not None
    assert list(spilled.values()) == [too_long] and f"s3://{next(iter(spilled))}" == task.reference.uri
    assert Task.from_json(task.to_json()) == task


def test_an_event_in_another_encoding_goes_by_reference_byte_for_byte(submitting):
    event = json.dumps({"a": "é"}, ensure_ascii=False).encode("utf-16")
    task, spilled = fits(submitting, event)
    assert task.event is None and list(spilled.values()) == [event]


def test_where_nothing_may_be_spilled_too_much_is_one_failure_with_hop_size_and_limit(submitting):
    """BA1, BA2."""
    with pytest.raises(
        HandOverError,
        match=r"^ECS overrides: what SubmitJob overrides of the container has \d+ characters, the limit is 8192",
    ):
        fits(submitting, b'"' + b"a" * 9000 + b'"', may_spill=False)
    assert submitting.fake.calls == []


def test_on_failure_documents_are_unwrapped_to_the_request_that_failed_first():
    once = failed_for_good({"a": 1}, "r-1", TIMED_OUT)
    twice = failed_for_good(once, "r-2", {"errorType": "HandOverFailed"})
    found = on_failure.unwrapped(json.dumps(twice).encode(), f"{ARN}:live")
    assert found == on_failure.Undone("r-1", b'{"a": 1}', "Sandbox.Timedout", 2)
    assert not found.is_told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, False),  # EventAgeExceeded: it never ran
        (
            {"errorMessage": "2026-11-21T12:00:00.000Z r-1 Task timed out after 3.00 seconds"},
            False,
        ),  # as older documents show it
        ({"errorType": "Runtime.ExitError"}, False),
        ({"errorType": "AlreadyRunning"}, False),
        ({"errorType": "ScriptFailed"}, True),
        ({"errorType": "BadEvent"}, True),
    ],
)
def test_only_failures_that_the_agent_told_need_no_hand_over(answer, told):
    found = on_failure.unwrapped(json.dumps(failed_for_good({}, "r-1", answer)).encode(), ARN)
    assert found is not None and found.is_told == told


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b'{"requestPayload"',
        b'["requestPayload"]',
        b'{"requestPayload": {}}',
        b'{"requestPayload": {}, "requestContext": {"functionArn": 5, "requestId": "r"}}',
        json.dumps({"requestPayload": {}, "requestContext": {"functionArn": ARN}}).encode(),
        json.dumps(failed_for_good({}, "r-1", arn=ARN + "2")).encode(),
        b"[" * 100_000 + b'"requestPayload"',
    ],
)
def test_anything_else_is_an_event(document):
    assert on_failure.unwrapped(document, ARN) is None


def test_a_multi_node_job_is_given_its_task_on_its_main_node_alone(submitting, client):
    """T1-20: the other nodes have nothing to ask the ledger for."""
    batch = Batch(client, "scar-f", "scar-f-def", main_node="2:2", pause=submitting.clock.sleep)
    batch.hand_over(TASK, NAME, Deadline(20.0, 0, clock=submitting.clock), continued=False)
    (sent,) = (json.loads(body) for body in submitting.fake.bodies)
    assert "containerOverrides" not in sent
    override = {"environment": [{"name": "SCAR_TASK", "value": TASK.to_json().decode()}]}
    assert sent["nodeOverrides"] == {"nodePropertyOverrides": [{"targetNodes": "2:2", "containerOverrides": override}]}
    # The request is longer by the node; what ECS is told of each node's container is not.
    large = replace(TASK, event=json.dumps("x" * 6000))
    assert batch.too_large(large, NAME) == submitting.batch.too_large(large, NAME) is not None
