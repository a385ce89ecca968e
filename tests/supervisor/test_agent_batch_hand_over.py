"""From Lambda to Batch: what runs where, what is published, and that a record becomes one job whatever is killed, lost or repeated."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time

import pytest

from faassupervisor.contract import Reference, Task
from tests.supervisor.batch_double import Fault
from tests.supervisor.batch_lab import ARN, TIMED_OUT, command_lines, failed_for_good, handing, says, told_by
from tests.supervisor.faults import FaultyS3, always
from tests.support.faults import Headers, Lose, Refuse

__all__ = ["handing"]

LONG = 'echo "$SCAR_ATTEMPT $SCAR_IDEMPOTENCY_KEY"; echo partial > "$TMP_OUTPUT_DIR/part"; sleep 30'
COPY = 'cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"'


def event(*records):
    return {"Records": list(records)}


def test_a_script_that_ends_in_time_publishes_from_lambda_and_becomes_no_job(handing):
    """TM1."""
    function = handing.function(
        f'{COPY}; echo "$SCAR_ATTEMPT $SCAR_IDEMPOTENCY_KEY"; echo $(env | grep -Ec "^SCAR_(STATE|JOB|TASK)")'
    )
    answer = handing.agent(function).invoke(event(handing.bucket.put("in/a")), request_id="r-1")
    entry = handing.entry()
    assert answer.document["runs"][0]["output"].split() == [
        "1",
        *handing.bucket.keys("functions/")[0].split("/")[-1:],
        "0",
    ]
    assert handing.outputs() == ["out/a"]
    assert (entry["state"], entry["place"], entry["exit_code"], entry["key"]) == ("done", "lambda", 0, "in/a")
    assert handing.batch.calls == []


def test_a_script_that_is_out_of_time_becomes_one_job_and_nothing_of_it_is_published_or_left_running(handing):
    """TM2, TM4, TM5."""
    own = f"31{os.getpid()}"  # seconds that no other test sleeps
    function = handing.function(f"trap '' TERM; (setsid sleep {own} &) ; {LONG}")
    with FaultyS3(handing.lab.endpoint) as s3:
        agent = handing.agent(function, AWS_ENDPOINT_URL_S3=s3.endpoint)
        answer = agent.invoke(event(handing.bucket.put("in/a")), timeout_s=2.5, request_id="r-1")
        puts = [request.path for request in s3.requests if request.method == "PUT"]
    run = answer.document["runs"][0]
    (job,) = handing.batch.jobs
    task = Task.from_json(handing.batch.task)
    entry = handing.entry()
    assert answer.error_type is None
    assert (run["exit_code"], run["job_id"], run["outputs"]) == (0, job["jobId"], [])
    assert handing.outputs() == [] and all("/functions/f/ledger/" in path for path in puts) and len(puts) == 3
    assert (task.function, task.request_id, task.epoch) == ("f", "r-1", 1)
    assert (job["jobQueue"], job["jobDefinition"]) == ("scar-f", "scar-f-0123456789abcdef")
    assert job["jobName"] == entry["job_name"] == f"scar-f-{task.run[:32]}-1"
    assert (entry["state"], entry["job_id"]) == ("delegated", job["jobId"])
    assert handing.batch.calls == ["submitjob"]  # a new job name needs no looking for it
    (told,) = told_by(agent, "handed over")
    assert {name: told[name] for name in ("job_id", "job_name", "run", "reason", "key", "request_id")} == {
        "job_id": job["jobId"], "job_name": job["jobName"], "run": task.run, "reason": "out of time", "key": "in/a", "request_id": "r-1",
    }  # fmt: skip
    assert not [line for _, line in command_lines() if line.startswith(f"sleep\0{own}".encode())]


def test_in_mode_batch_nothing_runs_here_and_no_input_is_read(handing):
    function = handing.function("echo started", mode="batch")
    with FaultyS3(handing.lab.endpoint) as s3:
        agent = handing.agent(function, AWS_ENDPOINT_URL_S3=s3.endpoint)
        agent.api.wait_until_asked()
        records = [handing.bucket.put(f"in/{name}") for name in "abc"]
        started = time.process_time()
        answer = agent.invoke(event(*records), request_id="r-1")
        assert time.process_time() - started < 1
        asked = [(request.method, request.path.split("?")[0]) for request in s3.requests]
    assert [run["job_id"] for run in answer.document["runs"]] == [job["jobId"] for job in handing.batch.jobs]
    assert handing.batch.calls == ["submitjob"] * 3
    assert {method for method, _ in asked} == {"PUT"} and len(asked) == 6  # delegating, delegated
    assert [told["reason"] for told in told_by(agent, "handed over", 3)] == ["mode batch"] * 3
    assert "started" not in agent.log


def test_a_script_that_fails_is_written_down_and_becomes_no_job(handing):
    agent = handing.agent(handing.function('echo x > "$TMP_OUTPUT_DIR/x"; exit 3'))
    record = event(handing.bucket.put("in/a"))
    answer = agent.invoke(record, request_id="r-1")
    entry = handing.entry()
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 3)
    assert (entry["state"], entry["exit_code"], entry["reason"]) == ("failed", 3, "script exited with code 3")
    again = agent.invoke(record, request_id="r-1")  # Lambda's own retry: a further attempt
    assert (again.error_type, handing.entry()["attempt"]) == ("ScriptFailed", 2)
    last = agent.invoke(failed_for_good(record, "r-1", json.loads(again.body)), request_id="r-2")
    assert last.document["skipped"] == ["request r-1 has failed with ScriptFailed; it is recorded"]
    assert handing.batch.calls == [] and handing.outputs() == []


def test_a_repeated_event_neither_runs_nor_submits_anything_again(handing):
    """TM11: of a record that is done, and of one that is in the hands of Batch."""
    agent = handing.agent(handing.function(f'[ "$STORAGE_OBJECT_KEY" = in/long ] && sleep 30; {COPY}; echo ran >&2'))
    records = event(handing.bucket.put("in/short"), handing.bucket.put("in/long"))
    first = agent.invoke(records, timeout_s=2, request_id="r-1")
    second = agent.invoke(records, timeout_s=2, request_id="r-2")
    job_id = handing.batch.jobs[0]["jobId"]
    assert [run["job_id"] for run in first.document["runs"] if "job_id" in run] == [job_id]
    assert [run["job_id"] for run in second.document["runs"]] == [job_id]
    assert second.document["skipped"] == ["'in/short' was processed already (request r-1)"]
    says(agent, "ran\n")
    assert handing.batch.calls == ["submitjob"] and agent.log.count("ran\n") == 1 and handing.outputs() == ["out/short"]


def test_records_for_which_no_time_is_left_are_handed_over_at_once(handing):
    """TM12: the second of two long records."""
    agent = handing.agent(handing.function("echo started; sleep 30"))
    answer = agent.invoke(event(handing.bucket.put("in/a"), handing.bucket.put("in/b")), timeout_s=2, request_id="r-1")
    assert [run["job_id"] for run in answer.document["runs"]] == [job["jobId"] for job in handing.batch.jobs]
    says(agent, "started\n")
    assert agent.log.count("started\n") == 1


def test_an_input_that_does_not_fit_the_disk_is_handed_over(handing):
    """XF11."""
    rule = always(
        lambda request: request.method == "GET" and "/in/" in request.path, Headers({"Content-Length": str(1 << 50)})
    )
    with FaultyS3(handing.lab.endpoint, rule) as s3:
        agent = handing.agent(handing.function(COPY), AWS_ENDPOINT_URL_S3=s3.endpoint)
        answer = agent.invoke(event(handing.bucket.put("in/a")), request_id="r-1")
    assert answer.document["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"]
    assert told_by(agent, "handed over")[0]["reason"] == "no room"


def test_at_the_very_threshold_a_record_is_either_published_or_handed_over(handing):
    """TM3: three quarters of the time are the script's, which takes about as long."""
    agent = handing.agent(handing.function(f"sleep 0.3; {COPY}"))
    agent.invoke(event(handing.bucket.put("in/warm")))
    for number in range(5):
        record = handing.bucket.put(f"in/{number}")
        (run,) = agent.invoke(event(record), timeout_s=0.38 + number * 0.03).document["runs"]
        assert ("job_id" in run) != (f"out/{number}" in handing.outputs())
    jobs = len(handing.batch.jobs)
    assert jobs + len(handing.outputs()) == 6 and handing.batch.calls == ["submitjob"] * jobs


