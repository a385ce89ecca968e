"""The clock on the wall jumps by hours, or tells a year that does not fit into 32 bits: who is killed, who waits for ever?

An event's time is measured by the monotonic clock; the wall's is read once, when the event comes. So a jump in the middle neither ends a run
nor makes it endless.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from faassupervisor import events
from faassupervisor.contract import Storage, Task
from faassupervisor.events import ObjectItem
from faassupervisor.ledger import HandOver, Ledger, Proceed
from faassupervisor.modes_batch import run_of
from faassupervisor.state import Entries, State
from tests.chaos.agents import HOUR_S, PATIENCE_S, left_in, watched
from tests.supervisor.batch_lab import Handing, handing
from tests.supervisor.conftest import Agent, Bucket, Lab, bucket, lab, out, s3_client, s3_endpoint
from tests.support.system_calls import Call, Traced
from tests.support.wall_clock import Wall

__all__ = ["bucket", "handing", "lab", "out", "s3_client", "s3_endpoint"]

WAITING = (
    'echo started; until [ -e "{go}" ]; do sleep 0.02; done; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"; echo ended'
)
HOURS = [5, -5]
# 2^31 seconds after 1970 is in January 2038.
IN_2040_S = int(datetime(2040, 6, 1, tzinfo=UTC).timestamp() - time.time())


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    return Wall(tmp_path)


def times(agent: Agent) -> dict[str, datetime]:
    return {fact["fact"]: datetime.fromisoformat(fact["time"]) for fact in agent.facts()}


@pytest.mark.parametrize("hours", HOURS)
def test_a_clock_that_jumps_in_the_middle_of_a_run_does_not_end_it(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], wall: Wall, tmp_path: Path, hours: int
) -> None:
    """TM18."""
    go = tmp_path / "go"
    agent = lab.agent(WAITING.format(go=go), outputs=out, environment=wall.variables)
    pending = agent.api.post({"Records": [bucket.put("in/a", b"content")]}, timeout_s=PATIENCE_S)
    agent.says("started\n", PATIENCE_S)
    wall.jumps(hours * HOUR_S)
    go.touch()
    answer = pending.answered.get(timeout=PATIENCE_S)
    seen = times(agent)
    jumped_s = (seen["staged out"] - seen["staged in"]).total_seconds()
    assert answer.error_type is None and bucket.get("out/copy") == b"content"
    assert abs(jumped_s - hours * HOUR_S) < HOUR_S, "the agent did not see the jump"
    assert 0 <= answer.document["runs"][0]["seconds"] < PATIENCE_S


@pytest.mark.parametrize("hours", HOURS)
def test_a_clock_that_jumps_in_the_middle_of_a_run_does_not_make_it_endless(
    lab: Lab, bucket: Bucket, wall: Wall, hours: int
) -> None:
    """TM18: the script is stopped when its time is over, and not before."""
    agent = lab.agent("echo started; sleep 1000", environment=wall.variables)
    began = time.monotonic()
    pending = agent.api.post({"Records": [bucket.put("in/a")]}, timeout_s=8)
    agent.says("started\n", PATIENCE_S)
    wall.jumps(hours * HOUR_S)
    answer = pending.answered.get(timeout=PATIENCE_S)
    assert answer.error_type == "ScriptTimedOut" and time.monotonic() - began > 5  # a quarter of 8 s is kept back
    assert left_in(lab.temporary) == []
    wall.jumps(0)
    again = agent.invoke({}, timeout_s=2)
    assert again.error_type == "ScriptTimedOut", f"it does not serve on: {again.body!r}"


@pytest.mark.parametrize("hours", HOURS)
def test_a_clock_that_jumps_in_the_middle_of_a_job_leaves_it_its_record(
    handing: Handing, wall: Wall, tmp_path: Path, hours: int
) -> None:
    """TM18: forward, its lease seems to be over; nobody else has taken the record, so it is published and done."""
    go = tmp_path / "go"
    handing.batch.credentials_last_s = 24 * HOUR_S
    function = handing.handed_over(WAITING.format(go=go))
    job = handing.job(function, **wall.variables)
    job.says("started\n")
    wall.jumps(hours * HOUR_S)
    go.touch()
    assert job.end() == 0, job.log
    assert handing.entry()["state"] == "done" and handing.outputs() == ["out/copy"]


@pytest.mark.parametrize("hours", HOURS)
def test_waiting_for_a_publisher_that_may_live_takes_its_lease_and_no_longer_whatever_the_clock_says(
    handing: Handing, wall: Wall, tmp_path: Path, hours: int
) -> None:
    """TM18: a job comes after an invocation whose lease is not over when Lambda says that it is dead."""
    handing.batch.credentials_last_s = 24 * HOUR_S
    function, fence_s = _fenced(handing, lease_s=6.0)
    written, jumped = tmp_path / "log", []

    def jump(call: Call) -> None:
        """When the job begins to wait."""
        if b"script ended" in written.read_bytes():
            wall.jumps(hours * HOUR_S)
            jumped.append(call)

    environment, only = handing.job_environment(**wall.variables), frozenset({"clock_nanosleep"})
    with (
        written.open("wb") as log,
        Traced(handing.lab.command(function), env=environment, stdout=log, stderr=log, calls=only, decide=jump) as job,
    ):
        assert job.process.wait(fence_s + PATIENCE_S) == 0, written.read_text()
    assert jumped, "the job did not wait"
    assert handing.entry()["state"] == "done" and handing.outputs() == ["out/copy"]


def _fenced(handing: Handing, *, lease_s: float) -> tuple[Path, float]:
    """A record whose publisher in Lambda is said to be dead before its lease is over; the function of the job that was submitted for it."""
    payload = {"Records": [handing.bucket.put("in/a", b"content")]}
    (item,) = events.parse(json.dumps(payload).encode())
    assert isinstance(item, ObjectItem)
    ledger = Ledger(Entries(State(handing.bucket.client, handing.state)), "f")
    run = run_of("f", item, "r-1", 0)
    claimed: Any = {"owner": "r-1", "request_id": "r-1", "lease_s": lease_s, "key": "in/a", "mode": "lambda-batch"}
    step = ledger.claim(run, **claimed)
    assert isinstance(step, Proceed)
    step.claim.publishing()
    taken = ledger.claim(run, **claimed, killed=True)
    assert isinstance(taken, HandOver) and taken.claim.entry.fence_until > time.time()
    task = Task("f", "r-1", run, taken.claim.epoch, event=item.event.decode())
    variable = {"name": "SCAR_TASK", "value": task.to_json().decode()}
    submitted = {"jobName": taken.claim.delegating(), "containerOverrides": {"environment": [variable]}}
    taken.claim.delegated(handing.batch.answer("submitjob", submitted)["jobId"])
    return handing.function('cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"', "batch"), lease_s


def test_in_2040_a_record_goes_through_lambda_and_batch_as_today(handing: Handing, wall: Wall) -> None:
    """TM18: seconds since 1970 have 32 bits nowhere."""
    wall.jumps(IN_2040_S)
    handing.batch.credentials_last_s = 2 * IN_2040_S
    function = handing.function('[ "$AWS_BATCH_JOB_ID" ] || sleep 1000; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"')
    with watched(handing.lab, function, handing.variables(**wall.variables), ahead_s=IN_2040_S) as agent:
        answer = agent.answers({"Records": [handing.bucket.put("in/a", b"then")]}, "r-1", timeout_s=4)
    assert answer["runs"][0]["job_id"] == handing.batch.jobs[0]["jobId"]
    assert handing.entry()["updated"] > 2**31
    job = handing.job(function, **wall.variables)
    assert job.end() == 0, job.log
    assert handing.entry()["state"] == "done" and handing.bucket.get("out/copy") == b"then"


@pytest.fixture
def long_up() -> Iterator[tuple[str, ...]]:
    """What stands before a command on a machine that has been up for 30 years."""
    yield ("unshare", "--user", "--map-root-user", "--time", "--monotonic", str(30 * 365 * 24 * HOUR_S))


def test_however_long_the_machine_is_up_time_is_what_is_left_of_it(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], long_up: tuple[str, ...]
) -> None:
    """TM18: the monotonic clock begins anywhere."""
    script = 'echo started; case "$INPUT_FILE_PATH" in *long) sleep 1000;; esac; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"'
    with watched(lab, lab.function(script, outputs=out), before=long_up) as agent:
        late = agent.agent.invoke({"Records": [bucket.put("in/long")]}, timeout_s=3)
        assert late.error_type == "ScriptTimedOut" and "started" in agent.agent.log
        agent.answers({"Records": [bucket.put("in/a", b"content")]}, "r-2")
    assert bucket.get("out/copy") == b"content"
