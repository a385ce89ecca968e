"""What Batch answered is there after a restart, for clients that know nothing of us: boto3 and the AWS CLI, against the real program."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError
from control_bench import ACCOUNT, EC2, ON_EC2, ON_FARGATE, REGION, Bench, changed, queue_of

from scar.local import lifecycle
from scar.local.batch.door import Door
from scar.local.lifecycle import Status
from scar.local.refusal import RefusalError
from scar.local.state import StateDamagedError
from tests.local.core.local_daemon import Running

SNAPSHOT = f"{ACCOUNT}.{REGION}.snapshot"


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def until(check: Callable[[], Any], *, patience_s: float = 15.0) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "state", program=("-m", "scar.local.daemon"))
    try:
        yield running.start()
    finally:
        running.close()


def status_of(daemon: Running) -> Status:
    found = lifecycle.status(daemon.folder)
    assert found is not None
    return found


def scar(daemon: Running, *argv: str) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(daemon.folder), "SCAR_LOCAL_STATE": str(daemon.folder)}
    command = [sys.executable, "-m", "scar", *argv]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()


def environment_on(daemon: Running, *, profile: str, subnets: list[str]) -> dict[str, Any]:
    groups = [group["GroupId"] for group in daemon.client("ec2").describe_security_groups()["SecurityGroups"]]
    disks = {"launchTemplateName": "disks"}
    wanted = {"instanceRole": profile, "subnets": subnets, "securityGroupIds": groups, "launchTemplate": disks}
    return changed(EC2, {f"computeResources.{name}": value for name, value in wanted.items()})


def aws(daemon: Running, *argv: str) -> Any:
    """The AWS CLI's answer; it knows the endpoint from the environment, as everything does."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(daemon.folder),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{daemon.port}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "awscli", "--output", "json", "batch", *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_unmodified_clients_use_batch_and_find_everything_again_after_a_kill(daemon):
    iam, batch, ec2 = daemon.client("iam"), daemon.client("batch"), daemon.client("ec2")
    for name, service in (("machines", "ec2.amazonaws.com"), ("wrong", "lambda.amazonaws.com")):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(service))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    ec2.create_launch_template(LaunchTemplateName="disks", LaunchTemplateData={"EbsOptimized": True})
    subnets = sorted(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"])
    good = environment_on(daemon, profile="machines", subnets=subnets)
    wrong = environment_on(daemon, profile="wrong", subnets=subnets) | {"computeEnvironmentName": "wrong"}
    lost = environment_on(daemon, profile="machines", subnets=["subnet-0"]) | {"computeEnvironmentName": "lost"}

    def environments() -> dict[str, Any]:
        pages = (
            daemon.client("batch")
            .get_paginator("describe_compute_environments")
            .paginate(PaginationConfig={"PageSize": 2})
        )
        return {one["computeEnvironmentName"]: one for page in pages for one in page["computeEnvironments"]}

    bare = changed(
        good, {"computeEnvironmentName": "bare", "computeResources.launchTemplate.launchTemplateName": "none"}
    )
    for request in (good, wrong, lost, bare):
        batch.create_compute_environment(**request)
    until(lambda: all(one["status"] != "CREATING" for one in environments().values()))
    found = environments()
    assert {name: one["status"] for name, one in found.items()} == {
        "bare": "INVALID",
        "lost": "INVALID",
        "place": "VALID",
        "wrong": "INVALID",
    }
    assert "does not trust ec2.amazonaws.com" in found["wrong"]["statusReason"]
    assert "subnet-0" in found["lost"]["statusReason"] and "launch template 'none'" in found["bare"]["statusReason"]
    line = batch.create_job_queue(**queue_of("place"))["jobQueueArn"]
    registered = aws(daemon, "register-job-definition", "--cli-input-json", json.dumps(ON_EC2 | {"tags": {"a": "b"}}))
    batch.tag_resource(resourceArn=registered["jobDefinitionArn"], tags={"c": "ä/ ?"})
    batch.untag_resource(resourceArn=registered["jobDefinitionArn"], tagKeys=["a", "c d"])
    batch.create_compute_environment(**good | {"computeEnvironmentName": "late"})  # CREATING when the daemon is killed
    with pytest.raises(ClientError) as refused:
        batch.delete_compute_environment(computeEnvironment="place")
    assert refused.value.response["Error"]["Code"] == "ClientException"
    with pytest.raises(batch.exceptions.ClientException):
        batch.deregister_job_definition(jobDefinition="job:9")

    counts = {"compute_environments": 5, "job_queues": 1, "job_definitions": 1, "jobs": {}}
    assert status_of(daemon).batch == counts
    assert "Batch has 5 compute environments, 1 job queue, 1 job definition; jobs: none." in scar(
        daemon, "local", "status"
    )

    daemon.kill()
    daemon.start()
    batch = daemon.client("batch")
    assert status_of(daemon).batch == counts
    assert until(lambda: environments()["late"]["status"] == "VALID")
    assert environments()["place"] == found["place"]
    assert sorted(one["SubnetId"] for one in daemon.client("ec2").describe_subnets()["Subnets"]) == subnets
    queues = batch.describe_job_queues(jobQueues=[line])["jobQueues"]
    assert [(queue["jobQueueArn"], queue["status"], queue["state"]) for queue in queues] == [(line, "VALID", "ENABLED")]
    assert batch.list_tags_for_resource(resourceArn=registered["jobDefinitionArn"])["tags"] == {"c": "ä/ ?"}
    daemon.client("iam").remove_role_from_instance_profile(InstanceProfileName="machines", RoleName="machines")
    until(lambda: environments()["place"]["status"] == "INVALID")
    assert "machines has no role" in environments()["place"]["statusReason"]
    batch.update_job_queue(jobQueue="line", state="DISABLED")
    until(lambda: batch.describe_job_queues()["jobQueues"][0]["status"] == "VALID")
    batch.delete_job_queue(jobQueue="line")
    until(lambda: not batch.describe_job_queues()["jobQueues"])


@pytest.mark.parametrize(
    ("region", "method", "path", "code"),
    [
        ("..", "POST", "/v1/describejobqueues", "InvalidSignatureException"),
        ("us-east-1", "GET", "/v1/describejobqueues", "UnknownOperationException"),
        ("us-east-1", "POST", "/v2/describejobqueues", "UnknownOperationException"),
        ("us-east-1", "POST", "/v1/nonsense", "UnknownOperationException"),
        ("us-east-1", "POST", "/v1/tags/arn%3Aaws%3Abatch%3Aus-east-1%3A1%3Ajob-queue%2Fa", "ClientException"),
    ],
)
def test_what_is_no_request_to_batch_gets_an_answer_in_its_protocol(tmp_path, region, method, path, code):
    bench = Bench(tmp_path)
    scope = f"AWS4-HMAC-SHA256 Credential=local/20260101/{region}/batch/aws4_request"
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote(path),
        "QUERY_STRING": "",
        "HTTP_AUTHORIZATION": scope,
        "wsgi.input": io.BytesIO(b'{"tags": {"a": "b"}}' if "tags" in path else b"{}"),
    }
    with pytest.raises(RefusalError) as refused:
        Door(bench.batch.answer)(environ, lambda *_: None)
    headers, body = refused.value.wire("batch", "0")
    assert (dict(headers)["x-amzn-ErrorType"], json.loads(body)["__type"]) == (code, code)


