"""The agent as a Batch job: one record taken over from Lambda, its exit code, and what stays when it is stopped."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from faassupervisor.contract import Reference, Task
from faassupervisor.errors import AgentError
from faassupervisor.ledger import Lost
from faassupervisor.mode_job import Alive
from tests.supervisor.batch_double import ROLE_KEY
from tests.supervisor.batch_lab import command_lines, facts, handing
from tests.supervisor.faults import FaultyS3

__all__ = ["handing"]

UPPER = 'tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/result"'


def through_lambda(handing, script: str, event: object):
    """Have a real agent in Lambda hand a record over; the function that the job runs."""
    function = handing.function(script, "batch")
    agent = handing.agent(function)
    answer = agent.invoke(event, request_id="r-1")
    assert answer.error_type is None, agent.log
    agent.process.terminate()
    return function


def test_a_job_runs_the_record_that_it_was_submitted_for_and_publishes(handing):
    show = 'env | grep -E "^(REQUEST_ID|AWS_LAMBDA_REQUEST_ID|STORAGE_OBJECT_KEY|AWS_BATCH_JQ_NAME|SCAR_[A-Z_]*)=" | sort; ls "$TMP_INPUT_DIR"'
    function = handing.handed_over(f"{UPPER}; {show}")
    job = handing.job(function, AWS_ACCESS_KEY_ID="AKIAUSERSOWNKEY00000")
    assert job.end() == 0
    entry, run = handing.entry(), Task.from_json(handing.batch.task).run
    assert handing.bucket.get("out/result") == b"HELLO"
    assert (entry["state"], entry["place"], entry["attempt"]) == ("done", "batch", 1)
    assert [line for line in job.log.splitlines() if not line.startswith("{")] == [
        "AWS_BATCH_JQ_NAME=scar-f",
        "AWS_LAMBDA_REQUEST_ID=r-1",
        "REQUEST_ID=r-1",
        "SCAR_ATTEMPT=1",
        f"SCAR_BUCKET={handing.bucket.name}",
        next(line for line in job.log.splitlines() if line.startswith("SCAR_EVENT_FILE=")),
        "SCAR_FUNCTION=f",
        f"SCAR_IDEMPOTENCY_KEY={run}",
        "SCAR_SEQUENCER=0055AED6DCD90281E5",
        "STORAGE_OBJECT_KEY=in/a",
        "a",
    ]
    (started,), (ended,) = job.facts("job started"), job.facts("job ended")
    assert (started["request_id"], started["run"], started["attempt"]) == ("r-1", run, 1)
    assert (ended["request_id"], ended["exit_code"]) == ("r-1", 0)
    assert job.summary["runs"][0]["outputs"] == [f"s3://{handing.bucket.name}/out/result"]
    assert job.summary["runs"][0]["output"] == ""


def test_the_agent_uses_the_roles_credentials_only_and_the_script_what_the_user_gave(handing, tmp_path):
    """Keys in the job definition, and those that the image's files hold, are not the agent's; nor is a profile that is not there."""
    function = handing.handed_over(f'{UPPER}; echo "key $AWS_ACCESS_KEY_ID"')
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id=AKIAIMAGE\naws_secret_access_key=x\n")
    with FaultyS3(handing.lab.endpoint) as s3:
        job = handing.job(function, AWS_ENDPOINT_URL_S3=s3.endpoint, HOME=str(tmp_path), AWS_PROFILE="nowhere")
        assert job.end() == 0, job.log
        signed = {request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in s3.requests}
    assert signed == {ROLE_KEY} and handing.batch.credentials_asked == 1
    assert "key AKIAIOSFODNN7EXAMPLE" in job.log


def test_credentials_that_run_out_during_a_job_are_asked_for_again(handing):
    function = handing.handed_over(UPPER)
    handing.batch.credentials_last_s = 60  # less than botocore waits for before it asks again
    assert handing.job(function).end() == 0
    assert handing.batch.credentials_asked > 1


def test_the_scripts_exit_code_is_the_jobs_and_nothing_is_published(handing):
    """BA4."""
    function = handing.handed_over('echo x > "$TMP_OUTPUT_DIR/x"; kill -9 $$')
    job = handing.job(function)
    assert job.end() == 137
    entry = handing.entry()
    assert (entry["state"], entry["place"], entry["exit_code"]) == ("failed", "batch", 137)
    assert (job.summary["exit_code"], job.facts("job ended")[0]["exit_code"]) == (137, 137)
    assert handing.outputs() == []


@pytest.mark.parametrize("code", [0, 1, 126, 127, 143, 255])
def test_every_exit_code_of_a_script_is_told_as_it_is(handing, code):
    """BA4, and a job that was submitted by hand: it runs its event without a ledger."""
    function = handing.lab.function(
        f'cat "$SCAR_EVENT_FILE"; echo; [ {code} = 143 ] && kill $$; exit {code}', mode="batch"
    )
    job = handing.job(function, "", job_id="by-hand", EVENT='{"cmd_args": ["a"]}')
    assert job.end() == code
    assert '{"cmd_args": ["a"]}\n' in job.log and handing.bucket.keys("functions/") == []
    assert facts(job.log, "job started")[0]["job_id"] == "by-hand"


def test_a_second_attempt_publishes_its_own_files_only(handing):
    """BA8: attempt 1 fails after it wrote, attempt 2 succeeds."""
    function = handing.handed_over(
        'echo "$SCAR_ATTEMPT" > "$TMP_OUTPUT_DIR/of-$SCAR_ATTEMPT"; [ "$SCAR_ATTEMPT" = 2 ] || exit 9'
    )
    assert handing.job(function, attempt=1).end() == 9
    assert handing.outputs() == []
    assert handing.job(function, attempt=2).end() == 0
    assert handing.outputs() == ["out/of-2"] and handing.entry()["state"] == "done"


def test_a_job_that_failed_is_not_run_again_by_lambda(handing):
    """TM16."""
    record = {"Records": [handing.bucket.put("in/a")]}
    function = handing.handed_over("echo started; exit 5", record)
    job = handing.job(function)
    assert job.end() == 5
    agent = handing.agent(function)
    answer = agent.invoke(record, request_id="r-1")
    assert answer.document["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"]
    assert len(handing.batch.jobs) == 1 and handing.entry()["exit_code"] == 5


def test_sigterm_stops_the_script_with_all_that_it_started_and_publishes_nothing(handing):
    """BA9, TM17: a timeout, `scar terminate`, a machine that is taken back. The script hears it first."""
    own = f"47{os.getpid()}"  # seconds that no other test sleeps
    function = handing.handed_over(
        f"""[ "$SCAR_ATTEMPT" = 2 ] && exit 0
        trap 'echo "told to stop"; exit 0' TERM
        echo x > "$TMP_OUTPUT_DIR/x"; (setsid sleep {own}.1 &); (trap "" TERM; sleep {own}.2) & echo ready; sleep {own}.3 & wait""",
    )
    job = handing.job(function)
    job.says("ready\n")
    os.kill(job.process.pid, signal.SIGTERM)
    # What ignores SIGTERM would live for the whole grace; here it is ended by hand to keep the test short.
    _kill_later(f"sleep\0{own}.2".encode())
    assert job.end() == 143
    assert "told to stop\n" in job.log
    assert not [line for _, line in command_lines() if line.startswith(f"sleep\0{own}".encode())]
    assert handing.outputs() == [] and (handing.entry()["state"], handing.entry()["exit_code"]) == ("failed", 143)
    assert handing.job(function, attempt=2).end() == 0  # Batch's next attempt is free to take over


def test_a_second_job_of_the_same_name_ends_with_0_and_publishes_nothing(handing):
    function = handing.handed_over(f"{UPPER}; echo ran >> {handing.lab.home}/ran")
    assert handing.job(function).end() == 0
    second = handing.job(function, job_id="another-job")
    assert second.end() == 0
    assert Path(handing.lab.home, "ran").read_text() == "ran\n"
    assert "nothing to do" in second.summary["skipped"][0]


def test_a_job_whose_entry_is_gone_runs_nothing(handing):
    """TM17: `scar rm` removed the function's state while its job waited."""
    function = handing.handed_over(f"echo started; {UPPER}")
    for key in handing.bucket.keys("functions/f/ledger/"):
        handing.bucket.client.delete_object(Bucket=handing.bucket.name, Key=key)
    job = handing.job(function)
    assert job.end() == 1
    assert "started\n" not in job.log and handing.outputs() == [] and "not there" in job.summary["errorMessage"]