def test_another_live_invocation_of_the_same_record_makes_this_one_fail_and_both_publish_once(handing, tmp_path):
    function = handing.function(f"{COPY}; sleep 1")
    first = handing.agent(function)
    handing.lab.temporary = tmp_path / "of-another-sandbox"
    handing.lab.temporary.mkdir()
    second = handing.agent(function)
    record = event(handing.bucket.put("in/a"))
    pending = first.api.post(record, timeout_s=20, request_id="r-1")
    while not handing.bucket.keys("functions/"):
        time.sleep(0.02)
    answer = second.invoke(record, request_id="r-2")
    assert answer.error_type == "AlreadyRunning" and "request r-1" in answer.document["errorMessage"]
    assert pending.answered.get(timeout=10).error_type is None
    assert second.invoke(record, request_id="r-2").document["skipped"] == ["'in/a' was processed already (request r-1)"]


@pytest.mark.parametrize("last", ["claimed", "submit asked", "submitted", "delegated"])
def test_lambda_may_die_between_any_two_steps_of_a_hand_over(handing, last):
    """TM9, TM10, TM15: the asynchronous retry has the same request id; there is one job in the end. `last` is the step that was done."""
    dying = threading.Event()

    def die() -> None:
        os.killpg(agent.process.pid, signal.SIGKILL)
        dying.set()

    def rule(request):
        if request.method == "PUT" and "/functions/f/" in request.path:
            puts.append(request)
            if len(puts) == {"claimed": 1, "delegated": 2}.get(last):
                return Lose(die)
        return None

    puts = []
    if last.startswith("submit"):
        handing.batch.faults["submitjob"] = [
            Fault(before=die, status=500) if last == "submit asked" else Fault(after=die, lose=True)
        ]
    function = handing.function("echo started", mode="batch")
    with FaultyS3(handing.lab.endpoint, rule) as s3:
        agent = handing.agent(function, AWS_ENDPOINT_URL_S3=s3.endpoint)
        record = event(handing.bucket.put("in/a"))
        agent.api.post(record, request_id="r-1")
        assert dying.wait(20)
    answer = handing.agent(function).invoke(record, request_id="r-1")
    (job,) = handing.batch.jobs
    assert answer.document["runs"][0]["job_id"] == job["jobId"]
    assert (handing.entry()["state"], handing.entry()["job_id"]) == ("delegated", job["jobId"])


