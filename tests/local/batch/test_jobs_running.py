"""A job runs: what its program sees, what becomes of its output and of its exit code."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from moto.secretsmanager.models import secretsmanager_backends
from moto.ssm.models import ssm_backends

from scar.local.batch.attempt import NOT_STARTED, OUT_OF_MEMORY, TIMED_OUT, TOO_LONG
from tests.local.batch.job_bench import JobLab, until
from tests.local.functions.lambda_bench import ACCOUNT, Local, busybox, layer, processes, reset_moto


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobLab]:
    folder = tmp_path_factory.mktemp("jobs")
    with Local(folder / "local") as local:
        made = JobLab(local, folder)
        yield made
        made.close()
    reset_moto()


@pytest.fixture(scope="module")
def role(lab: JobLab) -> str:
    """A role that ECS's tasks may take."""
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = lab.local.client("iam").create_role(RoleName="job", AssumeRolePolicyDocument=policy)
    return str(made["Role"]["Arn"])


def test_a_job_runs_to_its_end_and_its_output_is_in_the_log(lab: JobLab) -> None:
    job = lab.run("hello", "echo hello; echo world >&2")
    assert job["status"] == "SUCCEEDED"
    assert lab.output(job) == ["hello", "world"]
    assert job["container"]["exitCode"] == 0
    assert job["container"]["logStreamName"].startswith("hello/default/")
    assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]
    [attempt] = job["attempts"]
    assert attempt["container"]["taskArn"].startswith(f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/first_Batch_u/")
    assert attempt["statusReason"] == "Essential container in task exited"


@pytest.mark.parametrize("code", [1, 126, 127, 137, 143, 255])
def test_the_exit_code_of_the_program_is_the_jobs(lab: JobLab, code: int) -> None:
    """BA4."""
    job = lab.run("codes", f"exit {code}")
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", code)
    assert job["statusReason"] == "Essential container in task exited"


def test_the_images_command_runs_where_the_definition_has_none(lab: JobLab) -> None:
    assert lab.output(lab.run("image-command", [])) == ["cmd"]


def test_a_command_is_given_to_the_images_entry_point(lab: JobLab) -> None:
    """BA17: the API has no word for another entry point."""
    local = lab.local
    if not local.ecr_has("scar/entry"):
        local.ecr.create_repository(repositoryName="scar/entry")
    config = {"Entrypoint": ["/bin/echo", "entered"], "Cmd": ["never"]}
    digest = local.push("scar/entry", "v1", layer({"bin/busybox": busybox(), "bin/echo": busybox()}), config=config)
    image = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/scar/entry@{digest}"
    job = lab.run("entry", ["with", "Ref::what", "Ref::unknown"], image=image, submit={"parameters": {"what": "this"}})
    assert lab.output(job) == ["entered with this Ref::unknown"]


def test_variables_come_from_the_image_the_definition_the_submission_and_batch(lab: JobLab) -> None:
    environment = [{"name": name, "value": "definition"} for name in "BC"] + [{"name": "AWS_REGION", "value": "mine"}]
    overrides = {"environment": [{"name": "C", "value": 'submitted "$x"\nline'}]}
    job = lab.run(
        "variables", 'echo $A $B; echo "$C"; env', environment=environment, submit={"containerOverrides": overrides}
    )
    lines = lab.output(job)
    assert lines[:3] == ["image definition", 'submitted "$x"', "line"]  # BA3
    told = dict(line.partition("=")[::2] for line in lines[3:])
    batch = {name: value for name, value in told.items() if name.startswith("AWS_")}
    assert batch == {
        "AWS_BATCH_JOB_ID": job["jobId"],
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_JQ_NAME": "queue",
        "AWS_BATCH_CE_NAME": "first",
        "AWS_ENDPOINT_URL": lab.url,
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "AWS_REGION": "mine",
    }
    shown = {entry["name"]: entry["value"] for entry in job["container"]["environment"]}
    assert shown["C"] == overrides["environment"][0]["value"]


def test_the_log_can_be_read_while_the_job_runs(lab: JobLab) -> None:
    job_id = lab.submit(lab.define("live", "echo first; while :; do sleep 0.05; done"))
    job = lab.reach(job_id, "RUNNING")
    assert until(lambda: lab.output(job)) == ["first"]
    assert lab.job(job_id)["status"] == "RUNNING"
    lab.ask("TerminateJob", jobId=job_id, reason="seen")
    assert lab.ended(job_id)["statusReason"] == "seen"


def test_ten_thousand_lines_are_all_there_and_in_order(lab: JobLab) -> None:
    """BA16."""
    job = lab.run("many", "i=0; while [ $i -lt 10000 ]; do echo $i; i=$((i+1)); done")
    assert lab.output(job) == [str(number) for number in range(10_000)]


def test_a_log_group_of_the_definition_must_be_there_unless_it_may_be_made(lab: JobLab) -> None:
    """BA16."""
    options = {"awslogs-group": "/mine", "awslogs-stream-prefix": "pre"}
    logs = {"logDriver": "awslogs", "options": options}
    job = lab.run("no-group", "echo hi", logConfiguration=logs)
    assert (job["status"], job["statusReason"]) == ("FAILED", NOT_STARTED)
    assert "The specified log group does not exist" in job["container"]["reason"]
    assert "logStreamName" not in job["container"]
    options["awslogs-create-group"] = "true"
    job = lab.run("makes-group", "echo hi", logConfiguration=logs)
    assert job["container"]["logStreamName"].startswith("pre/default/")
    assert {group for group, stream, _, _ in lab.logs.lines if stream == job["container"]["logStreamName"]} == {"/mine"}


def test_who_the_job_runs_as(lab: JobLab) -> None:
    """BA17."""
    assert lab.output(lab.run("root", "id -u; id -g")) == ["0", "0"]
    assert lab.output(lab.run("named", "id -u; id -g", user="alice")) == ["1234", "1235"]
    assert lab.output(lab.run("numbered", "id -u; id -g", user="7:8")) == ["7", "8"]
    job = lab.run("stranger", "id", user="nobody-here")
    assert "unable to find user nobody-here" in job["container"]["reason"]


def test_root_in_a_job_has_the_rights_of_a_container_and_no_more(lab: JobLab) -> None:
    """BA17: an image's own start may hand over to another user."""
    rights = "touch /tmp/x; chown 7:8 /tmp/x && stat -c %u:%g /tmp/x; busybox mknod /tmp/d b 8 0 || echo no device"
    lines = lab.output(lab.run("rights", f"{rights}; busybox mount -t tmpfs x /tmp || echo no mount"))
    if os.geteuid() == 0:
        assert lines.pop(0) == "7:8"
    assert "no device" in lines
    assert "no mount" in lines


def test_a_root_is_written_to_or_not(lab: JobLab) -> None:
    """BA17. What one job writes into its image no other sees."""
    assert lab.output(lab.run("writes", "echo x >/bin/new; cat /bin/new; ls /bin/new")) == ["x", "/bin/new"]
    job = lab.run("read-only", "ls /bin/new; echo x >/bin/new || exit 5", readonlyRootFilesystem=True)
    assert job["container"]["exitCode"] == 5


def test_folders_in_memory_are_as_large_as_asked(lab: JobLab) -> None:
    linux = {
        "tmpfs": [{"containerPath": "/fast/here", "size": 2}],
        "sharedMemorySize": 3,
        "initProcessEnabled": True,
    }
    fill = (
        "for f in /fast/here /dev/shm; do dd if=/dev/zero of=$f/x bs=1024k count=9 2>/dev/null; stat -c %s $f/x; done"
    )
    assert lab.output(lab.run("tmpfs", fill, linuxParameters=linux)) == [str(2 << 20), str(3 << 20)]


def test_volumes_are_a_hosts_folder_a_file_system_or_the_attempts_own(lab: JobLab) -> None:
    host = lab.folder / "host" / "made"
    volumes: list[dict[str, Any]] = [
        {"name": "host", "host": {"sourcePath": str(host)}},
        {"name": "own"},
        {"name": "efs", "efsVolumeConfiguration": {"fileSystemId": "fs-0123456789abcdef0", "rootDirectory": "/deep"}},
    ]
    points = [{"sourceVolume": name, "containerPath": f"/v/{name}"} for name in ("host", "own", "efs")]
    points[0]["readOnly"] = True  # type: ignore[assignment]
    command = "cat /v/own/x /v/efs/x; for v in host own efs; do echo $AWS_BATCH_JOB_ID >/v/$v/x && echo wrote $v; done 2>/dev/null"
    first = lab.run("volumes", command, volumes=volumes, mountPoints=points)
    assert lab.output(first)[-2:] == ["wrote own", "wrote efs"]
    assert host.is_dir()
    second = lab.run("volumes", command, volumes=volumes, mountPoints=points)
    assert first["jobId"] in lab.output(second)  # of the file system; the attempt's own is gone
    assert sorted(path.name for path in (lab.folder / "batch").glob("attempts/*")) == []


def test_secrets_are_variables_and_nowhere_else(lab: JobLab, role: str) -> None:
    made = secretsmanager_backends[ACCOUNT]["us-east-1"].create_secret(
        "pw", '{"key": "canary-1"}', None, None, None, None, None, [], force_overwrite=False
    )
    secret = json.loads(made)["ARN"]
    ssm_backends[ACCOUNT]["us-east-1"].put_parameter(
        "/a/b", "", "canary-2", "SecureString", "", "", False, [], "text", None, None
    )
    secrets = [{"name": "S", "valueFrom": f"{secret}:key::"}, {"name": "P", "valueFrom": "/a/b"}]
    job = lab.run(
        "secrets", "echo ${#S} ${#P}; [ $S$P = can''ary-1can''ary-2 ]", secrets=secrets, executionRoleArn=role
    )
    assert (job["status"], lab.output(job)) == ("SUCCEEDED", ["8 8"])
    assert "canary" not in json.dumps(job)
    job = lab.run("no-secret", "echo hi", secrets=[{"name": "S", "valueFrom": "/not/there"}], executionRoleArn=role)
    assert job["container"]["reason"].startswith("ResourceInitializationError: unable to pull secrets")


def test_a_role_reaches_the_job_by_an_address_of_its_own(lab: JobLab, role: str) -> None:
    job_id = lab.submit(lab.define("role", "env; while :; do sleep 0.05; done", jobRoleArn=role))
    job = lab.reach(job_id, "RUNNING")
    told = dict(line.partition("=")[::2] for line in until(lambda: lab.output(job)))
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & set(told)
    address, token = told["AWS_CONTAINER_CREDENTIALS_FULL_URI"], told["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    assert requests.get(address, timeout=5).status_code == 404
    document = requests.get(address, headers={"Authorization": token}, timeout=5).json()
    sts = boto3.client(
        "sts",
        endpoint_url=lab.local.url,
        region_name="us-east-1",
        aws_access_key_id=document["AccessKeyId"],
        aws_secret_access_key=document["SecretAccessKey"],
        aws_session_token=document["Token"],
    )
    assert sts.get_caller_identity()["Arn"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/job/")
    lab.ask("TerminateJob", jobId=job_id, reason="enough")
    lab.ended(job_id)
    assert requests.get(address, headers={"Authorization": token}, timeout=5).status_code == 404


def test_a_role_that_is_not_there_or_does_not_trust_ecs_ends_the_job(lab: JobLab) -> None:
    for name in ("nobody", lab.local.role.rpartition("/")[2]):  # the second trusts Lambda only
        job = lab.run("untrusted", "echo hi", jobRoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}")
        assert job["status"] == "FAILED"
        assert job["statusReason"].startswith("ECS was unable to assume the role")


def test_what_cannot_be_given_is_named(lab: JobLab) -> None:
    """Nothing is dropped in silence."""
    asked: dict[str, dict[str, Any]] = {
        "privileged": {"privileged": True},
        "devices": {"linuxParameters": {"devices": [{"hostPath": "/dev/fuse"}]}},
        "ulimits": {"ulimits": [{"name": "memlock", "softLimit": 1, "hardLimit": 1}]},
        "logDriver": {"logConfiguration": {"logDriver": "syslog"}},
    }
    for member, container in asked.items():
        job = lab.run("given", "echo hi", **container)
        assert (job["status"], job["statusReason"]) == ("FAILED", NOT_STARTED)
        assert member in job["container"]["reason"]


def test_an_image_that_cannot_be_had_is_told_as_ecs_tells_it(lab: JobLab) -> None:
    """BA5."""
    job = lab.run("no-image", "echo hi", image=f"{lab.image}-not")
    assert (job["status"], job["statusReason"]) == ("FAILED", NOT_STARTED)
    assert job["container"]["reason"].startswith("CannotPullContainerError: ")
    assert "exitCode" not in job["container"]


def test_an_image_for_another_architecture_is_told_as_such(lab: JobLab) -> None:
    """BA5."""
    local = lab.local
    local.ecr.create_repository(repositoryName="scar/other")
    local.push("scar/other", "latest", layer({"bin/busybox": busybox()}), architecture="s390x")
    job = lab.run("other", "echo hi", image=f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/scar/other")
    assert "exec format error" in job["container"]["reason"]
    assert "s390x" in job["container"]["reason"]


def test_too_much_memory_ends_the_job_and_says_so(lab: JobLab) -> None:
    """BA5."""
    job = lab.run("greedy", "dd if=/dev/zero of=/dev/null bs=200M count=9; echo never")
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 137)
    assert job["container"]["reason"] == OUT_OF_MEMORY


def test_overrides_that_are_too_long_for_ecs_fail_after_they_were_accepted(lab: JobLab) -> None:
    """BA2: 8,192 characters, Batch's own variables among them."""
    long = {"containerOverrides": {"environment": [{"name": "LONG", "value": "x" * 8192}]}}
    job = lab.run("long", "echo hi", submit=long)
    assert (job["status"], job["statusReason"]) == ("FAILED", TOO_LONG)
    fits = {"containerOverrides": {"environment": [{"name": "LONG", "value": "x" * 6144}]}}
    assert lab.output(lab.run("fits", "echo ${#LONG}", submit=fits)) == ["6144"]


def test_a_submission_of_30_kib_is_refused(lab: JobLab) -> None:
    """BA2: bytes as they were sent."""
    definition = lab.define("large", "echo hi")
    message = lab.refused(
        "SubmitJob", jobName="large", jobQueue="queue", jobDefinition=definition, parameters={"p": "x" * 30_720}
    )
    assert message.startswith("Error executing request, Exception : Job size must be less than 30 KiB, got 31 KiB")


def test_an_attempt_that_takes_too_long_is_ended_with_all_that_it_started(lab: JobLab) -> None:
    """BA9, LO9: SIGTERM, time to tidy up, and SIGKILL for whoever ignores it; not tried again."""
    mark = f"mark-{time.time_ns()}"
    stubborn = f"trap 'echo asked' TERM; (setsid sh -c ': {mark}; trap \"\" TERM; while :; do sleep 0.05; done') & while :; do sleep 0.05; done"
    job = lab.run("late", stubborn, more={"timeout": {"attemptDurationSeconds": 60}, "retryStrategy": {"attempts": 3}})
    assert (job["status"], job["statusReason"]) == ("FAILED", TIMED_OUT)
    assert job["container"]["exitCode"] == 137
    assert len(job["attempts"]) == 1
    assert lab.output(job) == ["asked"]
    assert processes(mark) == []


def test_a_job_that_is_terminated_has_time_for_its_last_words(lab: JobLab) -> None:
    job_id = lab.submit(lab.define("polite", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
    until(lambda: (job := lab.reach(job_id, "RUNNING")) and lab.output(job))
    lab.ask("TerminateJob", jobId=job_id, reason="please")
    job = lab.ended(job_id)
    assert (job["status"], job["statusReason"], job["isTerminated"]) == ("FAILED", "please", True)
    assert job["container"]["exitCode"] == 3
    assert lab.output(job) == ["up", "bye"]