def test_a_large_event_reaches_the_job_whole_or_not_at_all(handing):
    """TM14, BA2: 900 KB. What was tampered with fails the job and is written down; the next attempt finds it whole."""
    event = json.dumps({"payload": "é" * 150_000}).encode()
    function = through_lambda(handing, 'echo ran; sha256sum < "$INPUT_FILE_PATH"', event)
    assert len(handing.batch.bodies[0]) < 2000
    (key,) = handing.bucket.keys("functions/f/spill/")
    handing.bucket.put(key, event.replace(b"9", b"8"))
    job = handing.job(function)
    assert job.end() == 1
    assert "checksum mismatch" in job.summary["errorMessage"] and "ran\n" not in job.log
    assert handing.entry()["state"] == "failed"
    handing.bucket.put(key, event)
    job = handing.job(function, attempt=2)
    assert job.end() == 0
    assert hashlib.sha256(event).hexdigest() in job.log


def test_a_script_of_5_mb_goes_by_reference_through_lambda_and_batch(handing):
    script = b"#!/bin/sh\necho it ran\nexit 0\n" + b"#" * (5 << 20)
    event = json.dumps({"script": base64.b64encode(script).decode()}).encode()
    reference = put_spill(handing, event)
    function = through_lambda(handing, "exit 1", json.loads(reference.to_payload()))
    job = handing.job(function)
    assert job.end() == 0 and "it ran\n" in job.log
    here = handing.lab.start(
        handing.lab.function("exit 1"), environment=handing.variables()
    )  # mode lambda reads it too
    assert here.invoke(json.loads(reference.to_payload())).document["runs"][0]["output"] == "it ran\n"