def test_a_hand_over_that_another_request_goes_on_with_keeps_the_first_ones_id(handing):
    """A hand-over that failed is given up at once: a duplicate of the event may go on with it, and looks for its job first."""
    record = event(handing.bucket.put("in/a"))
    handing.batch.faults["submitjob"] = [Fault(status=400, code="ClientException")]
    agent = handing.agent(handing.function("true", "batch"))
    assert agent.invoke(record, request_id="r-1").error_type == "HandOverFailed"
    assert agent.invoke(record, request_id="r-2").error_type is None
    assert Task.from_json(handing.batch.task).request_id == "r-1"
    assert handing.batch.calls == ["submitjob", "listjobs", "submitjob"]


def test_a_leg_that_was_killed_while_its_script_ran_is_handed_over_by_the_retry_and_not_run_again(handing):
    """TM15."""
    function = handing.function("echo started; sleep 30")
    first = handing.agent(function)
    record = event(handing.bucket.put("in/a"))
    first.api.post(record, request_id="r-1")
    while "started" not in first.log:
        time.sleep(0.02)
    os.killpg(first.process.pid, signal.SIGKILL)
    second = handing.agent(function)
    answer = second.invoke(record, request_id="r-1")
    assert answer.document["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"]
    assert "started" not in second.log and told_by(second, "handed over")[0]["reason"] == "killed"


