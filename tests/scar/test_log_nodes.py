"""`scar log` and a job of several nodes: the main node's log, one node's, all of them, and how the job is named."""

from __future__ import annotations

import itertools
import json
import os
import signal

import pytest

from scar.aws.following import DRAIN_S, Either, JobsWatch
from tests.scar.test_log import fact, messages, report, start
from tests.support.account import FakeClock
from tests.support.node_jobs import end_gang, end_node, gang, stream
from tests.support.runs_edge import Scar, World

REQUEST = "0a0a0a0a-0000-4000-8000-00000000000a"
LAST_WORD = json.dumps({"request_id": REQUEST, "runs": [], "schema": 1})


def handed_over(world: World, name: str, *, exit_code: int | None = None, main: int = 0) -> str:
    """A run that a job of three nodes has, each of which writes; answers the job's id."""
    world.function(name, queue=f"scar-{name}")
    one = gang(world, name, 3, main=main, request_id=REQUEST)
    world.log(
        f"/aws/lambda/{name}", "s",
        start(REQUEST), "in lambda", fact(REQUEST, "handed over", job_id=one), report(REQUEST),
    )  # fmt: skip
    for index in range(3):
        world.log(f"/aws/batch/job/{name}", stream(name, index), f"on node {index}")
    if exit_code is not None:
        end_node(world, one, 2, 137)
        end_gang(world, one, exit_code)
    return one


def written(text: str) -> list[str]:
    """The lines of nodes, without their times."""
    return [line.split(" ", 1)[1] for line in text.splitlines() if "on node" in line]


def test_the_log_of_a_job_is_its_main_nodes_by_default(world: World, scar: Scar) -> None:
    """T1-20: also when all that is known is the job's id."""
    one = handed_over(world, "n1", exit_code=3, main=1)
    for words in (["-n", "n1", "-ri", REQUEST], [one]):
        done = scar("log", *words)
        assert (done.code, written(done.out)) == (0, ["on node 1"])
        assert "in lambda" in done.out
        assert done.out.splitlines()[-1].startswith(f"Batch job {one}: FAILED, exit code 3")


def test_the_log_of_one_node_is_that_and_no_more(world: World, scar: Scar) -> None:
    """T1-20: it ends with how the node ended."""
    one = handed_over(world, "n2", exit_code=3)
    for words in ([f"{one}#2"], ["-n", "n2", "-ri", REQUEST, "--node", "2"]):
        done = scar("log", *words)
        assert done.code == 0
        line, end = done.out.splitlines()
        assert line.endswith("Z on node 2")
        assert end.startswith(f"Batch job {one}#2: FAILED, exit code 137")


def test_the_log_of_all_nodes_says_which_wrote_what(world: World, scar: Scar) -> None:
    one = handed_over(world, "n3", exit_code=3)
    done = scar("log", one, "--node", "all")
    assert sorted(written(done.out)) == [f"[{index}] on node {index}" for index in range(3)]
    assert "in lambda" not in done.out
    told = scar("log", one, "--node", "all", "-o", "json").documents
    assert {line["message"]: line["node"] for line in told[:-1]} == {f"on node {index}": index for index in range(3)}
    assert told[-1]["job"]["id"] == one


def test_the_log_of_a_function_is_that_of_every_node(world: World, scar: Scar) -> None:
    """Log streams do not say whose they are."""
    handed_over(world, "n4")
    assert sorted(written(scar("log", "-n", "n4").out)) == [f"on node {index}" for index in range(3)]


@pytest.mark.parametrize(
    ("status", "started", "node", "said"),
    [
        ("RUNNABLE", [], "2", "node 2 of job {}: not started yet; the job is RUNNABLE"),
        ("FAILED", [0], "2", "node 2 of job {}: never started; the job is FAILED"),
        ("RUNNING", [0], "all", "2 of the 3 nodes of job {}: not started yet; the job is RUNNING"),
    ],
)
def test_a_node_that_has_not_started_is_no_error(
    world: World, scar: Scar, status: str, started: list[int], node: str, said: str
) -> None:
    """MP3: it may never come."""
    one = gang(world, "n5", 3, status, started=started)
    done = scar("log", one, "--node", node)
    assert (done.code, written(done.out)) == (0, [])
    assert said.format(one) in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["JOB#7"], 3, "has no node 7: it has 3, 0 to 2"),
        (["PLAIN", "--node", "all"], 3, "job PLAIN has no nodes"),
        (["-n", "n6", "-ri", "RUN", "--node", "0"], 3, "was not handed over to Batch: it has no nodes"),
        (["RUN"], 3, "scar log -n NAME -ri RUN"),
        (["BY-HAND"], 3, "is of no function of SCAR"),
        (["-n", "owl", "JOB"], 3, "is of n6, not of owl"),
        (["JOB#1", "--node", "2"], 2, "name different nodes"),
        (["JOB", "-ri", "JOB"], 2, "named once"),
        (["-n", "n6", "--node", "1"], 2, "--node is of one job"),
        (["JOB", "--node", "-1"], 2, "--node"),
        (["JOB", "--node", "first"], 2, "neither a node's index"),
        (["not an id"], 2, "neither a request id nor a job's"),
        ([], 2, "whose log?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_for_is_refused_in_a_line(
    world: World, scar: Scar, words: list[str], code: int, said: str
) -> None:
    ids = {
        "JOB": gang(world, "n6", 3),
        "PLAIN": world.job("n6"),
        "BY-HAND": world.job("n6", name="by-hand", container={"environment": []}),
        "RUN": "0c0c0c0c-0000-4000-8000-00000000000c",
    }
    world.function("n6")
    world.log("/aws/lambda/n6", "s", start(ids["RUN"]), "in lambda", report(ids["RUN"]))

    def real(text: str) -> str:
        for name, one in ids.items():
            text = text.replace(name, one)
        return text

    done = scar("log", *map(real, words))
    assert (done.code, written(done.out)) == (code, [])
    assert real(said) in done.err
    assert "Traceback" not in done.err


