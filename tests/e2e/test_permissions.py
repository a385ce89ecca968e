"""Least privilege, proven: functions run with exactly the roles that `init` makes, made by a user with exactly the policy that `scar iam --operator`
prints; and what happens without each action of them is told by name.

One local AWS that enforces IAM, four functions, and policies that are edited in place.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from scar.local.iam.evaluate import Asked, Principal, decide
from tests.e2e.conftest import Done, Local, until
from tests.e2e.test_zip_functions import SHOUT, glibc_archive
from tests.support.fault_proxy import FaultProxy, Lose

ACCOUNT, REGION = "123456789012", "us-east-1"
COPY = """#!/usr/bin/env python3
import os, pathlib, sys, time
source = pathlib.Path(os.environ.get("INPUT_FILE_PATH", "/dev/null"))
text = source.read_text()
if text.startswith("late") and "AWS_BATCH_JOB_ID" not in os.environ:
    time.sleep(60)
if text.startswith("die"):
    sys.exit(3)
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], source.name + ".out").write_text(text)
print("copied", source.name, flush=True)
"""
LEAVE = """#!/usr/bin/env python3
import os, pathlib
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "left.txt").write_text("something")
"""
FILES = {"one": "lambda", "both": "lambda-batch", "heavy": "batch"}


@dataclass
class World:
    """`owner` is the account's root; `operator` runs commands as a user with the operator's policy and nothing else."""

    local: Local
    owner: Callable[[str], Any]
    keys: dict[str, str]
    policy: dict[str, Any]
    proxy: FaultProxy  # between `heavy` and Batch

    def scar(self, *words: str) -> Done:
        """As the operator, against what is AWS to it: an endpoint and keys."""
        environ = {**self.local.environ, **self.keys, "AWS_ENDPOINT_URL": self.local.url, "AWS_REGION": REGION}
        done = subprocess.run(
            [sys.executable, "-m", "scar", *words],
            capture_output=True, text=True, cwd=self.local.folder, env=environ, timeout=180, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def calls(self) -> list[dict[str, Any]]:
        """What was asked of IAM so far."""
        import urllib.request

        with urllib.request.urlopen(f"{self.local.url}/_scar/iam") as answer:
            found: list[dict[str, Any]] = json.load(answer)["calls"]
        return found

    def put(self, name: str, key: str, text: str) -> str:
        """An object that starts nothing by itself, as the account's owner; answers its version."""
        answer = self.owner("s3").put_object(Bucket=f"bucket-{name}", Key=f"in/{key}", Body=text.encode())
        return str(answer["VersionId"]) if "VersionId" in answer else ""

    def run(self, name: str, key: str, version: str = "") -> str:
        """One synchronous run for an object; the answer as text."""
        held: dict[str, Any] = {"key": f"in/{key}", **({"versionId": version} if version else {})}
        record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "awsRegion": REGION}
        event = {"Records": [{**record, "s3": {"bucket": {"name": f"bucket-{name}"}, "object": held}}]}
        answer = self.owner("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
        return ("failed: " if "FunctionError" in answer else "") + answer["Payload"].read().decode()

    @contextmanager
    def without(self, role: str, action: str) -> Iterator[None]:
        """`role` loses one action, for as long as it takes."""
        iam = self.owner("iam")
        whole = iam.get_role_policy(RoleName=role, PolicyName="scar")["PolicyDocument"]
        less = [{**one, "Action": [name for name in one["Action"] if name != action]} for one in whole["Statement"]]
        assert less != whole["Statement"], f"{role} has no {action}"
        document = {**whole, "Statement": [one for one in less if one["Action"]]}
        iam.put_role_policy(RoleName=role, PolicyName="scar", PolicyDocument=json.dumps(document))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=role, PolicyName="scar", PolicyDocument=json.dumps(whole))

    def job(self, key: str) -> dict[str, Any]:
        """The job that an object became, when it has ended."""
        batch, found = self.owner("batch"), {}
        before = {one["jobId"] for one in self._jobs()}
        assert "failed" not in self.run("heavy", key)

        def ended() -> bool:
            new = [one["jobId"] for one in self._jobs() if one["jobId"] not in before]
            if new:
                found.update(batch.describe_jobs(jobs=new[:1])["jobs"][0])
            return found.get("status") in {"SUCCEEDED", "FAILED"}

        until("the job", ended, 30)
        return found

    def _jobs(self) -> list[dict[str, Any]]:
        pages = (
            self.owner("batch")
            .get_paginator("list_jobs")
            .paginate(jobQueue="scar-shared-proof", filters=[{"name": "JOB_NAME", "values": ["*"]}])
        )
        return [job for page in pages for job in page["jobSummaryList"]]