def test_a_job_that_batch_refuses_fails_the_invocation_with_what_to_do_and_the_retry_submits_it(handing):
    """TM13."""
    agent = handing.agent(handing.function("true", mode="batch"))
    record = event(handing.bucket.put("in/a"))
    refused = Fault(status=400, code="ClientException", message="JobQueue scar-f is not ENABLED")
    handing.batch.faults["submitjob"] = [
        refused,
        Fault(status=403, code="AccessDeniedException", message="not authorized"),
    ]
    answer = agent.invoke(record, request_id="r-1")
    assert answer.error_type == "HandOverFailed"
    assert "queue scar-f" in answer.document["errorMessage"] and "is not ENABLED" in answer.document["errorMessage"]
    assert "`scar init`" in answer.document["errorMessage"]
    again = agent.invoke(record, request_id="r-1")
    assert "batch:SubmitJob" in again.document["errorMessage"]
    assert agent.invoke(record, request_id="r-1").error_type is None
    assert len(handing.batch.jobs) == 1


def test_a_ledger_that_may_not_be_written_fails_the_invocation_before_anything_runs(handing):
    rule = lambda request: Refuse(403, "AccessDenied") if "/ledger/" in request.path else None  # noqa: E731
    with FaultyS3(handing.lab.endpoint, rule) as s3:
        agent = handing.agent(handing.function("echo started"), AWS_ENDPOINT_URL_S3=s3.endpoint)
        answer = agent.invoke(event(handing.bucket.put("in/a")), request_id="r-1")
    assert answer.error_type == "HandOverFailed"
    assert (
        "/functions/f/ledger/" in answer.document["errorMessage"] and "s3:PutObject" in answer.document["errorMessage"]
    )
    says(agent, "a record failed")
    assert "started\n" not in agent.log and handing.batch.calls == []


def test_a_ledger_that_fails_after_the_run_publishes_nothing_and_the_next_attempt_hands_over(handing):
    puts = []

    def rule(request):
        if request.method == "PUT" and "/ledger/" in request.path:
            puts.append(request)
        return Refuse(403, "AccessDenied") if len(puts) == 2 else None

    with FaultyS3(handing.lab.endpoint, rule) as s3:
        agent = handing.agent(handing.function(COPY), AWS_ENDPOINT_URL_S3=s3.endpoint)
        record = event(handing.bucket.put("in/a"))
        assert agent.invoke(record, request_id="r-1").error_type == "HandOverFailed"
        assert handing.outputs() == [] and handing.entry()["state"] == "running"
        assert agent.invoke(record, request_id="r-1").document["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"]


def test_a_lost_answer_of_the_ledger_does_not_make_a_stranger_of_our_own_entry(handing):
    """botocore sends a lost If-None-Match again, and gets 412 for our own write."""
    lost = [Lose()]
    rule = lambda request: lost.pop() if request.method == "PUT" and lost else None  # noqa: E731
    with FaultyS3(handing.lab.endpoint, rule) as s3:
        agent = handing.agent(handing.function(COPY), AWS_ENDPOINT_URL_S3=s3.endpoint)
        answer = agent.invoke(event(handing.bucket.put("in/a")), request_id="r-1")
        assert s3.count("PUT", "/ledger/") > 3
    assert (answer.error_type, handing.outputs(), handing.entry()["state"]) == (None, ["out/a"], "done")


