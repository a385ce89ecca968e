"""A multi-node parallel job really runs: what its nodes are told, how they reach each other, and what their ends come to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape

from scar.local.batch.attempt import TIMED_OUT
from scar.local.batch.gang import MAIN_OVER
from scar.local.batch.scheduler import Pace
from tests.local.batch.job_bench import JobLab, until
from tests.local.functions.lambda_bench import Local, processes, reset_moto

LOOP = "while :; do sleep 0.05; done"
IS_MAIN = "[ $AWS_BATCH_JOB_NODE_INDEX = $AWS_BATCH_JOB_MAIN_NODE_INDEX ]"
# the main node stays until a test has seen what it wants of the others
LINGER = f'if {IS_MAIN}; then until [ -e "/gate/$AWS_BATCH_JOB_ID.$AWS_BATCH_JOB_ATTEMPT" ]; do sleep 0.02; done; fi'
GATE = {"mountPoints": [{"sourceVolume": "gate", "containerPath": "/gate"}]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobLab]:
    folder = tmp_path_factory.mktemp("nodes")
    with Local(folder / "local") as local:
        made = JobLab(local, folder, vcpus=8, pace=Pace(second_s=1 / 150, stop_s=0.3, idle_s=0.05))
        yield made
        assert made.told == []
        made.close()
    reset_moto()


@pytest.fixture(scope="module")
def model() -> Any:
    return botocore.session.get_session().get_service_model("batch")


def fits(value: Any, shape: Shape, path: str = "") -> None:
    """That an answer has nothing that botocore does not know, and of its types."""
    match shape:
        case StructureShape():
            assert value.keys() <= shape.members.keys(), path
            assert set(shape.required_members) - {"startedAt"} <= value.keys(), path
            for name, one in value.items():
                fits(one, shape.members[name], f"{path}.{name}")
        case ListShape():
            for one in value:
                fits(one, shape.member, path)
        case MapShape():
            for one in value.values():
                fits(one, shape.value, path)
        case _:
            kinds = {"string": str, "integer": int, "long": int, "boolean": bool}
            assert type(value) is kinds[shape.type_name], path
            assert not getattr(shape, "enum", []) or value in shape.enum, path


def nodes(lab: JobLab, job_id: str, count: int) -> list[dict[str, Any]]:
    return [lab.job(f"{job_id}#{index}") for index in range(count)]


def define(lab: JobLab, name: str, script: str, *, nodes: int, main: int = 0, ranges: Any = (), **more: Any) -> str:
    """Nodes that see the gate."""
    gate = {**GATE, "volumes": [{"name": "gate", "host": {"sourcePath": str(lab.folder / "gate")}}]}
    found = [{"targetNodes": "0:", **gate}, *({**gate, **one} for one in ranges)]
    return lab.define_nodes(name, script, nodes=nodes, main=main, ranges=found, **more)


def let_end(lab: JobLab, job_id: str, count: int, main: int = 0, attempt: int = 1) -> dict[str, Any]:
    """The job, ended: once all the others have, the main node may."""
    for index in range(count):
        if index != main:
            lab.ended(f"{job_id}#{index}")
    open_gate(lab, job_id, main, attempt)
    return lab.ended(job_id)


def open_gate(lab: JobLab, job_id: str, main: int = 0, attempt: int = 1) -> None:
    (lab.folder / "gate").mkdir(exist_ok=True)
    (lab.folder / "gate" / f"{job_id}#{main}.{attempt}").touch()


def by_index(lab: JobLab, told: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The variables that each node printed."""
    return [dict(line.partition("=")[::2] for line in lab.output(one)) for one in told]


