"""`scar jobs`: the table, the filters, everything about one job, and how many calls that takes."""

from __future__ import annotations

import json
import time

import pytest

from scar.aws import jobs
from scar.commands.times import iso, length, since
from tests.support.runs_edge import RUN, Scar, World


def test_all_jobs_of_all_functions_are_listed_newest_first(world: World, scar: Scar) -> None:
    world.function("cow", queue="scar-cow")
    world.function("owl", queue="scar-shared-lab")
    ids = [world.job("cow", age_s=300 - n) for n in range(7)]
    ids.append(world.job("owl", queue="scar-shared-lab", age_s=1))
    done = scar("jobs", "-o", "json")
    assert (done.code, [job["id"] for job in done.json]) == (0, ids[::-1])
    assert world.calls["listjobs"] == 3 + 1  # seven jobs of three a page, and the other queue's
    assert world.calls["describejobs"] == 0


def test_a_function_whose_name_begins_alike_keeps_its_jobs_to_itself(world: World, scar: Scar) -> None:
    world.function("cow", queue="scar-shared-lab")
    mine = world.job("cow", queue="scar-shared-lab")
    world.job("cow-boy", queue="scar-shared-lab")
    world.job("cow", queue="scar-shared-lab", name="scar-cow-by-hand")
    assert [job["id"] for job in scar("jobs", "-n", "cow", "-o", "json").json] == [mine]


def test_what_waits_says_since_when_and_why_in_one_line(world: World, scar: Scar) -> None:
    """BA13."""
    world.function("cow", queue="scar-cow")
    why = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no connected\ninstances\x1b[31m meet it"
    one = world.job("cow", "RUNNABLE", statusReason=why, age_s=3 * 3600 + 60)
    world.job("cow", "FAILED", exit_code=3, statusReason="Essential container in task exited")
    done = scar("jobs", "-n", "cow", "--status", "runnable", "-o", "json")
    assert [job["status"] for job in done.json] == ["RUNNABLE"]
    text = scar("jobs", "-n", "cow", "--status", "RUNNABLE").out
    assert "RUNNABLE  3 h 1 min" in text
    assert "MISCONFIG" in text
    assert one in text  # to be copied, however narrow the table is
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2


def test_only_what_was_submitted_since_then_is_listed(world: World, scar: Scar) -> None:
    world.function("cow", queue="scar-cow")
    world.job("cow", age_s=7200)
    young = world.job("cow", age_s=60)
    assert [job["id"] for job in scar("jobs", "--since", "1h", "-o", "json").json] == [young]


def test_the_jobs_of_a_function_that_is_gone_are_found(world: World, scar: Scar) -> None:
    world.queues.append("scar-shared-lab")
    left = world.job("cow", queue="scar-shared-lab")
    assert [job["id"] for job in scar("jobs", "-n", "cow", "-o", "json").json] == [left]
    assert scar("jobs", "-n", "owl").code == 3


def test_a_function_without_a_queue_and_a_queue_that_is_gone_have_no_jobs(world: World, scar: Scar) -> None:
    world.function("plain")
    world.function("cow", queue="scar-cow")
    world.queues.clear()
    for name in ("plain", "cow"):
        done = scar("jobs", "-n", name)
        assert (done.code, done.out) == (0, "")
        assert scar("jobs", "-n", name, "-o", "json").json == []


def test_everything_about_one_job(world: World, scar: Scar) -> None:
    """BA8: every attempt with its exit code."""
    event = {"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": "in/a+b%C3%A9.png"}}}]}
    one = world.job("cow", "SUCCEEDED", exit_code=0, streams=["d/default/1", "d/default/2"], event=json.dumps(event))
    world.jobs[one]["attempts"][0]["container"] |= {"exitCode": 7, "reason": "it went\nwrong"}
    summary = {"request_id": "r", "runs": [{"outputs": ["s3://photos/out/a.png"]}], "schema": 1}
    world.log("/aws/batch/job/cow", "d/default/2", "working", json.dumps(summary))
    done = scar("jobs", one, "-o", "json")
    told = done.json
    assert done.code == 0
    assert [attempt["exit_code"] for attempt in told["attempts"]] == [7, 0]
    assert told["object"] == "photos/in/a bé.png"
    assert told["outputs"] == ["s3://photos/out/a.png"]
    assert told["run"] == RUN
    assert told["log_streams"] == ["d/default/1", "d/default/2"]
    text = scar("jobs", one).out
    assert "attempt 1   exit code 7, it went wrong, d/default/1" in text
    assert "output      s3://photos/out/a.png" in text


def test_a_job_by_hand_and_a_task_of_a_newer_agent_are_shown_as_they_are(world: World, scar: Scar) -> None:
    by_hand = world.job("cow", name="by-hand", container={"environment": []})
    newer = world.job("cow", container={"environment": [{"name": "SCAR_TASK", "value": '{"schema": 99}'}]})
    assert scar("jobs", by_hand, "-o", "json").json["function"] is None
    assert scar("jobs", newer, "-o", "json").json["function"] == "cow"


@pytest.mark.parametrize("job_id", ["11111111-2222-3333-4444-555555555555", "no id at all"])
def test_an_unknown_job_is_not_found(world: World, scar: Scar, job_id: str) -> None:
    done = scar("jobs", job_id)
    assert done.code == 3
    assert "scar jobs" in done.err


def test_one_job_takes_no_filters(world: World, scar: Scar) -> None:
    assert scar("jobs", "11111111-2222-3333-4444-555555555555", "--status", "RUNNING").code == 2


def test_hundreds_of_jobs_are_described_a_hundred_at_a_time(world: World) -> None:
    ids = [world.job("cow") for _ in range(250)]
    assert list(jobs.described(world.mine, [*ids, *ids])) == ids
    assert world.calls["describejobs"] == 3


@pytest.mark.parametrize("words", [("jobs",), ("jobs", "11111111-2222-3333-4444-555555555555"), ("jobs", "-n", "cow")])
def test_an_answer_that_was_cut_is_no_answer(world: World, scar: Scar, words: tuple[str, ...]) -> None:
    """Least of all is it a list that is at its end, or a job that is not there."""
    world.function("cow", queue="scar-cow")
    world.fails = lambda call: 200 if call in {"describejobs", "listjobs"} else None
    assert scar(*words).code == 6


@pytest.mark.parametrize(
    ("status", "code", "result"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 3, 3),
        ("FAILED", 137, 137),
        ("FAILED", 255, 255),
        ("FAILED", 0, 1),  # ended by Batch after the process had ended well
        ("FAILED", None, 1),
        ("SUCCEEDED", None, 1),
    ],
)
def test_a_finished_job_means_one_exit_code(world: World, status: str, code: int | None, result: int) -> None:
    """BA4, BA6: a code that Batch does not tell is a failure."""
    one = world.job("cow", status, exit_code=code)
    assert jobs.described(world.mine, [one])[one].result == result


def test_times_are_told_as_people_tell_them() -> None:
    assert [length(s) for s in (0, 59.9, 60, 200, 7500, 90_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
        "1 d 1 h",
    ]
    assert since("10m", 1000.0) == 400_000
    assert iso(since("2026-01-31T12:00", time.time())) == "2026-01-31T12:00:00.000Z"