def test_what_cannot_be_stored_is_not_answered_and_is_stored_once_there_is_room(tmp_path):
    bench = Bench(tmp_path / "full", settle_s=5.0)
    bench("CreateComputeEnvironment", EC2)
    away = (tmp_path / "full").rename(tmp_path / "away")
    with pytest.raises(OSError):
        bench("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": "second"})
    bench.now_s += 5
    assert bench.environment()["status"] == "VALID"  # settled, and to be written later
    away.rename(tmp_path / "full")
    bench.now_s += 5
    bench.environment()
    again = bench.restarted()
    assert [again.environment(name)["status"] for name in ("place", "second")] == ["VALID", "VALID"]


def test_what_was_under_way_is_finished_after_a_restart(tmp_path):
    bench = Bench(tmp_path, settle_s=5.0)
    bench("CreateComputeEnvironment", EC2)
    bench.now_s += 5
    for name in ("line", "other"):
        bench("CreateJobQueue", queue_of("place") | {"jobQueueName": name})
    bench.now_s += 5
    bench("UpdateJobQueue", jobQueue="line", state="DISABLED")
    bench.now_s += 5
    bench("DeleteJobQueue", jobQueue="line")
    bench("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"maxvCpus": 64})
    again = bench.restarted()
    assert (again.queue()["status"], again.environment()["status"]) == ("DELETING", "UPDATING")
    again.now_s += 5
    assert again.queue() is None
    assert (again.environment()["status"], again.environment()["computeResources"]["maxvCpus"]) == ("VALID", 64)
    assert again.queue("other")["state"] == "ENABLED"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-1], "does not match its checksum"),
        (lambda content: content.replace(b"place", b"plaza"), "does not match its checksum"),
        (lambda content: content.partition(b"\n")[2], "does not begin with a header"),
        (lambda content: content.replace(b'"batch 1"', b'"batch 2"'), "cannot read it"),
        (lambda _: b"", "does not begin with a header"),
    ],
    ids=["cut", "changed", "headless", "newer", "empty"],
)
def test_a_damaged_snapshot_is_refused_with_the_way_out_and_left_as_it_is(tmp_path, damage, says):
    bench = Bench(tmp_path)
    bench("CreateComputeEnvironment", EC2)
    path = tmp_path / SNAPSHOT
    path.write_bytes(damaged := damage(path.read_bytes()))
    with pytest.raises(StateDamagedError, match=says) as refused:
        bench.restarted()
    assert refused.value.where == str(path) and "scar local reset" in str(refused.value)
    assert path.read_bytes() == damaged


def test_everything_that_many_ask_for_at_once_is_kept_whole(tmp_path):
    bench = Bench(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda n: bench("RegisterJobDefinition", ON_FARGATE | {"jobDefinitionName": f"job{n % 4}"}), range(80)
            )
        )
    assert sorted(one["revision"] for one in answers) == sorted([*range(1, 21)] * 4)
    kept = bench.restarted()("DescribeJobDefinitions", maxResults=100)["jobDefinitions"]
    assert {one["jobDefinitionArn"] for one in kept} == {one["jobDefinitionArn"] for one in answers}


def test_a_region_knows_nothing_of_another_and_reading_one_leaves_no_file(tmp_path):  # BA14
    bench = Bench(tmp_path)
    bench("CreateComputeEnvironment", EC2)
    status, answer = bench.batch.handle(ACCOUNT, "us-east-1", "describecomputeenvironments", b"{}")
    assert (status, answer) == (200, {"computeEnvironments": []})
    assert [path.name for path in tmp_path.iterdir()] == [SNAPSHOT]