def test_nodes_are_told_who_they_are_and_the_main_node_was_first(lab: JobLab, model: Any) -> None:
    """T1-20, MP1, MP13: the main node need not be the first one."""
    job_id = lab.submit(define(lab, "told", f"env; {LINGER}", nodes=3, main=1))
    running = lab.reach(job_id, "RUNNING")
    assert [attempt["container"].get("exitCode") for attempt in running["attempts"]] == [None]
    job = let_end(lab, job_id, 3, main=1)
    assert job["status"] == "SUCCEEDED"
    found = nodes(lab, job_id, 3)
    main, told = found[1], by_index(lab, found)
    addresses = [one["container"]["networkInterfaces"][0]["privateIpv4Address"] for one in found]
    assert len(set(addresses)) == 3
    assert len({one["HOSTNAME"] for one in told}) == 3
    for index, variables in enumerate(told):
        batch = {name: value for name, value in variables.items() if name.startswith("AWS_BATCH")}
        others = {} if index == 1 else {"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": addresses[1]}
        assert batch == others | {
            "AWS_BATCH_JOB_ID": f"{job_id}#{index}",
            "AWS_BATCH_JOB_ATTEMPT": "1",
            "AWS_BATCH_JOB_NODE_INDEX": str(index),
            "AWS_BATCH_JOB_NUM_NODES": "3",
            "AWS_BATCH_JOB_MAIN_NODE_INDEX": "1",
            "AWS_BATCH_JQ_NAME": "queue",
            "AWS_BATCH_CE_NAME": "first",
        }
        network = "SCAR_NODE_ADDRESS" not in variables
        assert network or variables["SCAR_NODE_ADDRESS"] == addresses[index]
        assert found[index]["startedAt"] >= main["startedAt"]
        assert found[index]["nodeDetails"] == {"nodeIndex": index, "isMainNode": index == 1}
    assert (job["startedAt"], job["stoppedAt"], job["attempts"]) == (
        main["startedAt"],
        main["stoppedAt"],
        main["attempts"],
    )
    assert "container" not in job
    assert job["nodeProperties"]["numNodes"] == 3
    for one in (job, *found):
        fits(one, model.shape_for("JobDetail"))