class TestOnFailure:
    def test_what_the_platform_killed_is_handed_over_under_its_own_request_id(self, handing):
        agent = handing.agent(handing.function("echo started"))
        original = event(handing.bucket.put("in/a"))
        answer = agent.invoke(failed_for_good(original, "r-1", TIMED_OUT), request_id="r-2")
        assert (answer.document["request_id"], "started" in agent.log) == ("r-1", False)
        assert Task.from_json(handing.batch.task).request_id == "r-1"
        assert told_by(agent, "handed over")[0]["request_id"] == "r-1"
        again = agent.invoke(failed_for_good(original, "r-1", TIMED_OUT), request_id="r-3")
        assert again.document["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"] and len(handing.batch.jobs) == 1

    def test_a_large_payload_that_went_by_reference_goes_on_by_reference(self, handing):
        body = json.dumps({"script": "A" * 40_000}).encode()
        digest = hashlib.sha256(body).hexdigest()
        handing.bucket.put(f"functions/f/spill/{digest}", body)
        sent = Reference(f"{handing.state}spill/{digest}", len(body), digest)
        agent = handing.agent(handing.function("true"))
        answer = agent.invoke(failed_for_good(json.loads(sent.to_payload()), "r-1", TIMED_OUT), request_id="r-2")
        assert answer.error_type is None
        assert Task.from_json(handing.batch.task).reference == sent

    def test_of_several_records_only_those_that_nobody_settled_are_handed_over(self, handing):
        agent = handing.agent(
            handing.function(
                'case "$STORAGE_OBJECT_KEY" in *bad) exit 4;; esac; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"'
            )
        )
        good, bad, third = (handing.bucket.put(f"in/{name}") for name in ("good", "bad", "third"))
        agent.invoke(event(good, bad), request_id="r-1")
        answer = agent.invoke(failed_for_good(event(good, bad, third), "r-1", None), request_id="r-2")
        assert [run["key"] for run in answer.document["runs"]] == ["in/third"]
        assert answer.document["skipped"] == [
            "'in/good' was processed already (request r-1)",
            "'in/bad' has failed with exit code 4; it is recorded (request r-1)",
        ]
        assert len(handing.batch.jobs) == 1

    def test_a_request_that_cannot_be_handed_over_in_four_rounds_ends_written_down(self, handing):
        agent = handing.agent(handing.function("true", mode="batch"))
        original = event(handing.bucket.put("in/a"))
        document = failed_for_good(original, "r-1", TIMED_OUT)
        for number in range(3):
            document = failed_for_good(document, f"r-{number + 2}", {"errorType": "HandOverFailed"})
        answer = agent.invoke(document, request_id="r-9")
        entry = handing.entry()
        assert answer.error_type is None and handing.batch.jobs == []
        assert (entry["state"], entry["request_id"]) == ("failed", "r-1")
        (kept,) = handing.bucket.keys("functions/f/spill/")
        assert json.loads(handing.bucket.get(kept)) == original and kept in entry["reason"]
        assert told_by(agent, "a request is given up")[0]["level"] == "ERROR"

    @pytest.mark.parametrize("mode", ["lambda", "batch"])
    def test_such_a_document_of_another_function_or_in_mode_lambda_is_data(self, handing, mode):
        agent = handing.agent(handing.function("cat $INPUT_FILE_PATH", mode=mode))
        arn = ARN if mode == "lambda" else ARN + "-other"
        answer = agent.invoke(failed_for_good({"a": 1}, "r-1", TIMED_OUT, arn=arn), request_id="r-2")
        assert answer.document["request_id"] == "r-2"
        if mode == "lambda":
            assert "Sandbox.Timedout" in answer.document["runs"][0]["output"]
        else:
            assert "Sandbox.Timedout" in (Task.from_json(handing.batch.task).event or "")


def test_mode_lambda_waits_for_nothing_that_only_batch_needs(handing):
    agent = handing.lab.start(handing.lab.function("true"), environment={"PYTHONVERBOSE": "1"})
    assert agent.invoke({}).error_type is None
    says(agent, "import 'faassupervisor.modes'")
    loaded = {line.split()[1].strip("'") for line in agent.log.splitlines() if line.startswith("import ")}
    assert "faassupervisor.modes" in loaded
    assert (
        not {
            f"faassupervisor.{name}"
            for name in ("ledger", "state", "delegate", "modes_batch", "spill", "on_failure", "hops")
        }
        & loaded
    )
    assert "botocore" not in loaded