def test_a_reference_that_was_tampered_with_is_refused(handing):
    agent = handing.lab.start(handing.lab.function("echo started"), environment=handing.variables())
    event = b'{"cmd_args": []}'
    reference = put_spill(handing, event)
    key = reference.uri.removeprefix(f"s3://{handing.bucket.name}/")
    elsewhere = "outside of the function's own state"
    for uri, body, expected in [
        (reference.uri, event.replace(b"[]", b'""'), "checksum mismatch"),
        (reference.uri, event + b" ", "checksum mismatch"),
        (reference.uri, event[:-1], "checksum mismatch"),
        (f"s3://{handing.bucket.name}/functions/g/x", event, elsewhere),
        (f"s3://another-bucket/functions/f/{key}", event, elsewhere),
        (f"{handing.state}ledger/x", event, elsewhere),
        (f"{handing.state}spill/../../g/spill/x", event, elsewhere),
        (f"{handing.state}spill/none", event, "NoSuchKey"),
    ]:
        handing.bucket.put(key, body)
        sent = Reference(uri, reference.size, reference.sha256).to_payload()
        answer = agent.invoke(sent)
        assert answer.error_type == "StageInFailed" and expected in answer.document["errorMessage"]
    answer = agent.invoke(b'{"scar:payload": {"uri": 5}}')
    assert answer.error_type == "BadEvent"
    assert "started" not in agent.log


def test_a_task_that_is_no_task_fails_the_job_clearly(handing):
    job = handing.job(handing.function("echo started", "batch"), "{}", job_id="j")
    assert job.end() == 1
    assert (job.summary["errorType"], job.summary["errorMessage"]) == ("AgentFailed", "task: no schema number")


class TestAlive:
    """What renews a job's lease."""

    def test_it_renews_until_it_is_ended(self):
        renewed = threading.Semaphore(0)
        alive = Alive(renewed.release, every_s=0.01)
        assert renewed.acquire(timeout=5) and renewed.acquire(timeout=5)
        alive.end()
        assert alive.lost is None

    @pytest.mark.parametrize("why", ["lost", "unreachable"])
    def test_it_stops_its_process_when_the_lease_is_gone(self, why):
        told = threading.Event()
        before = signal.signal(signal.SIGTERM, lambda *_: told.set())

        def renew() -> None:
            raise (
                Lost("ledger entry: no longer ours", entry=None) if why == "lost" else AgentError("S3 does not answer")
            )

        try:
            alive = Alive(renew, every_s=0.01, again_s=0.01, lasts_s=0.05)
            assert told.wait(5)
            assert alive.lost == (
                "ledger entry: no longer ours"
                if why == "lost"
                else "the lease could not be renewed: S3 does not answer"
            )
        finally:
            signal.signal(signal.SIGTERM, before)


def put_spill(handing, body: bytes) -> Reference:
    digest = hashlib.sha256(body).hexdigest()
    handing.bucket.put(f"functions/f/spill/{digest}", body)
    return Reference(f"{handing.state}spill/{digest}", len(body), digest)


def _kill_later(command: bytes) -> None:
    time.sleep(0.3)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for process, line in command_lines():
            if line.startswith(command):
                os.kill(process, signal.SIGKILL)
                return
        time.sleep(0.02)
    raise AssertionError(f"no process of {command!r} was there")