def test_nodes_reach_each_other_and_the_local_aws_with_their_role(lab: JobLab) -> None:
    """T1-20, MP7: what a node needs of its surroundings."""
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = lab.local.client("iam").create_role(RoleName="node", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    where = "${AWS_CONTAINER_CREDENTIALS_FULL_URI:-http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI}"
    ask = f'busybox wget -q -O - --header "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN" {where}'
    # SDKs take plain HTTP from these two places only: the agent's of ECS, and the loopback
    ask = f"{ask}; echo ${{AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:+ecs}}${{SCAR_NODE_ADDRESS:+loopback}}"
    ask = f"{{ {ask}; busybox wget -q -O - $AWS_ENDPOINT_URL/_scar/batch/reclaim/nobody; }}"
    main = f"{ask}; nc -l -p 9999 -e sh -c 'cat >/tmp/got'; cat /tmp/got"
    child = f"until {ask} | nc $AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS 9999; do sleep 0.02; done"
    script = f"if [ $AWS_BATCH_JOB_NODE_INDEX = 0 ]; then {main}; else {child}; fi"
    whole = [{"targetNodes": "0:", "jobRoleArn": role}]
    job = lab.ended(lab.submit(lab.define_nodes("talk", script, nodes=2, ranges=whole)))
    assert job["status"] == "SUCCEEDED"
    text = "".join(lab.output(lab.job(job["jobId"] + "#0")))
    assert text.count('"AccessKeyId"') == 2
    assert text.count(role) == text.count('{"reclaimed": false}') == 2
    assert text.count("}ecs") + text.count("}loopback") == 2


def test_each_node_runs_what_its_range_and_the_submission_say(lab: JobLab) -> None:
    """T1-20: the narrowest range is a node's, whole; what is overridden is merged into it."""

    def say(value: str) -> list[dict[str, str]]:
        return [{"name": "B", "value": value}]

    ranges = [{"targetNodes": "1:2", "environment": say("inner")}]
    definition = define(lab, "ranges", f"echo $A $B $C; {LINGER}", nodes=3, ranges=ranges)
    overrides = {
        "numNodes": 4,
        "nodePropertyOverrides": [
            {"targetNodes": "2:2", "containerOverrides": {"command": ["/bin/sh", "-c", "echo other Ref::x"]}},
            {"targetNodes": "0", "containerOverrides": {"environment": [{"name": "C", "value": "zero"}]}},
            {"targetNodes": ":", "containerOverrides": {"environment": [{"name": "C", "value": "all"}]}},
        ],
    }
    job = let_end(lab, lab.submit(definition, nodeOverrides=overrides, parameters={"x": "y"}), 4)
    found = nodes(lab, job["jobId"], 4)
    assert [lab.output(one) for one in found] == [
        ["image image zero"],
        ["image inner all"],
        ["other y"],
        ["image image all"],
    ]
    shown = job["nodeProperties"]["nodeRangeProperties"]
    assert [one["targetNodes"] for one in shown] == ["0", "1", "2", "3"]
    assert (
        shown[2]["container"]["command"] == found[2]["container"]["command"] == ["/bin/sh", "-c", "echo other Ref::x"]
    )
    variables = {entry["name"]: entry["value"] for entry in found[2]["container"]["environment"]}
    assert variables == {"B": "inner", "C": "all"}


@pytest.mark.parametrize("count", [1, 3])
def test_the_main_nodes_exit_code_is_the_jobs(lab: JobLab, count: int) -> None:
    """T1-20, MP6, MP13."""
    script = f"{LINGER}; exit $((7 - AWS_BATCH_JOB_NODE_INDEX))"
    job = let_end(lab, lab.submit(define(lab, "codes", script, nodes=count)), count)
    assert (job["status"], job["attempts"][0]["container"]["exitCode"]) == ("FAILED", 7)
    assert job["statusReason"] == "Essential container in task exited"
    found = nodes(lab, job["jobId"], count)
    assert [one["container"]["exitCode"] for one in found] == [7, 6, 5][:count]
    assert {one["status"] for one in found} == {"FAILED"}


def test_a_child_that_fails_does_nothing_to_the_others_and_one_that_is_left_behind_is_stopped(lab: JobLab) -> None:
    """T1-20, MP4: nothing of AWS's ends the job; whoever wants that does it himself."""
    mark = f"mark-{time.time_ns()}"
    children = f"1) exit 5;; 2) {LOOP};; 3) trap '' TERM; echo up; {LOOP};;"
    script = f": {mark}; case $AWS_BATCH_JOB_NODE_INDEX in 0) {LINGER};; {children} esac"
    job_id = lab.submit(define(lab, "children", script, nodes=4))
    assert lab.reach(f"{job_id}#1", "FAILED")["container"]["exitCode"] == 5
    lab.reach(f"{job_id}#2", "RUNNING")
    until(lambda: lab.output(lab.reach(f"{job_id}#3", "RUNNING")) == ["up"])
    assert lab.job(job_id)["status"] == "RUNNING"
    open_gate(lab, job_id)
    job = lab.ended(job_id)
    assert job["status"] == "SUCCEEDED"
    assert processes(mark) == []
    found = [(one["status"], one["container"]["exitCode"], one["statusReason"]) for one in nodes(lab, job_id, 4)]
    assert found == [
        ("SUCCEEDED", 0, "Essential container in task exited"),
        ("FAILED", 5, "Essential container in task exited"),
        ("FAILED", 143, MAIN_OVER),
        ("FAILED", 137, MAIN_OVER),
    ]
    assert job["stoppedAt"] < lab.job(f"{job_id}#3")["stoppedAt"]


def test_a_time_limit_is_the_whole_jobs(lab: JobLab) -> None:
    """T1-20. A second lasts 1/150 of one here."""
    mark = f"mark-{time.time_ns()}"
    definition = lab.define_nodes("slow", f": {mark}; {LOOP}", nodes=2)
    job = lab.ended(
        lab.submit(definition, timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3}), seconds=20
    )
    assert (job["status"], job["statusReason"], len(job["attempts"])) == ("FAILED", TIMED_OUT, 1)
    assert [one["statusReason"] for one in nodes(lab, job["jobId"], 2)] == [TIMED_OUT] * 2
    assert processes(mark) == []


