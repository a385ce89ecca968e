"""`scar jobs` and a job of several nodes: one row of many, all its nodes, one node; and what is done to a node is refused."""

from __future__ import annotations

import pytest

from scar.aws import jobs
from tests.support.node_jobs import end_gang, end_node, gang, has_no_task, stream
from tests.support.runs_edge import Scar, World

REQUEST = "0a0a0a0a-0000-4000-8000-00000000000a"


def test_a_job_of_several_nodes_is_one_row_that_says_how_many(world: World, scar: Scar) -> None:
    """T1-20."""
    world.function("cow", queue="scar-cow")
    plain = world.job("cow", age_s=90)
    assert "NODES" not in scar("jobs").out
    one = gang(world, "cow", 3)
    head, first, second = scar("jobs", "-n", "cow").out.splitlines()
    assert head.split() == ["ID", "STATUS", "NODES", "FOR", "CODE", "REASON"]
    assert (first.split()[0], first.split()[2]) == (one, "3")
    assert (second.split()[0], second.split()[2]) == (plain, "-")
    of_all = scar("jobs").out.splitlines()
    assert max(map(len, [head, first, second, *of_all])) <= 80
    left = ["ID", "FUNCTION", "STATUS", "NODES", "FOR", "CODE"]  # what there is no room for is left out
    assert of_all[0].split() == left
    [told] = [line.split("\t") for line in scar("jobs", "-o", "text").out.splitlines() if line.startswith(one)]
    assert told[3] == "3"
    assert [job["nodes"] for job in scar("jobs", "-o", "json").json] == [3, None]
    assert world.calls["describejobs"] == 0


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "not-merged"])
def test_everything_about_a_job_and_each_of_its_nodes(world: World, scar: Scar, merged: bool) -> None:
    """T1-20: also where the job itself does not tell what it was submitted with."""
    one = gang(world, "cow", 3, "FAILED", main=1, codes={1: 1, 2: 137}, merged=merged, request_id=REQUEST)
    assert has_no_task(world.jobs[one]) is not merged
    world.jobs[f"{one}#2"]["container"]["reason"] = "OutOfMemoryError: Container killed due to memory usage"
    done = scar("jobs", one, "-o", "json")
    told = done.json
    assert world.calls["describejobs"] == 2
    assert (told["exit_code"], told["request_id"], told["image"]) == (1, REQUEST, "registry.example/it")
    assert (told["log_group"], told["log_streams"]) == ("/aws/batch/job/cow", [stream("cow", 1)])
    assert [(node["node"], node["main"], node["exit_code"], node["address"]) for node in told["nodes"]] == [
        (0, False, 0, "10.0.0.10"),
        (1, True, 1, "10.0.0.11"),
        (2, False, 137, "10.0.0.12"),
    ]
    assert [node["log_streams"] for node in told["nodes"]] == [[stream("cow", index)] for index in range(3)]
    text = scar("jobs", one).out
    assert "nodes       3, of which 1 is the main one\n" in text
    assert f"request     {REQUEST}\n" in text
    head, *nodes = text.splitlines()[-4:]
    assert head.split() == ["NODE", "MAIN", "STATUS", "FOR", "CODE", "ADDRESS", "REASON"]
    assert [line.split()[:3] for line in nodes] == [
        ["0", "-", "SUCCEEDED"],
        ["1", "yes", "FAILED"],
        ["2", "-", "FAILED"],
    ]
    assert "137" in nodes[2]
    assert "10.0.0.12" in nodes[2]


def test_nodes_that_were_never_started_are_shown_as_such(world: World, scar: Scar) -> None:
    """T1-20: the main node runs, the others are yet to come."""
    one = gang(world, "cow", 3, started=[0, 2])
    nodes = [line.split()[:3] for line in scar("jobs", one).out.splitlines()[-3:]]
    assert nodes == [["0", "yes", "RUNNING"], ["1", "-", "not"], ["2", "-", "RUNNING"]]
    waits = gang(world, "cow", 3, "RUNNABLE")
    world.calls.clear()
    told = scar("jobs", waits, "-o", "json").json
    assert [node["status"] for node in told["nodes"]] == [None] * 3
    assert (told["exit_code"], told["log_streams"]) == (None, [])
    assert world.calls["describejobs"] == 1  # it has no nodes to ask for


def test_a_thousand_nodes_are_described_a_hundred_at_a_time(world: World, scar: Scar) -> None:
    """MP13: the largest job that Batch takes."""
    one = gang(world, "cow", 1000, main=999)
    told = scar("jobs", one, "-o", "json").json
    assert [node["node"] for node in told["nodes"]] == list(range(1000))
    assert told["log_streams"] == [stream("cow", 999)]
    assert world.calls["describejobs"] == 1 + 10
    assert world.calls["listjobs"] == 0


def test_what_a_job_has_of_its_main_node_costs_one_call_for_all_jobs(world: World) -> None:
    ids = [gang(world, "cow", 3, main=2) for _ in range(40)]
    waiting = gang(world, "cow", 3, "RUNNABLE")
    found = jobs.described(world.mine, [*ids, waiting])
    assert {job.stream for one, job in found.items() if one != waiting} == {stream("cow", 2)}
    assert {job.task is not None for job in found.values()} == {True}
    assert world.calls["describejobs"] == 2