def definition(name: str, mode: str) -> dict[str, Any]:
    body = {
        "name": name, "memory": 512, "timeout": 6, "init_script": "script.py", "execution_mode": mode,
        "container": {"image": "scratch", "timeout_threshold": 4},
        "input": [{"path": f"bucket-{name}/in"}], "output": [{"path": f"bucket-{name}/out"}],
    }  # fmt: skip
    shared = {"vcpus": 1, "memory": 256, "shared": "proof", "compute_resources": {"max_v_cpus": 4}}
    return {"lambda": body, **({"batch": shared} if mode != "lambda" else {})}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base: Path = tmp_path_factory.mktemp("permissions")
    (base / "work").mkdir()
    local = Local(base / "work", base / "state")
    try:
        local.must("local", "up", "--iam")
        with FaultProxy(local.url) as proxy:
            yield made(local, proxy)
    finally:
        local.scar("local", "down")


def made(local: Local, proxy: FaultProxy) -> World:
    (local.folder / "script.py").write_text(COPY)
    glibc_archive(local.folder / "glibc.tar")
    (local.folder / "packed.script").write_text(SHOUT)
    packed = {
        "name": "packed", "memory": 512, "timeout": 60, "init_script": "packed.script", "runtime": "python3.13",
        "container": {"image_file": "glibc.tar"}, "deployment": {"bucket": "bucket-code"},
        "input": [{"path": "bucket-packed/in"}], "output": [{"path": "bucket-packed/out"}],
    }  # fmt: skip
    (local.folder / "leave.py").write_text(LEAVE)
    web = {
        "lambda": {
            "name": "web", "memory": 512, "timeout": 20, "init_script": "leave.py", "container": {"image": "scratch"},
            "output": [{"storage_provider": "minio.lab", "path": "results/out"}],
        },
        "api_gateway": {"name": "web"},
        "function_url": {"auth": "iam"},
    }  # fmt: skip
    lab = {"minio": {"lab": {"access_key": "made-up-key", "secret_key": "made up", "endpoint": "http://127.0.0.1:9"}}}
    files = {name: definition(name, mode) for name, mode in FILES.items()}
    files["heavy"]["lambda"]["environment"] = {"Variables": {"AWS_ENDPOINT_URL_BATCH": proxy.endpoint}}
    functions = [*files.values(), {"lambda": packed}, web]
    document = {"functions": {"aws": functions}, "storage_providers": lab}
    (local.folder / "all.yaml").write_text(json.dumps(document))
    parts = []
    while True:
        words = ("iam", "--operator", "-f", "all.yaml", "--account", ACCOUNT, "--region", REGION)
        done = local.scar(*words, "--part", str(len(parts) + 1))
        if done.code:
            break
        parts.append(done.json)
    url = local.url

    def owner(service: str) -> Any:
        return boto3.client(service, REGION, endpoint_url=url, aws_access_key_id="local", aws_secret_access_key="local")

    iam = owner("iam")
    iam.create_user(UserName="operator")
    for number, part in enumerate(parts):
        arn = iam.create_policy(PolicyName=f"operator-{number}", PolicyDocument=json.dumps(part))["Policy"]["Arn"]
        iam.attach_user_policy(UserName="operator", PolicyArn=arn)
    key = iam.create_access_key(UserName="operator")["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    policy = {**parts[0], "Statement": [one for part in parts for one in part["Statement"]]}
    world = World(local, owner, keys, policy, proxy)
    done = world.scar("init", "-f", "all.yaml")
    assert done.code == 0, done.err
    for name in ("one", "heavy"):  # their runs are started one at a time
        owner("s3").put_bucket_notification_configuration(Bucket=f"bucket-{name}", NotificationConfiguration={})
    owner("s3").put_bucket_versioning(Bucket="bucket-one", VersioningConfiguration={"Status": "Enabled"})
    return world


def test_a_deployment_by_exactly_the_operators_policy_runs(world: World) -> None:
    """SE2: init has passed as the operator; so do the files that start runs, and every command that looks at them."""
    (world.local.folder / "late.txt").write_text("late")
    (world.local.folder / "word.txt").write_text("quiet")
    for name, file in (("both", "late.txt"), ("packed", "word.txt")):
        done = world.scar("put", "-b", f"bucket-{name}/in", "-p", file)
        assert done.code == 0, done.err
    until("the job's output", lambda: world.local.keys("bucket-both", "out/"), 60)
    until("the zip function's output", lambda: world.local.keys("bucket-packed", "out/"), 60)
    looks = (("ls",), ("log", "-n", "both"), ("jobs", "-n", "both"), ("get", "-b", "bucket-both/out", "-p", "fetched"))
    for words in looks:
        done = world.scar(*words)
        assert done.code == 0, (words, done.err)
    assert [path.read_text() for path in world.local.folder.glob("fetched/**/*.out")] == ["late"]


@pytest.mark.parametrize(
    ("action", "key", "complaint"),
    [
        ("s3:GetObject", "plain", "s3://bucket-one/in/plain cannot be read"),
        ("s3:GetObjectVersion", "versioned", "s3://bucket-one/in/versioned cannot be read"),
        ("s3:PutObject", "written", "s3://bucket-one/out/written.out"),
    ],
)
def test_a_function_without_one_action_fails_by_name(world: World, action: str, key: str, complaint: str) -> None:
    """SE1, T1-11: and with all of them it does not."""
    version = world.put("one", key, "text")
    asked = version if action.endswith("Version") else ""
    with world.without("scar-one-us-east-1", action):
        answer = world.run("one", key, asked)
    assert "failed" in answer
    assert complaint in answer
    assert "denied" in answer.lower()
    answer = world.run("one", key, asked)
    assert "failed" not in answer, answer


def test_a_function_that_may_not_read_its_state_cannot_take_a_large_event(world: World) -> None:
    """SE1: OwnState, s3:GetObject."""
    (world.local.folder / "large.json").write_text(json.dumps({"x": "y" * 6_500_000}))
    with world.without("scar-one-us-east-1", "s3:GetObject"):
        done = world.local.scar("run", "-n", "one", "-e", "large.json")
    assert done.code != 0
    assert "AccessDenied" in done.err + done.out


@pytest.mark.parametrize(("action", "timeout_s"), [("logs:CreateLogStream", 7), ("logs:PutLogEvents", 8)])
def test_a_function_that_may_not_log_runs_and_leaves_no_word(world: World, action: str, timeout_s: int) -> None:
    """SE1: Lambda writes the log as the function."""
    world.put("one", "logged", "text")
    logs, group = world.owner("logs"), "/aws/lambda/one"
    with world.without("scar-one-us-east-1", action):
        known = {stream["logStreamName"] for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]}
        # Another configuration is another sandbox, and that another log stream. What the old one still says on its way out is no matter.
        world.owner("lambda").update_function_configuration(FunctionName="one", Timeout=timeout_s)
        until("the change", lambda: _settled(world.owner("lambda"), "one"))
        assert "failed" not in world.run("one", "logged")
        time.sleep(0.5)  # lines come within a fifth of a second
        events = logs.filter_log_events(logGroupName=group)["events"]
    assert known
    assert [line["message"] for line in events if line["logStreamName"] not in known] == []