def test_every_attempt_has_new_nodes_on_a_new_network(lab: JobLab) -> None:
    """T1-20, MP9: only the main node's end is retried, and none of the first attempt is left for the second to meet."""
    second, first = f"env; {LINGER}", f"{LINGER}; {IS_MAIN} && exit 9; {LOOP}"
    script = f"if [ $AWS_BATCH_JOB_ATTEMPT = 2 ]; then {second}; else {first}; fi"
    job_id = lab.submit(define(lab, "again", script, nodes=2), retryStrategy={"attempts": 3})
    lab.reach(f"{job_id}#1", "RUNNING")
    open_gate(lab, job_id)
    until(lambda: len(lab.job(f"{job_id}#1")["attempts"]) == 2)
    job = let_end(lab, job_id, 2, attempt=2)
    assert job["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [9, 0]
    main, child = nodes(lab, job["jobId"], 2)
    assert child["attempts"][0]["statusReason"] == MAIN_OVER
    assert child["attempts"][0]["stoppedAt"] <= main["attempts"][1]["startedAt"]
    streams = {attempt["container"]["logStreamName"] for one in (main, child) for attempt in one["attempts"]}
    assert len(streams) == 4
    assert [one["AWS_BATCH_JOB_ATTEMPT"] for one in by_index(lab, [main, child])] == ["2", "2"]


def test_two_jobs_at_once_have_nothing_in_common(lab: JobLab) -> None:
    """MP12."""
    definition = define(lab, "pair", f"env; {LINGER}", nodes=2)
    ids = [lab.submit(definition) for _ in range(2)]
    for job_id in ids:
        lab.ended(f"{job_id}#1")
    for job_id in ids:
        assert let_end(lab, job_id, 2)["status"] == "SUCCEEDED"
    found = [one for job_id in ids for one in nodes(lab, job_id, 2)]
    spans = [(one["startedAt"], one["stoppedAt"]) for one in found[::2]]
    assert max(start for start, _ in spans) < min(stop for _, stop in spans)
    told = by_index(lab, found)
    assert len({one["HOSTNAME"] for one in told}) == 4
    for job_id, (_, child) in zip(ids, [told[:2], told[2:]], strict=True):
        main = lab.job(f"{job_id}#0")["container"]["networkInterfaces"]
        assert main == [{"privateIpv4Address": child["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"]}]


def test_terminating_the_job_ends_every_node(lab: JobLab) -> None:
    """T1-20."""
    mark = f"mark-{time.time_ns()}"
    job_id = lab.submit(lab.define_nodes("terminated", f": {mark}; {LOOP}", nodes=2))
    lab.reach(f"{job_id}#1", "RUNNING")
    assert "ends with its job" in lab.refused("TerminateJob", jobId=f"{job_id}#1", reason="no")
    assert "ends with its job" in lab.refused("CancelJob", jobId=f"{job_id}#1", reason="no")
    lab.ask("TerminateJob", jobId=job_id, reason="enough")
    job = lab.ended(job_id)
    assert (job["status"], job["statusReason"], job["isTerminated"]) == ("FAILED", "enough", True)
    assert [(one["status"], one["statusReason"]) for one in nodes(lab, job_id, 2)] == [("FAILED", "enough")] * 2
    assert processes(mark) == []


def test_a_host_can_be_taken_from_one_node(lab: JobLab) -> None:
    """MP4, MP5: a child's loss is its own, the main node's is the job's and is retried where its strategy says so."""
    script = f"[ $AWS_BATCH_JOB_ATTEMPT = 2 ] || {LOOP}"
    rules = [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    strategy = {"attempts": 2, "evaluateOnExit": rules}
    job_id = lab.submit(lab.define_nodes("reclaimed", script, nodes=3), retryStrategy=strategy)
    for index in range(3):
        lab.reach(f"{job_id}#{index}", "RUNNING")
    assert lab.batch.page(f"reclaim/{job_id}#2", None) == {"reclaimed": True}
    gone = lab.reach(f"{job_id}#2", "FAILED")
    assert gone["statusReason"].startswith("Host EC2 (instance i-")
    assert lab.batch.page(f"reclaim/{job_id}#2", None) == {"reclaimed": False}
    assert lab.batch.page(f"reclaim/{job_id}#3", None) == {"reclaimed": False}
    assert lab.job(f"{job_id}#1")["status"] == lab.job(job_id)["status"] == "RUNNING"
    assert lab.batch.page(f"reclaim/{job_id}#0", None) == {"reclaimed": True}
    job = lab.ended(job_id)
    assert job["status"] == "SUCCEEDED"
    assert job["attempts"][0]["statusReason"].startswith("Host EC2 (instance i-")
    assert lab.job(f"{job_id}#1")["attempts"][0]["statusReason"] == MAIN_OVER


def test_nodes_are_not_begun_where_the_main_node_cannot(lab: JobLab) -> None:
    """MP3: its image is missing, and none of the others is waited for."""
    definition = lab.define_nodes("missing", LOOP, nodes=2, ranges=[{"targetNodes": "0", "image": "nowhere.example/x"}])
    job = lab.ended(lab.submit(definition))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert "CannotPullContainerError" in job["attempts"][0]["container"]["reason"]
    child = lab.job(job["jobId"] + "#1")
    assert (child["status"], child["statusReason"], child["attempts"]) == (
        "FAILED",
        "The job ended before this node began",
        [],
    )
