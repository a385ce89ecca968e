"""From Lambda to Batch with the whole product between: one job, one publication, whatever AWS answers. Scenarios TM1 to TM20 by their ids."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import until
from tests.e2e.test_main_job import processes_with
from tests.support.fault_proxy import Answer, Cut, Fault, Lose, Refuse


def done(world: World, key: str, name: str = "both") -> None:
    """The record of this key went to Batch once, succeeded, and was published once."""
    job = world.job(name, key)
    assert job["status"] == "SUCCEEDED", job.get("statusReason")
    assert world.output(name, key) == "batch"
    assert world.published(name, key) == 1


def test_what_ends_in_time_is_published_by_lambda_and_makes_no_job(world: World) -> None:
    """TM1."""
    key = world.put("both", "tm1", sleep=0.5)
    until("the output", lambda: world.output("both", "tm1") == "lambda")
    assert world.jobs("both", key) == []
    assert world.published("both", "tm1") == 1


def test_what_outlives_its_time_leaves_no_process_and_no_part_and_goes_on_in_batch(world: World) -> None:
    """TM2, TM4, TM5: children that are deaf to SIGTERM, in sessions of their own, with no parent."""
    marker = f"scar-tm4-{time.time_ns()}"
    world.hidden("both", "tm4", marker_lambda=marker, deaf_lambda=True, sleep_lambda=60)
    answer, failed = world.invoke("both", world.event("both", "aside/tm4.json"))
    assert failed is None
    (run,) = answer["runs"]
    assert run["exit_code"] == 0
    assert run["outputs"] == []
    assert processes_with(marker) == []
    assert [job["jobId"] for job in world.jobs("both", "aside/tm4.json")] == [run["job_id"]]
    done(world, "tm4")
    puts = [call for call in world.proxy.calls("s3", "PutObject") if "/out/tm4" in call.path]
    assert len(puts) == 1


def test_a_script_that_ends_at_the_very_threshold_has_one_winner(world: World) -> None:
    """TM3."""
    names = [f"tm3-{n}" for n in range(6)]
    for n, name in enumerate(names):
        world.put("both", name, sleep_lambda=2.1 + n * 0.2)
    until("all outputs", lambda: all(world.output("both", name) in {"lambda", "batch"} for name in names), 60)
    until("the jobs' end", lambda: world.settled("both"))
    for name in names:
        assert world.published("both", name) == 1
        assert len(world.jobs("both", f"in/{name}.json")) == (world.output("both", name) == "batch")


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Refuse(429, "TooManyRequestsException"), Refuse(500), Refuse(503)], id="TM6-refused-at-first"),
        pytest.param([Lose()], id="TM7-answer-lost"),
        pytest.param([Cut(9)], id="TM7-answer-cut"),
    ],
)
def test_a_submission_that_is_disturbed_is_one_job(
    world: World, faults: list[Fault], request: pytest.FixtureRequest
) -> None:
    """TM6, TM7: the real call is applied and its answer never comes; the job is found by its name."""
    name = request.node.callspec.id.lower()
    for number, fault in enumerate(faults):
        world.proxy.add(
            "batch",
            "SubmitJob",
            fault,
            skip=0 if number == 0 else number,
            where=lambda call: name.encode() in call.body,
        )
    before = len(world.submissions("heavy"))
    world.put("heavy", name)
    done(world, name, "heavy")
    applied = [
        call
        for call in world.submissions("heavy")[before:]
        if name.encode() in call.body and call.status in {200, None}
    ]
    assert len(applied) == 1


def test_a_lost_answer_and_a_list_that_knows_nothing_yet_are_one_job(world: World) -> None:
    """TM8."""
    world.proxy.add("batch", "SubmitJob", Lose())
    world.proxy.add("batch", "ListJobs", Answer({"jobSummaryList": []}), times=3)
    world.put("heavy", "tm8")
    done(world, "tm8", "heavy")
    assert len([call for call in world.submissions("heavy") if b"tm8" in call.body]) == 1


def test_a_lost_answer_of_the_ledger_is_one_job(world: World) -> None:
    """The claim is written and nobody is told; so is what follows it. TM7 for S3."""
    ledger = world.proxy.add("s3", "PutObject", Lose(), times=2, where=lambda call: "/ledger/" in call.path)
    world.put("heavy", "ledger-lost")
    done(world, "ledger-lost", "heavy")
    assert ledger.met >= 2


def test_duplicates_in_parallel_and_later_are_one_job_and_one_output(world: World) -> None:
    """TM11, EV5: the same event four times at once, once while the job runs, once when it has ended."""
    key = world.hidden("heavy", "tm11", sleep=2)
    event = world.event("heavy", key)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(world.invoke("heavy", event))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(failed is None for _, failed in answers)  # the others may have met a live claim, and would be retried
    world.running("heavy", key)
    while_running = world.invoke("heavy", event)
    assert while_running[1] is None, while_running
    done(world, "tm11", "heavy")
    assert world.invoke("heavy", event)[1] is None
    done(world, "tm11", "heavy")
    assert world.lines("heavy").count("tm11.json began in batch") == 1


def test_a_threshold_that_leaves_no_time_is_refused(world: World) -> None:
    """TM12."""
    world.write("tm12.yaml", function("tm12", "lambda-batch", container={"image": "scratch", "timeout_threshold": 7}))
    refused = world.scar("validate", "-f", "tm12.yaml")
    assert refused.code == 2
    assert "timeout_threshold" in refused.err


def test_a_queue_that_takes_nothing_fails_the_invocation_and_the_retry_hands_over(world: World) -> None:
    """TM13: the failure is Lambda's to retry; its message names the queue."""
    key = world.hidden("heavy", "tm13")
    set_queue(world, "DISABLED")
    try:
        answer, failed = world.invoke("heavy", world.event("heavy", key))
        assert failed
        assert answer["errorType"] == "HandOverFailed"
        assert "scar-heavy" in answer["errorMessage"]
        assert world.jobs("heavy", key) == []
        world.deliver("heavy", world.event("heavy", key))
    finally:
        set_queue(world, "ENABLED")
    done(world, "tm13", "heavy")


