"""Which multi-node parallel jobs are refused, when all their nodes have room, and what is told of nodes: rules that need no real program."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.local.batch.capacity import JOB_REQUIREMENT, MAX_RESOURCE, Machine
from scar.local.batch.gang import MAIN_OVER
from scar.local.batch.job import Job
from scar.local.batch.node import Nodes
from scar.local.batch.scheduler import Pace
from scar.local.sandbox.spec import Choice
from tests.local.batch.job_bench import Held, JobLab, Program, until
from tests.local.functions.lambda_bench import ACCOUNT, Local, arn, reset_moto


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("local")) as made:
        yield made
    reset_moto()


@pytest.fixture
def engine() -> Held:
    return Held()


@pytest.fixture
def lab(local: Local, engine: Held, tmp_path: Path) -> Iterator[JobLab]:
    """Four vCPUs, a machine of 1,000 MiB that runs eight containers at once, and programs that run until a test ends them."""
    made = held(local, engine, tmp_path)
    yield made
    engine.waits.set()
    made.close()


def held(local: Local, engine: Held, folder: Path) -> JobLab:
    pace = Pace(second_s=1 / 150, stop_s=0.1, idle_s=0.05)
    return JobLab(local, folder, engine=lambda: Choice(engine), vcpus=4, machine=Machine(1000, 8), pace=pace)


@pytest.fixture(scope="module")
def strict(local: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobLab]:
    """Where nothing is accepted."""
    engine, container = Held(), {"resourceRequirements": needs(1, 16), "image": "x"}
    made = held(local, engine, tmp_path_factory.mktemp("strict"))
    made.define_nodes("nodes", "x", nodes=4, main=2, ranges=[{"targetNodes": "1:1"}, {"targetNodes": "3:"}])
    properties = {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": [{"targetNodes": "0:1", "container": container}]}
    made.ask("RegisterJobDefinition", jobDefinitionName="closed", type="multinode", nodeProperties=properties)
    task = {"ecsProperties": {"taskProperties": [{"containers": [{**container, "name": "a"}]}]}, "targetNodes": "0:1"}
    properties = {**properties, "nodeRangeProperties": [task]}
    made.ask("RegisterJobDefinition", jobDefinitionName="task", type="multinode", nodeProperties=properties)
    for kind in ("SPOT", "FARGATE", "FARGATE_SPOT"):
        made.environment(kind, 8, type=kind)
        made.queue(kind, kind)
    made.environment("unmanaged", 8).request.pop("computeResources")
    made.queue("UNMANAGED", "unmanaged")
    yield made
    made.close()


def needs(vcpus: float, memory_mib: int) -> list[dict[str, str]]:
    return [{"type": "VCPU", "value": str(vcpus)}, {"type": "MEMORY", "value": str(memory_mib)}]


def one(targets: str, **container: Any) -> dict[str, Any]:
    return {"nodeOverrides": {"nodePropertyOverrides": [{"targetNodes": targets, "containerOverrides": container}]}}


REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("overrides of a container", {"containerOverrides": {"command": ["a"]}}, "use nodeOverrides"),
    ("overrides of a task", {"ecsPropertiesOverride": {"taskProperties": [{}]}}, "use nodeOverrides"),
    ("an array", {"arrayProperties": {"size": 2}}, "arrayProperties does not go with"),
    ("ranges of tasks", {"jobDefinition": "task"}, "not of ecsProperties"),
    ("Spot", {"jobQueue": "SPOT"}, "managed ones of type EC2, not on SPOT"),
    ("Fargate", {"jobQueue": "FARGATE"}, "managed ones of type EC2"),
    ("Fargate Spot", {"jobQueue": "FARGATE_SPOT"}, "managed ones of type EC2"),
    ("unmanaged", {"jobQueue": "UNMANAGED"}, "managed ones of type EC2"),
    ("no node", {"nodeOverrides": {"numNodes": 0}}, "between 1 and 1000"),
    ("1001 nodes", {"nodeOverrides": {"numNodes": 1001}}, "between 1 and 1000"),
    ("other nodes than a closed range has", {"jobDefinition": "closed", "nodeOverrides": {"numNodes": 2}}, "open upper"),
    ("no main node", {"nodeOverrides": {"numNodes": 2}}, "Main node index is out of range"),
    ("a range left empty", {"nodeOverrides": {"numNodes": 3}}, "lower boundary of the node range 3: must be less"),
    ("targets beyond the last", one("0:4"), "out of range, the job has 4 nodes"),
    ("targets that are none", one("a:b"), "only digits"),
    ("an empty word", one("0", command=["sh", ""]), "empty string"),
    ("a variable of Batch's", one("0", environment=[{"name": "AWS_BATCH_X", "value": "1"}]), "AWS_BATCH_X"),
    ("two instance types", {"nodeOverrides": {"nodePropertyOverrides": [
        {"targetNodes": "0", "containerOverrides": {"instanceType": "m6i.large"}},
        {"targetNodes": "1", "containerOverrides": {"instanceType": "c6i.large"}},
    ]}}, "same instance type"),
    ("instance types of a range", {"nodeOverrides": {"nodePropertyOverrides": [
        {"targetNodes": "0", "instanceTypes": ["m6i.large"]}]}}, "only allowed for ecsProperties"),
    ("a task's overrides of a range", {"nodeOverrides": {"nodePropertyOverrides": [
        {"targetNodes": "0", "ecsPropertiesOverride": {"taskProperties": [{}]}}]}}, "node ranges of containers"),
)  # fmt: skip


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_submission_of_nodes_that_aws_refuses_is_refused(strict: JobLab, change: dict[str, Any], told: str) -> None:
    """MP13, MP15."""
    request = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "nodes", **change}
    assert told in strict.refused("SubmitJob", **request)


def program(engine: Held, node: str) -> Program:
    found: Program = until(lambda: engine.programs.get(node))
    return found


def statuses(lab: JobLab, job_id: str, count: int) -> list[str]:
    return [lab.job(f"{job_id}#{index}")["status"] for index in range(count)]


def listed(lab: JobLab, job_id: str, **more: Any) -> list[int]:
    told = lab.ask("ListJobs", multiNodeJobId=job_id, **more)
    return [one["nodeProperties"]["nodeIndex"] for one in told["jobSummaryList"]]


def test_the_others_are_launched_only_when_the_main_node_runs(lab: JobLab, engine: Held) -> None:
    """T1-20, MP1."""
    engine.waits.clear()
    job_id = lab.submit(lab.define_nodes("order", "x", nodes=3, main=2))
    until(lambda: statuses(lab, job_id, 3) == ["RUNNABLE", "RUNNABLE", "STARTING"])
    assert lab.job(job_id)["status"] == "STARTING"
    engine.waits.set()
    until(lambda: statuses(lab, job_id, 3) == ["RUNNING"] * 3)
    assert engine.started[0].environment["AWS_BATCH_JOB_ID"] == f"{job_id}#2"
    assert listed(lab, job_id) == [0, 1, 2]
    assert listed(lab, job_id, jobStatus="STARTING") == []
    [parent] = lab.ask("ListJobs", jobQueue="queue")["jobSummaryList"]
    assert (parent["jobId"], parent["nodeProperties"]) == (job_id, {"numNodes": 3})
    program(engine, f"{job_id}#0").end(4)
    until(lambda: listed(lab, job_id, jobStatus="FAILED") == [0])
    program(engine, f"{job_id}#2").end(0)
    assert lab.ended(job_id)["status"] == "SUCCEEDED"
    [summary] = lab.ask("ListJobs", multiNodeJobId=job_id, jobStatus="SUCCEEDED")["jobSummaryList"]
    assert summary["container"] == {"exitCode": 0}
    assert summary["nodeProperties"] == {"isMainNode": True, "nodeIndex": 2, "numNodes": 3}
    assert program(engine, f"{job_id}#1").told == ["terminate"]
    assert [network.closed for network in engine.networks] == [True]
    assert lab.job(f"{job_id}#1")["statusReason"] == MAIN_OVER
    [parent] = lab.ask("ListJobs", jobQueue="queue", jobStatus="SUCCEEDED")["jobSummaryList"]
    assert parent["container"] == {"exitCode": 0}


@pytest.fixture
def heard(lab: JobLab) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """What a rule of EventBridge has heard of jobs: ids and statuses."""
    events = lab.local.client("events")
    events.put_rule(Name="nodes", EventPattern=json.dumps({"source": ["aws.batch"], "detail": {"jobName": ["heard"]}}))
    events.put_targets(Rule="nodes", Targets=[{"Id": "1", "Arn": arn("told")}])
    yield lambda: [(event["detail"]["jobId"], event["detail"]["status"]) for _, event in list(lab.invoked)]
    events.remove_targets(Rule="nodes", Ids=["1"])
    events.delete_rule(Name="nodes")


def test_the_order_of_the_others_is_no_promise(lab: JobLab, engine: Held, heard: Any) -> None:
    """MP1: of three jobs with seven children each, not all start them alike."""
    lab.environment("first", 8)
    definition = lab.define_nodes("heard", "x", nodes=8)
    orders = set()
    for _ in range(3):
        job_id = lab.submit(definition)
        until(lambda job_id=job_id: statuses(lab, job_id, 8) == ["RUNNING"] * 8)
        program(engine, f"{job_id}#0").end(0)
        lab.ended(job_id)
        until(lambda job_id=job_id: (job_id, "SUCCEEDED") in heard())
        began = [one.partition("#") for one, status in heard() if status == "STARTING"]
        orders.add(tuple(index for whole, _, index in began if whole == job_id and index not in ("", "0")))
    assert len(orders) > 1
    assert {len(order) for order in orders} == {7}


def test_all_nodes_have_room_or_none_is_started(lab: JobLab, engine: Held) -> None:
    """T1-20: three of four vCPUs are free, and a job of four nodes takes none of them."""
    single = lab.submit(lab.define("single", "x"))
    wide = lab.submit(lab.define_nodes("wide", "x", nodes=4))
    behind = lab.submit(lab.define("behind", "x"))
    lab.reach(single, "RUNNING")
    assert (statuses(lab, wide, 4), lab.job(behind)["status"]) == (["RUNNABLE"] * 4, "RUNNABLE")
    assert list(engine.programs) == [single]
    program(engine, single).end(0)
    until(lambda: statuses(lab, wide, 4) == ["RUNNING"] * 4)
    assert lab.ask("GetJobQueueSnapshot", jobQueue="queue")["queueUtilization"]["totalCapacityUsage"] == [
        {"capacityUnit": "VCPU", "quantity": 4.0}
    ]
    assert lab.job(behind)["status"] == "RUNNABLE"
    program(engine, f"{wide}#0").end(0)
    lab.reach(behind, "RUNNING")
    assert lab.job(wide)["status"] == "SUCCEEDED"


def test_containers_of_all_jobs_are_counted(lab: JobLab, engine: Held) -> None:
    """Of eight at once, and of the environments of a queue only those that take nodes."""
    lab.environment("spot", 64, type="SPOT")
    lab.environment("wide", 64)
    lab.queue("wide", "spot", "wide")
    first, second = (lab.submit(lab.define_nodes(f"of-{n}", "x", nodes=n), jobQueue="wide") for n in (5, 4))
    lab.reach(first, "RUNNING")
    until(lambda: statuses(lab, second, 4) == ["RUNNABLE"] * 4)
    program(engine, f"{first}#0").end(0)
    until(lambda: statuses(lab, second, 4) == ["RUNNING"] * 4)
    assert {one.environment["AWS_BATCH_CE_NAME"] for one in engine.started} == {"wide"}


def test_nodes_of_another_attempt_begin_anew(lab: JobLab, engine: Held) -> None:
    """MP9."""
    job_id = lab.submit(lab.define_nodes("again", "x", nodes=2), retryStrategy={"attempts": 2})
    until(lambda: statuses(lab, job_id, 2) == ["RUNNING"] * 2)
    engine.waits.clear()
    program(engine, f"{job_id}#0").end(1)
    until(lambda: statuses(lab, job_id, 2) == ["STARTING", "RUNNABLE"])
    assert "stoppedAt" not in lab.job(f"{job_id}#1")
    engine.waits.set()
    until(lambda: statuses(lab, job_id, 2) == ["RUNNING"] * 2)
    assert [network.closed for network in engine.networks] == [True, False]


@pytest.mark.parametrize(
    ("nodes", "each", "told"),
    [
        (5, needs(1, 16), MAX_RESOURCE),
        (3, needs(1, 400), f"{JOB_REQUIREMENT} This machine has 1000 MiB of memory, the job asks for 1200 MiB."),
        (2, [*needs(1, 16), {"type": "GPU", "value": "1"}], f"{JOB_REQUIREMENT} The local AWS gives no GPU to jobs."),
    ],
    ids=["vCPUs", "memory", "GPU"],
)
def test_nodes_that_never_fit_together_say_why(lab: JobLab, nodes: int, each: list[dict[str, str]], told: str) -> None:
    definition = lab.define_nodes(
        "never", "x", nodes=nodes, ranges=[{"targetNodes": "0:", "resourceRequirements": each}]
    )
    job_id = lab.submit(definition)
    until(lambda: lab.job(job_id).get("statusReason") == told)
    lab.ask("CancelJob", jobId=job_id, reason="never")
    assert lab.job(f"{job_id}#0")["statusReason"] == "never"
    assert statuses(lab, job_id, nodes) == ["FAILED"] * nodes


def test_more_nodes_than_this_machine_runs_at_once_hold_up_nobody(lab: JobLab) -> None:
    """MP13: 1000 nodes are a job as any other, but nothing here could run it."""
    lab.environment("huge", 1000)
    lab.queue("huge", "huge")
    job_id = lab.submit(lab.define_nodes("thousand", "x", nodes=1000), jobQueue="huge")
    until(lambda: "runs 8 containers at once, the job has 1000 nodes" in lab.job(job_id).get("statusReason", ""))
    lab.reach(lab.submit(lab.define("small", "x"), jobQueue="huge"), "RUNNING")
    page = lab.ask("ListJobs", multiNodeJobId=job_id, jobStatus="RUNNABLE", maxResults=600)
    rest = lab.ask("ListJobs", multiNodeJobId=job_id, jobStatus="RUNNABLE", nextToken=page["nextToken"])
    assert (len(page["jobSummaryList"]), len(rest["jobSummaryList"]), "nextToken" in rest) == (600, 400, False)


def test_each_node_must_fit_an_instance_of_its_environment(lab: JobLab) -> None:
    lab.environment("small", 64, instanceTypes=["m6i.large"])
    lab.queue("small", "small")
    lab.reach(lab.submit(lab.define_nodes("fits", "x", nodes=4), jobQueue="small"), "RUNNING")
    larger = [{"targetNodes": "1", "resourceRequirements": needs(3, 16)}]
    other = [{"targetNodes": "0:", "resourceRequirements": needs(1, 16), "instanceType": "c6i.large"}]
    for name, ranges in (("large", larger), ("other", other)):
        job_id = lab.submit(lab.define_nodes(name, "x", nodes=2, ranges=ranges), jobQueue="small")
        until(lambda job_id=job_id: lab.job(job_id).get("statusReason") == JOB_REQUIREMENT)
        lab.ask("CancelJob", jobId=job_id, reason="never")


def test_what_is_overridden_must_fit_each_nodes_own_8192_characters(lab: JobLab, engine: Held) -> None:
    """The limit is of one RunTask, and every node is one."""
    text = [{"name": "X", "value": "x" * 7000}]
    overrides = [{"targetNodes": str(index), "containerOverrides": {"environment": text}} for index in range(4)]
    definition = lab.define_nodes("large", "x", nodes=4)
    job_id = lab.submit(definition, nodeOverrides={"nodePropertyOverrides": overrides})
    until(lambda: statuses(lab, job_id, 4) == ["RUNNING"] * 4)
    program(engine, f"{job_id}#0").end(0)
    lab.ended(job_id)
    overrides[1]["containerOverrides"] = {"environment": [{"name": "X", "value": "x" * 8000}]}
    job_id = lab.submit(definition, nodeOverrides={"nodePropertyOverrides": overrides[:2]})
    until(lambda: statuses(lab, job_id, 4) == ["RUNNING", "FAILED", "RUNNING", "RUNNING"])
    assert "at most 8192" in lab.job(f"{job_id}#1")["statusReason"]


def test_a_terminated_job_that_is_still_starting_starts_no_more_nodes(lab: JobLab, engine: Held) -> None:
    engine.waits.clear()
    job_id = lab.submit(lab.define_nodes("early", "x", nodes=3))
    until(lambda: lab.job(f"{job_id}#0")["status"] == "STARTING")
    lab.ask("TerminateJob", jobId=job_id, reason="early")
    engine.waits.set()
    assert lab.ended(job_id)["statusReason"] == "early"
    assert [one.environment["AWS_BATCH_JOB_NODE_INDEX"] for one in engine.started] in ([], ["0"])
    assert statuses(lab, job_id, 3) == ["FAILED"] * 3


def test_a_node_is_known_as_one_and_only_its_job_is_ended_or_tagged(lab: JobLab) -> None:
    job_id = lab.submit(lab.define_nodes("known", "x", nodes=2))
    lab.reach(f"{job_id}#1", "RUNNING")
    node = lab.job(f"{job_id}#1")
    assert node["jobArn"].endswith(f":job/{job_id}#1")
    assert lab.job(node["jobArn"]) == node
    for unknown in (f"{job_id}#2", f"{job_id}#", f"{job_id}#x", f"{job_id}:0", f"{job_id}#0#0"):
        assert lab.ask("DescribeJobs", jobs=[unknown]) == {"jobs": []}
    assert "no tags of its own" in lab.refused("TagResource", resourceArn=node["jobArn"], tags={"a": "b"})
    assert "no tags of its own" in lab.refused("ListTagsForResource", resourceArn=node["jobArn"])
    depends = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "known", "dependsOn": [{"jobId": f"{job_id}#1"}]}
    assert "does not exist" in lab.refused("SubmitJob", **depends)
    single = lab.submit(lab.define("single", "x"))
    for stranger in (single, "nobody", f"{job_id}#1"):
        assert "no multi-node parallel job" in lab.refused("ListJobs", multiNodeJobId=stranger)
    assert "Exactly one" in lab.refused("ListJobs", multiNodeJobId=job_id, jobQueue="queue")
    assert "nextToken" in lab.refused("ListJobs", multiNodeJobId=job_id, nextToken="x")


def test_rules_of_eventbridge_hear_of_nodes_too(lab: JobLab, engine: Held, heard: Any) -> None:
    """The job's own events are those of any job; each node's are told as the children's of an array are."""
    job_id = lab.submit(lab.define_nodes("heard", "x", nodes=2))
    lab.reach(f"{job_id}#1", "RUNNING")
    program(engine, f"{job_id}#1").end(3)
    lab.reach(f"{job_id}#1", "FAILED")
    program(engine, f"{job_id}#0").end(0)
    until(lambda: len(heard()) == 11)
    told: dict[str, list[str]] = {}
    for one, status in heard():
        told.setdefault(one, []).append(status)
    assert told == {
        job_id: ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"],
        f"{job_id}#0": ["STARTING", "RUNNING", "SUCCEEDED"],
        f"{job_id}#1": ["STARTING", "RUNNING", "FAILED"],
    }


def test_a_thousand_nodes_of_an_ended_job_take_little() -> None:
    """LO14: kept for a week, and there may be many."""
    nodes = Nodes(1000, 0)
    for node in nodes.begin():
        node.status, node.reason = "FAILED", MAIN_OVER
        node.started_ms, node.stopped_ms = 1_795_299_041_108, 1_795_299_041_501
        task = hashlib.md5(b"%d" % node.index).hexdigest()
        container = {"taskArn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/first_Batch_u/{task}", "exitCode": 143}
        node.attempts.append({"container": container, "startedAt": node.started_ms, "stoppedAt": node.stopped_ms})
    before = [node.progress() for node in nodes.all()]
    assert len(pickle.dumps(nodes)) > 150_000
    Job("a", "n", "q", "d:1", {}, 1, 0, nodes=nodes).pack()
    assert len(pickle.dumps(nodes)) < 40_000
    assert [node.progress() for node in nodes.all()] == before