def _settled(client: Any, name: str) -> bool:
    return bool(client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful")


def test_an_endpoint_is_called_by_leave_and_so_is_the_run_behind_it(world: World) -> None:
    """SE1: AnswerAtOnce. SE2: execute-api:Invoke, by the operator's signature."""
    done = world.scar("invoke", "-n", "web", "-a")
    assert done.code == 0, done.err
    with world.without("scar-web-us-east-1", "lambda:InvokeFunction"):
        done = world.scar("invoke", "-n", "web", "-a")
    assert done.code != 0
    assert "nothing of it has run" in done.err  # whoever calls is not told why; whoever may read the log is
    assert any("its role needs lambda:InvokeFunction" in line for line in world.local.log("web"))


def test_credentials_of_storage_are_read_by_leave(world: World) -> None:
    """SE1: ReadCredentials."""
    with world.without("scar-web-us-east-1", "ssm:GetParameter"):
        # another configuration is another sandbox, whose agent has read nothing yet
        world.owner("lambda").update_function_configuration(FunctionName="web", Timeout=21)
        until("the change", lambda: _settled(world.owner("lambda"), "web"))
        answer = world.owner("lambda").invoke(FunctionName="web", Payload=b"{}")
    said = answer["Payload"].read().decode()
    assert "FunctionError" in answer
    assert "/scar/web/minio.lab" in said
    assert "denied" in said.lower()


def test_a_zip_function_that_may_not_read_its_code_cannot_start(world: World) -> None:
    """SE1: OwnCode."""
    iam = world.owner("iam")
    policy = iam.get_role_policy(RoleName="scar-packed-us-east-1", PolicyName="scar")["PolicyDocument"]
    code = [one["Resource"] for one in policy["Statement"] if one["Sid"] == "OwnCode"]
    assert code == [[f"arn:aws:s3:::bucket-code/scar-code/{ACCOUNT}/packed/*"]]
    less = {**policy, "Statement": [one for one in policy["Statement"] if one["Sid"] != "OwnCode"]}
    iam.put_role_policy(RoleName="scar-packed-us-east-1", PolicyName="scar", PolicyDocument=json.dumps(less))
    try:
        world.owner("lambda").update_function_configuration(FunctionName="packed", Timeout=50)
        until("the change", lambda: _settled(world.owner("lambda"), "packed"))
        world.put("packed", "again", "text")
        answer = world.run("packed", "again")
    finally:
        iam.put_role_policy(RoleName="scar-packed-us-east-1", PolicyName="scar", PolicyDocument=json.dumps(policy))
    assert "failed" in answer
    assert "denied" in answer.lower()


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ("batch:SubmitJob", "batch:SubmitJob"),
        ("s3:PutObject", "needs s3:GetObject and s3:PutObject"),
    ],
)
def test_a_function_that_may_not_hand_over_says_what_it_lacks(world: World, action: str, complaint: str) -> None:
    """SE1: SubmitJobs, OwnState."""
    world.put("heavy", f"no-{action[-9:]}", "text")
    with world.without("scar-heavy-us-east-1", action):
        answer = world.run("heavy", f"no-{action[-9:]}")
    assert "failed" in answer
    assert complaint in answer