def set_queue(world: World, state: str) -> None:
    world.batch.update_job_queue(jobQueue="scar-heavy", state=state)

    def settled() -> bool:
        (queue,) = world.batch.describe_job_queues(jobQueues=["scar-heavy"])["jobQueues"]
        return bool(queue["status"] == "VALID")

    until("the queue", settled)


def test_an_event_too_large_for_a_job_goes_by_reference(world: World) -> None:
    """TM14: 900 KB, nearly all that an asynchronous event may have, with letters of several bytes."""
    key = world.hidden("heavy", "tm14", text="whole")
    record = json.loads(world.event("heavy", key))
    record["Records"][0]["about"] = "ü€" * 180_000
    payload = json.dumps(record, ensure_ascii=False).encode()
    assert 890_000 < len(payload) < 1_000_000
    world.deliver("heavy", payload)
    job = world.job("heavy", key)
    assert job["status"] == "SUCCEEDED", job.get("statusReason")
    assert world.output("heavy", "tm14") == "whole"
    task = world.task(job)
    assert task.event is None
    assert task.reference is not None
    assert "/functions/heavy/spill/" in task.reference.uri


def test_a_job_that_fails_is_told_with_its_code_and_not_run_again_by_lambda(world: World) -> None:
    """TM16."""
    key = world.hidden("heavy", "tm16", exit=5)
    event = world.event("heavy", key)
    answer, failed = world.invoke("heavy", event)
    assert failed is None
    job_id = answer["runs"][0]["job_id"]
    assert world.job("heavy", key)["container"]["exitCode"] == 5
    assert world.scar("wait", job_id).code == 5
    assert world.published("heavy", "tm16") == 0
    again, failed = world.invoke("heavy", event)  # what Lambda's retry would send
    assert failed is None, again
    assert len(world.jobs("heavy", key)) == 1
    assert world.lines("heavy").count("tm16.json began in batch") == 1
    told = world.scar("log", "-n", "heavy", "-ri", job_id)
    assert "tm16.json ended in batch" in told.out
    assert "5" in told.out.splitlines()[-1] + told.err


def test_a_job_that_is_terminated_publishes_nothing(world: World) -> None:
    """TM17."""
    marker = f"scar-tm17-{time.time_ns()}"
    key = world.put("heavy", "tm17", sleep=60, marker=marker)
    job = world.running("heavy", key)
    world.local.must("terminate", job["jobId"], "--reason", "enough of it")
    ended = world.job("heavy", key, 45)
    assert ended["status"] == "FAILED"
    assert "enough of it" in ended["statusReason"]
    assert processes_with(marker) == []
    assert world.published("heavy", "tm17") == 0
