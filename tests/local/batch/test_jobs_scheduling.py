"""Which job runs when: queues, room, dependencies, arrays, retries, and who may stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.local.batch.capacity import JOB_REQUIREMENT, MAX_RESOURCE, Machine
from scar.local.sandbox.spec import Choice
from tests.local.batch.job_bench import Instant, JobLab, until
from tests.local.functions.lambda_bench import Local, arn, reset_moto

LOOP = "while [ ! -e /gate/$NAME ]; do sleep 0.02; done; echo $AWS_BATCH_CE_NAME"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("local")) as made:
        yield made
    reset_moto()


@pytest.fixture(scope="module")
def engine(local: Local) -> Any:
    return local.functions._engine


@pytest.fixture
def lab(local: Local, engine: Any, tmp_path: Any) -> Iterator[JobLab]:
    """Two vCPUs, and a machine that has 4,000 MiB."""
    made = JobLab(local, tmp_path, engine=engine, vcpus=2, machine=Machine(4000))
    (tmp_path / "gate").mkdir()
    yield made
    made.close()


def gated(lab: JobLab, name: str = "gated", **container: Any) -> str:
    """A definition of jobs that run until `open_gate` is called with their name."""
    volume = [{"name": "gate", "host": {"sourcePath": str(lab.folder / "gate")}}]
    points = [{"sourceVolume": "gate", "containerPath": "/gate"}]
    return lab.define(name, LOOP, volumes=volume, mountPoints=points, **container)


def begin(lab: JobLab, definition: str, name: str, **more: Any) -> str:
    overrides = {"environment": [{"name": "NAME", "value": name}], **more.pop("overrides", {})}
    return lab.submit(definition, jobName=name, containerOverrides=overrides, **more)


def open_gate(lab: JobLab, *names: str) -> None:
    for name in names:
        (lab.folder / "gate" / name).touch()


def listed(lab: JobLab, **asked: Any) -> list[str]:
    asked = {"jobQueue": "queue", **asked} if "arrayJobId" not in asked else asked
    return [job["jobName"] for job in lab.ask("ListJobs", **asked)["jobSummaryList"]]


def needs(vcpus: str = "1", memory: str = "64") -> dict[str, Any]:
    return {
        "resourceRequirements": [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}],
    }


def test_no_more_run_at_once_than_there_are_vcpus_and_the_rest_in_order(lab: JobLab) -> None:
    """LO9."""
    definition = gated(lab)
    ids = [begin(lab, definition, name) for name in "abcd"]
    until(lambda: listed(lab) == ["b", "a"])
    assert listed(lab, jobStatus="RUNNABLE") == ["d", "c"]
    assert until(lambda: lab.region.environments["first"].desired_vcpus == 2)
    front = lab.ask("GetJobQueueSnapshot", jobQueue="queue")
    assert [job["jobArn"].rpartition("/")[2] for job in front["frontOfQueue"]["jobs"]] == ids[2:]
    assert front["queueUtilization"]["totalCapacityUsage"] == [{"capacityUnit": "VCPU", "quantity": 2.0}]
    open_gate(lab, "b")
    until(lambda: listed(lab) == ["c", "a"])
    open_gate(lab, "a", "c", "d")
    assert {lab.ended(job_id)["status"] for job_id in ids} == {"SUCCEEDED"}
    until(lambda: lab.region.environments["first"].desired_vcpus == 0)


def test_parts_of_a_vcpu_and_the_second_environment_of_a_queue(lab: JobLab) -> None:
    lab.environment("second", 1)
    lab.queue("queue", "first", "second")
    definition = gated(lab)
    overrides = needs("0.5")
    ids = [begin(lab, definition, f"half-{n}", overrides=overrides) for n in range(5)]
    for job_id in ids:
        lab.reach(job_id, "RUNNING")
    open_gate(lab, *(f"half-{n}" for n in range(5)))
    assert [lab.output(lab.ended(job_id)) for job_id in ids] == [["first"]] * 4 + [["second"]]


def test_a_queue_of_higher_priority_goes_first(lab: JobLab) -> None:
    lab.queue("urgent", "first", priority=9)
    definition = gated(lab)
    begin(lab, definition, "running", overrides=needs("2"))
    until(lambda: listed(lab) == ["running"])
    low = begin(lab, definition, "low", overrides=needs("2"))
    high = begin(lab, definition, "high", overrides=needs("2"), jobQueue="urgent")
    open_gate(lab, "running")
    lab.reach(high, "RUNNING")
    assert lab.job(low)["status"] == "RUNNABLE"
    open_gate(lab, "high", "low")
    assert lab.ended(low)["status"] == "SUCCEEDED"


def test_a_job_that_fits_nowhere_says_why_holds_up_its_queue_and_is_cancelled_in_time(lab: JobLab) -> None:
    """BA13."""
    action = {"reason": MAX_RESOURCE.partition(" ")[0], "state": "RUNNABLE", "maxTimeSeconds": 30, "action": "CANCEL"}
    lab.queue("queue", "first", jobStateTimeLimitActions=[action])
    wide = lab.submit(lab.define("wide", "echo hi", **needs("3")))
    until(lambda: lab.job(wide).get("statusReason") == MAX_RESOURCE)
    behind = lab.submit(lab.define("behind", "echo hi"))
    until(lambda: lab.job(behind)["status"] == "RUNNABLE")
    ended = lab.ended(wide)
    assert ended["status"] == "FAILED"
    assert ended["statusReason"] == f"Canceled by JobStateTimeLimit action due to reason: {action['reason']}"
    assert lab.ended(behind)["status"] == "SUCCEEDED"


def test_a_stuck_job_runs_once_its_environment_has_grown(lab: JobLab) -> None:
    job_id = lab.submit(lab.define("grows", "echo hi", **needs("3")))
    until(lambda: lab.job(job_id).get("statusReason") == MAX_RESOURCE)
    lab.environment("first", 4)
    assert lab.ended(job_id)["status"] == "SUCCEEDED"


def test_no_instance_type_is_large_enough(lab: JobLab) -> None:
    lab.environment("small", 256, instanceTypes=["m5.large"])
    lab.queue("small", "small")
    job_id = lab.submit(lab.define("large", "echo hi", **needs("1", "9000")), jobQueue="small")
    until(lambda: lab.job(job_id).get("statusReason") == JOB_REQUIREMENT)


def test_a_job_too_large_for_this_machine_says_so_and_holds_up_nobody(lab: JobLab) -> None:
    """BA18, and memory that AWS has and this machine has not."""
    large = lab.submit(lab.define("memory", "echo hi", **needs("1", "4001")))
    gpu = [*needs()["resourceRequirements"], {"type": "GPU", "value": "1"}]
    graphics = lab.submit(lab.define("gpu", "echo hi", resourceRequirements=gpu))
    lab.environment("first", 2)
    assert lab.ended(lab.submit(lab.define("small", "echo hi")))["status"] == "SUCCEEDED"
    assert "This machine has 4000 MiB of memory" in lab.job(large)["statusReason"]
    assert "no GPU" in lab.job(graphics)["statusReason"]
    assert {lab.job(one)["status"] for one in (large, graphics)} == {"RUNNABLE"}


def test_jobs_wait_for_memory_of_this_machine(lab: JobLab) -> None:
    definition = gated(lab, **needs("1", "2000"))
    begin(lab, definition, "a")
    second = begin(lab, definition, "b")
    until(lambda: listed(lab) == ["a"])
    assert lab.job(second)["status"] in ("SUBMITTED", "RUNNABLE")
    open_gate(lab, "a", "b")
    assert lab.ended(second)["status"] == "SUCCEEDED"


def test_a_job_waits_for_those_it_depends_on_and_fails_with_them(lab: JobLab) -> None:
    definition = gated(lab)
    first = begin(lab, definition, "first")
    good = lab.submit(lab.define("after", "echo hi"), dependsOn=[{"jobId": first}])
    bad = lab.submit(lab.define("bad", "exit 1"), dependsOn=[{"jobId": good}])
    never = lab.submit(lab.define("never", "echo hi"), dependsOn=[{"jobId": good}, {"jobId": bad}])
    chain = lab.submit(lab.define("chain", "echo hi"), dependsOn=[{"jobId": never}])
    lab.reach(first, "RUNNING")
    assert {lab.job(one)["status"] for one in (good, bad, never, chain)} <= {"SUBMITTED", "PENDING"}
    open_gate(lab, "first")
    assert lab.ended(good)["startedAt"] >= lab.job(first)["stoppedAt"]
    for one in (never, chain):
        assert (lab.ended(one)["status"], lab.job(one)["statusReason"]) == ("FAILED", "Dependent Job failed")
        assert lab.job(one)["attempts"] == []
    late = lab.submit(definition, dependsOn=[{"jobId": bad}])
    assert lab.ended(late)["statusReason"] == "Dependent Job failed"


def test_an_array_runs_a_child_for_each_index(lab: JobLab) -> None:
    odd = "echo $AWS_BATCH_JOB_ARRAY_INDEX of $AWS_BATCH_JOB_ARRAY_SIZE; [ $AWS_BATCH_JOB_ARRAY_INDEX != 1 ]"
    parent = lab.submit(lab.define("array", odd), arrayProperties={"size": 3})
    job = lab.ended(parent)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Array Child Job failed")
    assert job["arrayProperties"]["size"] == 3
    counts = {status: count for status, count in job["arrayProperties"]["statusSummary"].items() if count}
    assert counts == {"SUCCEEDED": 2, "FAILED": 1}
    children = [lab.job(f"{parent}:{index}") for index in range(3)]
    assert [lab.output(child) for child in children] == [[f"{index} of 3"] for index in range(3)]
    assert [child["arrayProperties"]["index"] for child in children] == [0, 1, 2]
    assert [child["status"] for child in children] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    summaries = lab.ask("ListJobs", arrayJobId=parent, jobStatus="FAILED")["jobSummaryList"]
    assert [one["jobId"] for one in summaries] == [f"{parent}:1"]


def test_a_parent_is_pending_while_its_children_run(lab: JobLab) -> None:
    parent = begin(lab, gated(lab), "array", arrayProperties={"size": 2})
    until(lambda: lab.job(parent)["arrayProperties"]["statusSummary"]["RUNNING"] == 2)
    assert lab.job(parent)["status"] == "PENDING"
    assert listed(lab, jobStatus="PENDING") == ["array"]
    open_gate(lab, "array")
    assert lab.ended(parent)["status"] == "SUCCEEDED"


def test_children_wait_for_the_same_index_or_for_the_one_before(lab: JobLab) -> None:
    size = {"arrayProperties": {"size": 3}}
    first = lab.submit(lab.define("first", "[ $AWS_BATCH_JOB_ARRAY_INDEX != 1 ]"), **size)
    pairs = lab.submit(lab.define("pairs", "echo hi"), **size, dependsOn=[{"jobId": first, "type": "N_TO_N"}])
    row = lab.submit(
        lab.define("row", "[ $AWS_BATCH_JOB_ARRAY_INDEX != 1 ]"), **size, dependsOn=[{"type": "SEQUENTIAL"}]
    )
    for parent in (first, pairs, row):
        assert lab.ended(parent)["status"] == "FAILED"
    assert [lab.job(f"{pairs}:{n}")["status"] for n in range(3)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert lab.job(f"{pairs}:1")["statusReason"] == "Dependent Job failed"
    assert [lab.job(f"{row}:{n}")["status"] for n in range(3)] == ["SUCCEEDED", "FAILED", "FAILED"]
    assert lab.job(f"{row}:2")["statusReason"] == "Dependent Job failed"


def test_a_failed_attempt_is_tried_again_and_each_is_told(lab: JobLab) -> None:
    """BA8, LO9."""
    lab.define("again", "echo try $AWS_BATCH_JOB_ATTEMPT; [ $AWS_BATCH_JOB_ATTEMPT = 3 ]")
    job = lab.ended(lab.submit("again", retryStrategy={"attempts": 5}))
    assert job["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [1, 1, 0]
    assert len({attempt["container"]["logStreamName"] for attempt in job["attempts"]}) == 3
    assert lab.output(job) == ["try 3"]


def test_what_is_tried_again_is_decided_by_the_strategy(lab: JobLab) -> None:
    rules = [{"onExitCode": "7", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    strategy = {"attempts": 2, "evaluateOnExit": rules}
    assert len(lab.run("exits-7", "exit 7", submit={"retryStrategy": strategy})["attempts"]) == 2
    assert len(lab.run("exits-8", "exit 8", submit={"retryStrategy": strategy})["attempts"]) == 1


def test_a_spot_instance_that_is_taken_away_is_no_failure_of_the_program(lab: JobLab) -> None:
    """BA7."""
    rules = [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    job_id = begin(lab, gated(lab), "spot", retryStrategy={"attempts": 2, "evaluateOnExit": rules})
    lab.reach(job_id, "RUNNING")
    assert lab.batch.page(f"reclaim/{job_id}", None) == {"reclaimed": True}
    until(lambda: len(lab.job(job_id)["attempts"]) == 2)
    open_gate(lab, "spot")
    job = lab.ended(job_id)
    assert job["status"] == "SUCCEEDED"
    reason = job["attempts"][0]["statusReason"]
    assert reason.startswith("Host EC2 (instance i-")
    assert reason.endswith(") terminated.")
    assert "exitCode" not in job["attempts"][0]["container"]
    assert lab.batch.page(f"reclaim/{job_id}", None) == {"reclaimed": False}


def test_a_task_of_fargate_spot_is_interrupted_and_knows_its_region(lab: JobLab) -> None:
    """BA7."""
    lab.environment("tasks", 2, type="FARGATE_SPOT")
    lab.queue("tasks", "tasks")
    job_id = lab.submit(
        lab.define("task", "echo $AWS_REGION $AWS_EXECUTION_ENV; while :; do sleep 0.05; done"), jobQueue="tasks"
    )
    job = lab.reach(job_id, "RUNNING")
    assert until(lambda: lab.output(job)) == ["us-east-1 AWS_ECS_FARGATE"]
    lab.batch.page(f"reclaim/{job_id}", None)
    assert lab.ended(job_id)["statusReason"] == "Your Spot Task was interrupted."


def test_cancelling_ends_what_has_not_started_and_nothing_else(lab: JobLab) -> None:
    definition = gated(lab)
    running = begin(lab, definition, "running", overrides=needs("2"))
    lab.reach(running, "RUNNING")
    waiting = begin(lab, definition, "waiting")
    after = lab.submit(definition, dependsOn=[{"jobId": waiting}])
    lab.reach(waiting, "RUNNABLE")
    for job_id in (waiting, running):
        assert lab.ask("CancelJob", jobId=job_id, reason="not wanted") == {}
    job = lab.ended(waiting)
    assert (job["status"], job["statusReason"], job["isCancelled"]) == ("FAILED", "not wanted", True)
    assert lab.ended(after)["statusReason"] == "Dependent Job failed"
    assert (lab.job(running)["status"], lab.job(running)["isCancelled"]) == ("RUNNING", False)
    open_gate(lab, "running")
    assert lab.ended(running)["status"] == "SUCCEEDED"
    assert lab.ask("TerminateJob", jobId=running, reason="too late") == {}
    assert lab.job(running)["status"] == "SUCCEEDED"
    assert "does not exist" in lab.refused("CancelJob", jobId="nobody", reason="x")


def test_terminating_an_array_ends_all_its_children(lab: JobLab) -> None:
    parent = begin(lab, gated(lab), "array", arrayProperties={"size": 4}, retryStrategy={"attempts": 5})
    until(lambda: lab.job(parent)["arrayProperties"]["statusSummary"]["RUNNING"] == 2)
    lab.ask("TerminateJob", jobId=parent, reason="enough")
    job = lab.ended(parent)
    assert (job["status"], job["statusReason"], job["isTerminated"]) == ("FAILED", "enough", True)
    assert job["arrayProperties"]["statusSummary"]["FAILED"] == 4
    assert {len(lab.job(f"{parent}:{n}")["attempts"]) for n in range(4)} == {0, 1}


def test_a_queue_that_is_deleted_takes_its_jobs_with_it(lab: JobLab) -> None:
    running, waiting = (begin(lab, gated(lab), name, overrides=needs("2")) for name in ("one", "two"))
    lab.reach(running, "RUNNING")
    queue = lab.region.queues["queue"]
    assert lab.jobs.unfinished(lab.region, queue.arn) == 2
    lab.jobs.end_queue(lab.region, queue.arn)
    assert {lab.ended(job_id)["status"] for job_id in (running, waiting)} == {"FAILED"}
    assert lab.jobs.unfinished(lab.region, queue.arn) == 0


def test_rules_of_eventbridge_hear_of_every_status(lab: JobLab) -> None:
    events, name = lab.local.client("events"), arn("told")
    pattern = '{"source": ["aws.batch"], "detail-type": ["Batch Job State Change"], "detail": {"jobName": ["heard"]}}'
    events.put_rule(Name="jobs", EventPattern=pattern)
    events.put_targets(Rule="jobs", Targets=[{"Id": "1", "Arn": name}])
    lab.submit(lab.define("other", "echo hi"))
    job_id = lab.submit(lab.define("heard", "echo hi"))
    until(lambda: len(lab.invoked) == 5)
    assert {target for target, _ in lab.invoked} == {name}
    told = [event for _, event in lab.invoked]
    assert [event["detail"]["status"] for event in told] == [
        "SUBMITTED",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ]
    assert told[-1]["resources"] == [lab.job(job_id)["jobArn"]]
    assert told[-1]["detail"]["container"]["exitCode"] == 0
    events.remove_targets(Rule="jobs", Ids=["1"])
    events.delete_rule(Name="jobs")


def test_idle_costs_nothing(lab: JobLab) -> None:
    lab.ended(lab.submit(lab.define("once", "echo hi")))
    until(lambda: lab.region.environments["first"].desired_vcpus == 0)
    time.sleep(0.1)
    before = wake_ups("batch ")
    time.sleep(0.3)
    assert wake_ups("batch ") == before


def wake_ups(thread: str) -> list[int]:
    """How often threads of this name have slept and woken."""
    found = [one for one in threading.enumerate() if one.name.startswith(thread)]
    assert found
    told = [Path(f"/proc/self/task/{one.native_id}/status").read_text() for one in found]
    return [int(text.partition("voluntary_ctxt_switches:")[2].split()[0]) for text in told]


def test_a_thousand_jobs_are_taken_fast_and_each_runs_once(local: Local, tmp_path: Path) -> None:
    """BA12. Sandboxes that end at once: what is measured is the way to them."""
    engine = Instant()
    lab = JobLab(local, tmp_path, engine=lambda: Choice(engine), vcpus=4)
    definition = lab.define("many", "echo hi")
    begun = time.process_time()
    ids = [lab.submit(definition) for _ in range(1000)]
    until(lambda: lab.jobs.unfinished(lab.region, lab.region.queues["queue"].arn) == 0, 30)
    assert time.process_time() - begun < 10
    assert sorted(spec.environment["AWS_BATCH_JOB_ID"] for spec in engine.started) == sorted(ids)
    lab.close()