def test_one_node_is_shown_alone(world: World, scar: Scar) -> None:
    one = gang(world, "cow", 3)
    end_node(world, one, 2, 9)
    told = scar("jobs", f"{one}#2", "-o", "json").json
    assert told["node"] == {"index": 2, "main": False, "address": "10.0.0.12"}
    assert (told["function"], told["exit_code"], told["nodes"]) == ("cow", 9, None)
    end_node(world, one, 0, 0)
    text = scar("jobs", f"{one}#0").out
    assert "node        0, the main one\n" in text
    assert "address     10.0.0.10\n" in text


@pytest.mark.parametrize(
    ("index", "said"), [(1, "node 1 of job {} has not started; the job is RUNNING"), (3, "job {} has no node 3: it has 3, 0 to 2")]
)  # fmt: skip
def test_a_node_that_is_not_there_is_not_found_and_why(world: World, scar: Scar, index: int, said: str) -> None:
    one = gang(world, "cow", 3, started=[0, 2])
    done = scar("jobs", f"{one}#{index}")
    assert (done.code, done.out) == (3, "")
    assert said.format(one) in done.err


def test_a_job_of_one_container_has_no_nodes(world: World, scar: Scar) -> None:
    one = world.job("cow")
    done = scar("jobs", f"{one}#0")
    assert done.code == 3
    assert f"job {one} has no nodes" in done.err
    assert scar("jobs", "11111111-2222-3333-4444-555555555555#0").code == 3


def test_a_job_that_has_not_started_does_not_say_that_it_did_in_1970(world: World, scar: Scar) -> None:
    """Batch has told 0 for what has not happened."""
    one = gang(world, "cow", 2, "STARTING", started=[0])
    world.jobs[one]["startedAt"] = world.jobs[f"{one}#0"]["startedAt"] = 0
    told = scar("jobs", one, "-o", "json").json
    assert (told["started"], told["nodes"][0]["started"]) == (None, None)


@pytest.mark.parametrize(("status", "known"), [("SUCCEEDED", True), ("RUNNABLE", False)])
def test_of_a_second_attempt_the_log_of_the_first_is_known_too(world: World, status: str, known: bool) -> None:
    """MP9: as long as the second waits, the first is all there is."""
    one = gang(world, "cow", 2, "SUCCEEDED")
    first = {
        "container": {"logStreamName": "cow/default/first", "exitCode": 137},
        "statusReason": "Host EC2 terminated",
    }
    world.jobs[one] |= {"attempts": [first, *world.jobs[one]["attempts"]] if known else [first], "status": status}
    job = jobs.described(world.mine, [one])[one]
    assert job.streams == ("cow/default/first", *((stream("cow", 0),) if known else ()))
    assert (job.exit_code, job.attempts[0].exit_code) == (0 if known else None, 137)


@pytest.mark.parametrize("of_node", [True, False])
def test_the_exit_code_is_the_main_nodes_wherever_batch_tells_it(world: World, scar: Scar, of_node: bool) -> None:
    """MP6: a finished job tells it of its attempt, also when its nodes are forgotten."""
    one = gang(world, "cow", 2)
    end_node(world, one, 1, 3)
    end_gang(world, one, 7)
    if not of_node:
        del world.jobs[f"{one}#0"]
    done = scar("wait", one)
    assert done.code == 7
    assert f"{one}: FAILED, exit code 7" in done.out


@pytest.mark.parametrize(
    ("targets", "image"),
    [
        (["0:", "3:3"], 1),
        (["3:3", "0:"], 0),
        (["2:", ":1"], 0),
        ([":3", "4:"], 0),
        (["0:2", "3"], 1),
    ],
)
def test_the_main_nodes_range_is_the_narrowest_that_it_is_in(world: World, targets: list[str], image: int) -> None:
    one = gang(world, "cow", 6, "RUNNABLE", main=3)
    world.jobs[one]["nodeProperties"]["nodeRangeProperties"] = [
        {"targetNodes": text, "container": {"image": str(place)}} for place, text in enumerate(targets)
    ]
    assert jobs.described(world.mine, [one])[one].image == str(image)


def test_jobs_whose_nodes_have_several_containers_are_shown_too(world: World, scar: Scar) -> None:
    """They are not ours."""
    one = gang(world, "cow", 2, name="by-hand")
    for part in world.jobs[one]["nodeProperties"]["nodeRangeProperties"]:
        part["ecsProperties"] = {"taskProperties": [{"containers": [part.pop("container")]}]}
    for index in range(2):
        del world.jobs[f"{one}#{index}"]["container"]
    told = scar("jobs", one, "-o", "json").json
    assert (told["function"], told["image"], len(told["nodes"])) == (None, None, 2)


@pytest.mark.parametrize("verb", ["wait", "cancel", "terminate"])
def test_nodes_end_with_their_job(world: World, scar: Scar, verb: str) -> None:
    one, other = gang(world, "cow", 3), world.job("cow", "RUNNABLE")
    done = scar(verb, other, f"{one}#2")
    assert (done.code, done.out, world.ended) == (2, "", [])
    assert "nodes end with their job" in done.err
    assert f"scar {verb} {one}\n" in done.err
    assert world.calls["describejobs"] == 0


def test_terminating_a_job_of_several_nodes_ends_it_once(world: World, scar: Scar) -> None:
    one = gang(world, "cow", 3)
    assert scar("terminate", one).code == 0
    assert world.ended == [("terminatejob", one, "scar terminate")]