def test_following_a_node_ends_with_its_job_and_the_jobs_exit_code(world: World, scar: Scar) -> None:
    """T1-20, MP6: the node that is watched begins late, and ends well."""
    one = handed_over(world, "n7")
    late = world.jobs.pop(f"{one}#2")
    world.log("/aws/batch/job/n7", stream("n7", 2), LAST_WORD)

    def go_on() -> None:
        if world.calls["describejobs"] == 4:
            world.jobs[f"{one}#2"] = late
        if world.calls["describejobs"] == 7:
            end_node(world, one, 2, 0)
            end_gang(world, one, 5)

    world.each_describe = go_on
    done = scar("log", one, "--node", "2", "--follow", "-o", "json")
    assert done.code == 5
    assert messages(done.documents)[:2] == ["on node 2", LAST_WORD]
    assert done.documents[-1]["job"] == {
        "id": f"{one}#2", "status": "SUCCEEDED", "exit_code": 0,
        "reason": "Essential container in task exited", "container_reason": "",
    }  # fmt: skip


def test_ctrl_c_says_how_to_watch_the_same_node_again(world: World, scar: Scar) -> None:
    one = handed_over(world, "n8")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    world.each_describe = lambda: os.kill(os.getpid(), signal.SIGINT)
    try:
        done = scar("log", one, "-n", "n8", "--node", "2", "--follow")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.code == 130
    assert f"scar log -n n8 -ri {one} --node 2 --follow" in done.err


@pytest.mark.parametrize("failing", [{2}, {3}, {5}])
def test_no_node_is_forgotten_when_a_call_fails(world: World, failing: set[int]) -> None:
    """MP8: whichever call of the last poll it is, the node's lines are shown once."""
    name = f"n9-{min(failing)}"
    one = handed_over(world, name, exit_code=0)
    asked = itertools.count(1)
    world.fails = lambda call: 400 if call == "describejobs" and next(asked) in failing else None
    watch = JobsWatch(world.mine, [one], lines=True, which=2)
    lines = []
    for _ in range(4):
        try:
            lines += [line.message for line in watch.poll()]
        except world.mine.batch.exceptions.ClientError:
            assert not watch.ended
    assert lines == ["on node 2"]


def test_a_watch_of_nodes_ends_when_each_has_said_its_last_word_or_has_had_time_to(world: World) -> None:
    name = "n10"
    one = handed_over(world, name, exit_code=0)
    world.log(f"/aws/batch/job/{name}", stream(name, 0), LAST_WORD)
    world.log(f"/aws/batch/job/{name}", stream(name, 1), fact(one, "node ended", node=1, exit_code=0))
    clock = FakeClock()
    watch = Either(world.aws(clock), name, one, which="all")
    assert {watch.node_of(line) for line in watch.poll() if line.source == "batch"} == {0, 1, 2}
    assert not watch.ended
    world.log(f"/aws/batch/job/{name}", stream(name, 2), "a late word")
    assert [line.message for line in watch.poll()] == ["a late word"]
    clock.sleep(DRAIN_S)
    list(watch.poll())
    assert (watch.ended, watch.exit_code) == (True, 0)
    alone = Either(world.aws(clock), name, one, which=1)
    list(alone.poll())
    assert alone.ended  # node 1 has said its last word


def test_a_node_is_heard_through_all_its_attempts(world: World) -> None:
    """MP9."""
    name = "n11"
    one = handed_over(world, name, exit_code=0)
    world.log(f"/aws/batch/job/{name}", f"{name}/default/first", "in the first attempt")
    first = {"container": {"logStreamName": f"{name}/default/first", "exitCode": 137}}
    world.jobs[f"{one}#2"]["attempts"].insert(0, first)
    lines = JobsWatch(world.mine, [one], lines=True, which=2).poll()
    assert sorted(line.message for line in lines) == ["in the first attempt", "on node 2"]


def test_the_nodes_of_a_large_job_are_asked_for_a_hundred_at_a_time(world: World) -> None:
    """MP13."""
    name = "n12"
    one = gang(world, name, 1000, "SUCCEEDED")
    for index in (0, 500, 999):
        world.log(f"/aws/batch/job/{name}", stream(name, index), f"on node {index}")
    watch = JobsWatch(world.mine, [one], lines=True, which="all")
    assert [watch.node_of(line) for line in watch.poll()] == [0, 500, 999]
    assert world.calls["describejobs"] == 2 + 10