def test_a_function_that_may_not_look_for_a_job_does_not_submit_it_twice(world: World) -> None:
    """SE1: FindJobs. The answers to SubmitJob are lost, so that only a list tells whether there is a job."""
    for key in ("doubtful", "found"):
        world.put("heavy", key, "text")
        world.proxy.add("batch", "SubmitJob", Lose(), times=1)
    with world.without("scar-heavy-us-east-1", "batch:ListJobs"):
        answer = world.run("heavy", "doubtful")
    assert "failed" in answer
    assert "batch:ListJobs" in answer
    answer = world.run("heavy", "found")
    assert "failed" not in answer, answer
    for key in (b"doubtful", b"found"):
        assert len([call for call in world.proxy.calls("batch", "SubmitJob") if key in call.body]) == 1


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_a_job_without_one_action_fails(world: World, action: str) -> None:
    """SE1: the job's role. It reads its input and the ledger, and writes its output and the ledger."""
    key = f"job-{action[3:6].lower()}"
    world.put("heavy", key, "text")
    with world.without("scar-heavy.job-us-east-1", action):
        job = world.job(key)
    assert (job["status"], job["container"].get("exitCode")) == ("FAILED", 1)
    assert f"out/{key}.out" not in world.local.keys("bucket-heavy", "out/")


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ("ecr:GetAuthorizationToken", "CannotPullContainerError"),
        ("ecr:BatchCheckLayerAvailability", "CannotPullContainerError"),
        ("ecr:BatchGetImage", "CannotPullContainerError"),
        ("ecr:GetDownloadUrlForLayer", "CannotPullContainerError"),
        ("logs:CreateLogStream", "failed to create Cloudwatch log stream"),
    ],
)
def test_ecs_without_one_action_does_not_start_a_job(world: World, action: str, complaint: str) -> None:
    """SE1: the execution role. A job of no task would fail in its program; here it does not come to that."""
    batch = world.owner("batch")
    definition = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    (revision,) = [one["jobDefinitionArn"] for one in definition if one["jobDefinitionName"].startswith("scar-heavy-")]
    with world.without("scar-heavy.ecs-us-east-1", action):
        job = batch.submit_job(jobName="alone", jobQueue="scar-shared-proof", jobDefinition=revision)["jobId"]
        until("its end", lambda: batch.describe_jobs(jobs=[job])["jobs"][0]["status"] == "FAILED", 30)
    attempt = batch.describe_jobs(jobs=[job])["jobs"][0]["attempts"][0]
    assert complaint in attempt["container"]["reason"]
    assert action in attempt["container"]["reason"]


