"""`scar wait`, `scar cancel`, `scar terminate`: whose exit code they end with, and what they say when a job does not do as asked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scar.aws.following import NEW_JOB_S, JobsWatch
from scar.errors import NotFoundError
from tests.support.account import FakeClock
from tests.support.runs_edge import Scar, World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("exit_code", "code"), [(0, 0), (137, 137), (None, 1)])
def test_wait_ends_with_the_jobs_own_exit_code(world: World, scar: Scar, exit_code: int | None, code: int) -> None:
    """BA4, BA6."""
    one = world.job("cow", "RUNNABLE")

    def go_on() -> None:
        if world.calls["describejobs"] == 1:
            world.jobs[one]["status"] = "STARTING"
            return
        world.end(one, exit_code, "OutOfMemoryError: Container killed due to memory usage")
        world.jobs[one]["status"] = "FAILED" if exit_code != 0 else "SUCCEEDED"

    world.each_describe = go_on
    done = scar("wait", one)
    assert done.code == code
    assert done.out.startswith(f"Batch job {one}: ")
    assert "STARTING" in done.err
    if exit_code is None:
        assert "no exit code: OutOfMemoryError" in done.out


def test_of_several_jobs_the_first_that_failed_counts_as_they_were_named(world: World, scar: Scar) -> None:
    codes = [0, 5, 4]
    ids = [world.job("cow", "FAILED" if code else "SUCCEEDED", exit_code=code) for code in codes]
    ids += [world.job("cow", "SUCCEEDED", exit_code=0) for _ in range(120)]
    done = scar("wait", *ids, "-o", "json")
    assert (done.code, done.json["exit_code"], done.json["exit_origin"]) == (5, 5, "job")
    assert len(done.json["jobs"]) == 123
    assert world.calls["describejobs"] == 2  # a hundred at a time, and none that has ended again


def test_the_time_that_was_given_is_the_longest_that_is_waited(world: World, scar: Scar) -> None:
    one = world.job("cow", "RUNNABLE")
    done = scar("wait", one, "--timeout", "1s")
    assert done.code == 124
    assert "1 RUNNABLE" in done.err


def test_a_job_that_batch_does_not_show_yet_is_asked_for_again(world: World, scar: Scar) -> None:
    """BA15."""
    one = world.job("cow", "SUCCEEDED", exit_code=0)
    hidden = world.jobs.pop(one)

    def appear() -> None:
        if world.calls["describejobs"] == 3:
            world.jobs[one] = hidden

    world.each_describe = appear
    assert scar("wait", one).code == 0
    assert world.calls["describejobs"] == 3


def test_a_job_that_batch_never_shows_is_not_found(world: World) -> None:
    """BA15, the other half."""
    clock = FakeClock()
    known = world.job("cow")
    watch = JobsWatch(world.aws(clock), [known, "11111111-2222-3333-4444-555555555555"], lines=False)
    assert list(watch.poll()) == []
    clock.sleep(NEW_JOB_S + 1)
    with pytest.raises(NotFoundError, match="11111111") as refused:
        list(watch.poll())
    assert known not in str(refused.value)


def test_what_is_no_id_is_not_waited_for(world: World, scar: Scar) -> None:
    done = scar("wait", "cow")
    assert done.code == 3
    assert world.calls["describejobs"] == 0


def test_a_request_is_waited_for_until_its_job_has_ended(world: World, scar: Scar) -> None:
    """The request is in Lambda first, then handed over, and the job's exit code is the run's."""
    world.function("cow-wait", queue="scar-cow-wait")
    request = "0a0a0a0a-0000-4000-8000-000000000001"
    one = world.job("cow-wait", "RUNNING", request_id=request)
    other = world.job("cow-wait", "SUCCEEDED", exit_code=0)
    fact = f'{{"request_id": "{request}", "fact": "handed over", "job_id": "{one}"}}'
    world.log(
        "/aws/lambda/cow-wait",
        "s",
        f"START RequestId: {request} Version: 1",
        fact,
        f"REPORT RequestId: {request}\tDuration: 1 ms",
    )
    world.each_describe = lambda: world.end(one, 9) if world.calls["describejobs"] > 3 else None
    done = scar("wait", "-n", "cow-wait", other, request)
    assert done.code == 9
    assert f"Batch job {one}: FAILED, exit code 9" in done.out


def test_ctrl_c_ends_the_watching_and_not_the_job(world: World) -> None:
    one = world.job("cow", "RUNNING")
    # What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts: these tests too.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "scar", "wait", one]
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": f"{ROOT}:{ROOT}/faas-supervisor",
        **world.environ(),
    }
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    limit = time.monotonic() + 20
    while not world.calls["describejobs"] and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.1)
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"scar wait {one}" in err
    assert f"scar terminate {one}" in err
    assert "Traceback" not in err
    assert world.ended == []


def test_what_waits_is_cancelled_with_the_reason(world: World, scar: Scar) -> None:
    one = world.job("cow", "RUNNABLE", startedAt=None)
    done = scar("cancel", one, "--reason", "wrong input")
    assert (done.code, world.ended) == (0, [("canceljob", one, "wrong input")])
    assert done.out.startswith("cancelled: ")
    assert "wrong input" in done.out


def test_what_runs_is_not_cancelled_and_the_way_to_end_it_is_named(world: World, scar: Scar) -> None:
    runs, waits = world.job("cow", "RUNNING"), world.job("cow", "RUNNABLE")
    done = scar("cancel", runs, waits)
    assert done.code == 5
    assert f"scar terminate {runs}" in done.err
    assert world.ended == [("canceljob", waits, "scar cancel")]


def test_a_job_that_starts_while_it_is_cancelled_is_told_as_running(world: World, scar: Scar) -> None:
    """Batch answers OK and cancels nothing: the status afterwards is what counts."""
    one = world.job("cow", "RUNNABLE")
    world.cancels = False
    world.each_describe = lambda: world.jobs[one].update(status="RUNNING") if world.ended else None
    done = scar("cancel", one)
    assert done.code == 5
    assert "is RUNNING and cannot be cancelled" in done.err


def test_terminating_ends_what_runs_and_leaves_alone_what_has_ended(world: World, scar: Scar) -> None:
    runs, over = world.job("cow", "RUNNING"), world.job("cow", "SUCCEEDED", exit_code=0)
    done = scar("terminate", runs, over)
    assert (done.code, world.ended) == (0, [("terminatejob", runs, "scar terminate")])
    assert f"nothing to terminate: Batch job {over}: SUCCEEDED" in done.out


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
def test_an_unknown_job_does_not_keep_the_others_from_being_ended(world: World, scar: Scar, verb: str) -> None:
    one, nobody = world.job("cow", "RUNNABLE"), "11111111-2222-3333-4444-555555555555"
    done = scar(verb, nobody, one, "-o", "json")
    assert done.code == 3
    assert [fate["result"] for fate in done.json] == ["unknown", "cancelled" if verb == "cancel" else "terminating"]
    assert [job for _, job, _ in world.ended] == [one]


@pytest.mark.parametrize("reason", ["", "x" * 1025])
def test_a_reason_is_as_long_as_batch_takes(world: World, scar: Scar, reason: str) -> None:
    assert scar("terminate", world.job("cow"), "--reason", reason).code == 2
    assert world.ended == []