def test_what_lambda_gives_up_on_is_told_only_by_leave(world: World) -> None:
    """SE1: OwnFailures."""
    world.put("both", "die", "die")
    iam = world.owner("iam")
    assert "OwnFailures" in str(iam.get_role_policy(RoleName="scar-both-us-east-1", PolicyName="scar"))
    with world.without("scar-both-us-east-1", "events:PutEvents"):
        event = {
            "Records": [
                {
                    "eventSource": "aws:s3",
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "bucket-both"}, "object": {"key": "in/die"}},
                }
            ]
        }
        world.owner("lambda").invoke(FunctionName="both", InvocationType="Event", Payload=json.dumps(event).encode())
        said = "is not authorized to perform: events:PutEvents"
        until("the refusal", lambda: said in world.local.must("local", "logs", "-l", "300").out, 30)


def test_each_action_of_the_operators_policy_is_needed_by_a_call_that_was_made(world: World) -> None:
    """SE2, by the recorded calls: without the action one of them is denied; and with the policy none is."""
    done = world.scar("rm", "-f", "all.yaml", "-y", "--stop-jobs")
    assert done.code == 0, done.err
    arn = f"arn:aws:iam::{ACCOUNT}:user/operator"
    calls = {(call["action"], call["resource"]) for call in world.calls() if call["principal"] == arn}
    denied = {
        (call["action"], call["resource"]) for call in world.calls() if call["principal"] == arn and not call["allowed"]
    }
    assert denied == set()
    made = {action for action, _ in calls}
    granted = {action for one in world.policy["Statement"] for action in one["Action"]}
    assert made <= granted
    for action in sorted(granted & made):
        less = {
            **world.policy,
            "Statement": [
                {**one, "Action": [name for name in one["Action"] if name != action]}
                for one in world.policy["Statement"]
            ],
        }
        principal = Principal(arn, ACCOUNT, arn, (less,))
        assert any(not decide(principal, Asked(name, resource)).allowed for name, resource in calls if name == action)
    # What is granted and was not asked for here is for changes and for other kinds of functions: tests/scar/design/test_operator holds each to a call.
    assert len(made) > 80
