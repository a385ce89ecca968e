"""SCAR on AWS Batch: what is required of it, one statement a test, each with what must not happen. Real commands, real containers."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from faassupervisor import contract, hops
from tests.e2e.batch.world import ENDED, World, function
from tests.e2e.conftest import until
from tests.support.fault_proxy import Alter


def script(*lines: str, size: int = 0) -> str:
    """A script of so many bytes: what it says, behind a comment that fills it up."""
    text = "#!/usr/bin/env python3\nimport os\n" + "\n".join(lines) + "\n"
    filling = "# " + "x" * 997 + "\n"
    text += filling * ((size - len(text)) // len(filling))
    return text + "#" * max(0, size - len(text))


def test_t1_01(world: World) -> None:
    """Without `execution_mode` a function runs in Lambda, and nothing of Batch carries its tag."""
    world.put("light", "t1-01")
    until("the output", lambda: world.output("light", "t1-01") == "lambda")
    made = [
        *world.batch.describe_compute_environments()["computeEnvironments"],
        *world.batch.describe_job_queues()["jobQueues"],
        *world.batch.describe_job_definitions()["jobDefinitions"],
    ]
    carried = {one["tags"]["scar:function"] for one in made}
    assert "light" not in carried
    assert {"both", "heavy", "chain-2"} <= carried  # the tag is there where it should be


def test_t1_02(world: World) -> None:
    """lambda-batch: what is short makes no job; what is long makes one, with the same event, and its output appears once."""
    key = world.put("both", "t1-02-short", sleep=0.1)
    until("the output", lambda: world.output("both", "t1-02-short") == "lambda")
    assert world.jobs("both", key) == []
    world.hidden("both", "t1-02-long", sleep=3.3)  # of 7 seconds 4 are kept back
    event = world.event("both", "aside/t1-02-long.json")
    answer, failed = world.invoke("both", event)
    assert failed is None
    assert answer["runs"][0]["job_id"]
    assert world.published("both", "t1-02-long") == 0  # nothing of the half that Lambda made
    job = world.job("both", "aside/t1-02-long.json")
    assert job["jobId"] == answer["runs"][0]["job_id"]
    assert json.loads(world.event_of(job)) == json.loads(event)
    assert job["status"] == "SUCCEEDED"
    assert world.output("both", "t1-02-long") == "batch"
    assert world.published("both", "t1-02-long") == 1


def test_t1_03(world: World) -> None:
    """batch: Lambda only submits, in well under five seconds; one job a record; the script never starts there."""
    keys = [world.hidden("heavy", f"t1-03-{n}") for n in (1, 2)]
    answer, failed = world.invoke("heavy", world.event("heavy", *keys))
    assert failed is None
    assert len({run["job_id"] for run in answer["runs"]}) == 2
    for n, key in enumerate(keys, 1):
        assert world.job("heavy", key)["status"] == "SUCCEEDED"
        assert world.output("heavy", f"t1-03-{n}") == "batch"
    lines = world.lines("heavy")
    assert not [line for line in lines if line.endswith("in lambda")]
    reports = [line for line in lines if line.startswith("REPORT")]
    assert reports
    assert all(float(line.partition("Duration: ")[2].split()[0]) < 5000 for line in reports)


def test_t1_04(world: World) -> None:
    """The same script and input give the same bytes, environment and working directory in every mode and on both legs."""
    for name, mark in (("light", ""), ("both", ""), ("heavy", "")):
        world.put(name, f"t1-04{mark}", facts=True)
    world.put("both", "t1-04-late", facts=True, sleep_lambda=30)
    until("all outputs", lambda: all(world.output(*one) for one in _FACTS))
    seen = [json.loads(world.output(*one) or "") for one in _FACTS]
    told = seen[0]["environment"]
    assert told["INPUT_FILE_PATH"] == "t1-04.json"
    assert told["TMP_OUTPUT_DIR"] == "a folder"
    for one in seen:
        one["environment"].pop("INPUT_FILE_PATH")
        one["environment"].pop("STORAGE_OBJECT_KEY")
        one.pop("user")  # Lambda has one of its own, whatever the image says
    for one in seen[1:]:
        assert one == seen[0]
    assert contract.TASK not in told
    assert contract.STATE not in told


_FACTS = [("light", "t1-04"), ("both", "t1-04"), ("heavy", "t1-04"), ("both", "t1-04-late")]


def test_t1_05(world: World) -> None:
    """No configuration file is needed; one of SCAR 4 is read as it is, its unknown keys are told, `{account_id}` is the account's."""
    every = world.local.must("config", "-o", "json").json
    assert {row["origin"] for row in every if row["key"].startswith("aws.")} == {"default"}
    assert {row["key"]: row["value"] for row in every}["aws.batch.compute_resources.max_v_cpus"] == 2
    machines = {
        "type": "EC2",
        "desired_v_cpus": 0,
        "min_v_cpus": 0,
        "max_v_cpus": 4,
        "instance_types": ["m3.medium"],
        "subnets": [],
        "security_group_ids": [],
        "launch_template_name": "faas-supervisor",
        "instance_role": "arn:aws:iam::{account_id}:instance-profile/ecsInstanceRole",
    }
    batch = {
        "boto_profile": "default",
        "region": "us-east-1",
        "vcpus": 2,
        "memory": 2048,
        "enable_gpu": False,
        "state": "ENABLED",
        "type": "MANAGED",
        "service_role": "arn:aws:iam::{account_id}:role/service-role/AWSBatchServiceRole",
        "environment": {"Variables": {"FROM_CFG": "1"}},
        "multi_node_parallel": {"enabled": False, "number_nodes": 10, "main_node_index": 0},
        "compute_resources": machines,
    }
    lambda_ = {
        "invocation_type": "RequestResponse",
        "log_type": "Tail",
        "supervisor": {"version": "latest"},
        "memmory": 1,
    }
    role(world, "AWSBatchServiceRole", "batch", path="/service-role/")
    role(world, "ecsInstanceRole", "ec2", profile=True)
    folder = world.folder / "configured"
    folder.mkdir()
    written = json.dumps({"scar": {"config_version": "1.1.0"}, "aws": {"lambda": lambda_, "batch": batch}})
    (folder / "scar.cfg").write_text(written)
    world.write("t1-05.yaml", {"lambda": function("t1-05", "batch")["lambda"]})
    since = len(world.proxy.requests)
    done = world.scar_by_proxy("init", "-f", "t1-05.yaml", SCAR_CONFIG_FOLDER=str(folder))
    sent = {call.operation: call.json for call in world.proxy.requests[since:] if call.service == "batch" and call.body}
    environment = sent["CreateComputeEnvironment"]
    assert environment["serviceRole"] == "arn:aws:iam::123456789012:role/service-role/AWSBatchServiceRole"
    assert (
        environment["computeResources"]["instanceRole"] == "arn:aws:iam::123456789012:instance-profile/ecsInstanceRole"
    )
    assert environment["computeResources"]["maxvCpus"] == 4
    assert done.code == 0, done
    assert "memmory" in done.err
    assert "memory" in done.err.partition("Did you mean")[2]
    assert (folder / "scar.cfg").read_text() == written
    assert world.scar_by_proxy("rm", "-n", "t1-05").code == 0


def test_t1_06(world: World) -> None:
    """Empty subnets and security groups are the default VPC's, and the plan says so; without one it is an error and nothing is made."""
    world.write("t1-06.yaml", function("t1-06", "batch"))
    plan = world.local.must("plan", "-f", "t1-06.yaml")
    assert "default VPC" in " ".join(plan.out.split())
    region = "eu-west-3"
    ec2 = _client(world, "ec2", region)
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    for subnet in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc)
    since = len(world.proxy.requests)
    refused = world.scar_by_proxy("init", "-f", "t1-06.yaml", AWS_REGION=region)
    assert refused.code == 2, refused
    assert "t1-06.yaml:1:" in refused.err
    assert "compute_resources.subnets" in refused.err
    assert world.writes(since) == []


def _client(world: World, service: str, region: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=world.local.url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def role(world: World, name: str, service: str, *, path: str = "/", profile: bool = False) -> None:
    """A role that `service` may take on, with an instance profile of the same name."""
    iam = world.local.client("iam")
    who = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [who]})
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=trust)
    if profile:
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def test_t1_07(world: World) -> None:
    """Each key of the section reaches its field of the request; vCPUs and memory go into `resourceRequirements`."""
    ec2 = world.local.client("ec2")
    role(world, "t1-07-service", "batch")
    role(world, "t1-07-machine", "ec2", profile=True)
    ec2.create_launch_template(LaunchTemplateName="t1-07", LaunchTemplateData={"EbsOptimized": True})
    profile = "arn:aws:iam::123456789012:instance-profile/t1-07-machine"
    service_role = "arn:aws:iam::123456789012:role/t1-07-service"
    batch = {
        "state": "DISABLED",
        "type": "MANAGED",
        "vcpus": 3,
        "memory": 777,
        "enable_gpu": True,
        "service_role": service_role,
        "environment": {"Variables": {"MINE": "a ü"}},
        "compute_resources": {
            "type": "EC2",
            "min_v_cpus": 0,
            "desired_v_cpus": 4,
            "max_v_cpus": 16,
            "instance_types": ["g5.2xlarge"],
            "instance_role": profile,
            "launch_template_name": "t1-07",
        },
    }
    world.write("t1-07.yaml", function("t1-07", "batch", batch=batch))
    since = len(world.proxy.requests)
    done = world.scar_by_proxy("init", "-f", "t1-07.yaml")
    assert done.code == 0, done
    sent = {call.operation: call.json for call in world.proxy.requests[since:] if call.service == "batch" and call.body}
    environment = sent["CreateComputeEnvironment"]
    assert (environment["state"], environment["type"], environment["serviceRole"]) == (
        "DISABLED",
        "MANAGED",
        service_role,
    )
    resources = environment["computeResources"]
    assert (resources["minvCpus"], resources["desiredvCpus"], resources["maxvCpus"]) == (0, 4, 16)
    assert resources["instanceTypes"] == ["g5.2xlarge"]
    assert resources["instanceRole"] == profile
    assert resources["launchTemplate"]["launchTemplateName"] == "t1-07"
    definition = sent["RegisterJobDefinition"]["containerProperties"]
    required = {one["type"]: one["value"] for one in definition["resourceRequirements"]}
    assert required == {"VCPU": "3", "MEMORY": "777", "GPU": "1"}
    assert {"name": "MINE", "value": "a ü"} in definition["environment"]
    assert not {"vcpus", "memory"} & definition.keys()  # the deprecated fields
    world.local.must("rm", "-n", "t1-07")


def test_t1_09(world: World) -> None:
    """`init_script` runs on the payload; one that is missing is exit code 2, at its place, before any call."""
    key = world.put("light", "t1-09", text="by the script")
    until("the output", lambda: world.output("light", "t1-09") == "by the script")
    until("its log", lambda: f"{key.rpartition('/')[2]} ended in lambda" in world.lines("light"))
    world.write("t1-09.yaml", function("t1-09", init_script="no-such-script.py"))
    before = len(world.proxy.requests)
    refused = world.scar_by_proxy("init", "-f", "t1-09.yaml")
    assert refused.code == 2
    assert "t1-09.yaml:1:" in refused.err and "no-such-script.py" in refused.err and "init_script" in refused.err
    assert len(world.proxy.requests) == before


def test_t1_10(world: World) -> None:
    """`scar put` to the bucket itself only uploads; into the input folder it starts a run."""
    (world.folder / "script.sh").write_text("not a picture")
    (world.folder / "daisy.json").write_text("{}")
    world.local.must("put", "-b", "bucket-light", "-p", "script.sh")
    world.local.must("put", "-b", "bucket-light/in", "-p", "daisy.json")
    until("the output", lambda: world.output("light", "daisy") == "lambda")
    assert "script.sh" in world.local.keys("bucket-light")
    runs = [line for line in world.lines("light") if " began in " in line]
    assert "daisy.json began in lambda" in runs
    assert not [line for line in runs if line.startswith("script.sh")]


def test_t1_11(world: World) -> None:
    """A large script needs no public object: the job reads it by its own role; who has no credentials reads nothing."""
    (world.folder / "t1-11.py").write_text(
        script("print(sorted(name for name in os.environ if 'KEY' in name))", size=100_000)
    )
    ran = world.local.must("run", "-n", "heavy", "-s", "t1-11.py", "--wait")
    assert "AWS_ACCESS_KEY_ID" not in ran.out
    bucket = "scar-state-123456789012-us-east-1"
    blocked = world.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}
    spilled = world.local.keys(bucket, "functions/heavy/spill/")
    assert spilled
    grants = world.s3.get_object_acl(Bucket=bucket, Key=spilled[0])["Grants"]
    assert not [grant for grant in grants if grant["Grantee"].get("URI")]  # nobody but the owner
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{world.local.url}/{bucket}/{spilled[0]}", timeout=5)
    assert refused.value.code == 403
    role = world.batch.describe_job_definitions(
        status="ACTIVE", jobDefinitionName=world.jobs("heavy")[-1]["jobDefinition"].rpartition("/")[2].partition(":")[0]
    )
    arn = role["jobDefinitions"][0]["containerProperties"]["jobRoleArn"]
    policies = world.local.client("iam").list_role_policies(RoleName=arn.rpartition("/")[2])["PolicyNames"]
    told = json.dumps(
        [
            world.local.client("iam").get_role_policy(RoleName=arn.rpartition("/")[2], PolicyName=one)["PolicyDocument"]
            for one in policies
        ]
    )
    assert f"{bucket}/functions/heavy/*" in told


def test_t1_12(world: World) -> None:
    """A second init changes nothing; waiting is bounded; an INVALID environment ends init with AWS's reason."""
    since = len(world.proxy.requests)
    again = world.scar_by_proxy("init", "-f", "world.yaml")
    assert again.code == 0
    assert world.writes(since) == []
    assert "unchanged" in again.out + again.err
    world.write("t1-12.yaml", function("t1-12", "batch"))
    environments = functools.partial(world.proxy.add, "batch", "DescribeComputeEnvironments", times=None)
    of_ours = {"where": lambda call: b"scar-t1-12" in call.body}
    environments(Alter(functools.partial(with_status, "CREATING", "")), **of_ours)
    started = time.monotonic()
    bounded = world.scar_by_proxy("init", "-f", "t1-12.yaml", "--wait-timeout", "2")
    assert bounded.code == 124, bounded
    assert time.monotonic() - started < 30
    world.proxy.rules.clear()
    reason = "CLIENT_ERROR - the instance type is not there"
    environments(Alter(functools.partial(with_status, "INVALID", reason)), **of_ours)
    invalid = world.scar_by_proxy("init", "-f", "t1-12.yaml")
    assert invalid.code == 1, invalid
    assert reason in invalid.err
    world.proxy.rules.clear()
    assert world.scar_by_proxy("rm", "-n", "t1-12").code == 0


def with_status(status: str, reason: str, answer: Any) -> Any:
    """What DescribeComputeEnvironments answers, with another status."""
    changed = [{**one, "status": status, "statusReason": reason} for one in answer["computeEnvironments"]]
    return {**answer, "computeEnvironments": changed}


def test_t1_13(world: World) -> None:
    """`scar log` shows what Lambda and what the job wrote, in the order of time, for a run that succeeded and one that failed."""
    asked = []
    for name, code in (("t1-13-good", 0), ("t1-13-bad", 7)):
        key = world.hidden("both", name, sleep_lambda=30, exit=code)
        asked.append((name, code, key, world.deliver("both", world.event("both", key))))
    for name, code, key, request_id in asked:
        job = world.job("both", key)
        assert job["container"]["exitCode"] == code
        for wanted in (request_id, job["jobId"]):
            told = world.local.must("log", "-n", "both", "-ri", wanted).out
            order = [told.index(f"{name}.json began in {where}") for where in ("lambda", "batch")]
            assert order == sorted(order)
            assert f"{name}.json ended in batch" in told
            assert job["status"] in told
    every = world.local.must("log", "-n", "both", "-o", "json").documents
    times = [line["time"] for line in every]
    assert times == sorted(times)
    assert {"t1-13-good.json ended in batch", "t1-13-bad.json ended in batch"} <= {line["message"] for line in every}
    assert (
        "t1-13-bad.json"
        not in world.local.must("log", "-n", "both", "-ri", world.job("both", "aside/t1-13-good.json")["jobId"]).out
    )


def test_t1_14(world: World) -> None:
    """vCPUs rise with the jobs that wait, and fall to `min_v_cpus` after them."""

    def vcpus() -> int:
        (one,) = world.batch.describe_compute_environments(computeEnvironments=["scar-heavy"])["computeEnvironments"]
        return int(one["computeResources"]["desiredvCpus"])

    until("no machine", lambda: vcpus() == 0)
    for n in range(2):
        world.put("heavy", f"t1-14-{n}", sleep=1)
    most = []
    until("the jobs", lambda: most.append(vcpus()) or max(most) >= 1)
    until("all outputs", lambda: all(world.output("heavy", f"t1-14-{n}") for n in range(2)))
    until("no machine again", lambda: vcpus() == 0)
    assert max(most) == 1  # never above max_v_cpus


def test_t1_15(world: World) -> None:
    """Lambda, then Batch, then Lambda: the output of one is the input of the next, byte for byte, each once."""
    body = os.urandom(100_000) + "ü €".encode()
    world.s3.put_object(Bucket="chain", Key="1/a b+c.bin", Body=body)
    expected = body
    for where in (b"lambda", b"batch", b"lambda"):
        expected += b"\n" + where + b" " + hashlib.sha256(expected).hexdigest().encode()
    until("the end of the chain", lambda: world.local.keys("chain", "4/"))
    assert world.s3.get_object(Bucket="chain", Key="4/a b+c.bin")["Body"].read() == expected
    assert len(world.jobs("chain-2")) == 1
    for step in "234":
        assert len(world.s3.list_object_versions(Bucket="chain", Prefix=f"{step}/")["Versions"]) == 1


def test_t1_16(world: World) -> None:
    """Scripts of 1 KB, 25 KB, 200 KB and 5 MB run in every mode; what was tampered with does not."""
    sizes = (1_000, 25_000, 200_000, 5_000_000)
    for size in sizes:
        (world.folder / f"t1-16-{size}.py").write_text(script("print('it ran:', os.path.getsize(__file__))", size=size))

    def runs(name: str, size: int) -> None:
        done = world.local.must("run", "-n", name, "-s", f"t1-16-{size}.py", "--wait")
        assert f"it ran: {size}" in done.out + done.err

    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(runs, name, size) for size in sizes for name in ("light", "both", "heavy")]:
            one.result()
    # what lies where a reference points to is not what was sent: in Lambda, and in a job that waits
    reference = contract.Reference(
        "s3://scar-state-123456789012-us-east-1/functions/light/spill/" + "0" * 64, 2, "0" * 64
    )
    world.s3.put_object(Bucket="scar-state-123456789012-us-east-1", Key="functions/light/spill/" + "0" * 64, Body=b"{}")
    answer, failed = world.invoke("light", reference.to_payload())
    assert failed
    assert "checksum mismatch" in answer["errorMessage"]
    blocker = world.put("heavy", "t1-16-blocker", sleep=3)
    world.jobs_when("heavy", blocker, lambda jobs: jobs and jobs[0]["status"] == "RUNNING")
    (world.folder / "t1-16-tampered.py").write_text(script("print('it must not run')", size=50_000))
    launched = world.local.must("run", "-n", "heavy", "-s", "t1-16-tampered.py", "-o", "json").json
    job_id = launched["runs"][0]["job_id"]
    task = world.task(world.described(job_id)[0])
    assert task.reference is not None
    bucket, _, place = task.reference.uri.removeprefix("s3://").partition("/")
    body = world.s3.get_object(Bucket=bucket, Key=place)["Body"].read()
    world.s3.put_object(Bucket=bucket, Key=place, Body=body[:-1] + bytes([body[-1] ^ 1]))
    until("its end", lambda: world.described(job_id)[0]["status"] in ENDED)
    assert world.described(job_id)[0]["status"] == "FAILED"
    told = world.local.must("log", "-n", "heavy", "-ri", job_id).out
    assert "checksum mismatch" in told
    assert "it must not run" not in told


def test_t1_17(world: World) -> None:
    """What is too large for a call is found before the call, and `plan --sizes` tells each number."""
    (told,) = world.local.must("plan", "-f", "world.yaml", "-n", "heavy", "--sizes", "-o", "json").json["sizes"]
    assert {row["hop"]: row["limit"] for row in told["hops"]} == {hop.name: hop.limit for hop in hops.HOPS}
    taken = {row["hop"]: row["taken"] for row in told["hops"]}
    assert 0 < taken["job definition"] < hops.JOB_DEFINITION.limit
    table = world.local.must("plan", "-f", "world.yaml", "-n", "heavy", "--sizes").out
    assert all(str(hop.limit) in table.replace(",", "") for hop in hops.HOPS)
    event = world.folder / "t1-17.json"
    for flags, limit in ((("--no-spill",), hops.SYNC_INVOKE.limit), (("-a", "--no-spill"), hops.ASYNC_INVOKE.limit)):
        event.write_text(json.dumps({"x": "y" * limit}))
        since = len(world.proxy.requests)
        refused = world.scar_by_proxy("run", "-n", "heavy", "-e", "t1-17.json", *flags)
        assert refused.code == 5, refused
        assert str(limit) in refused.err.replace(",", "")
        assert not [call for call in world.proxy.requests[since:] if call.operation == "Invoke"]
    large = {"environment": {"Variables": {"LARGE": "x" * hops.JOB_DEFINITION.limit}}}
    world.write("t1-17.yaml", function("t1-17", "batch", batch=large))
    since = len(world.proxy.requests)
    refused = world.scar_by_proxy("init", "-f", "t1-17.yaml")
    assert refused.code == 2, refused
    assert "job definition" in refused.err
    assert world.writes(since) == []
    # an event for a job that is larger than what one may be told goes by reference, or, where that is switched off, is one clear failure
    key = world.hidden("heavy", "t1-17")
    record = json.loads(world.event("heavy", key))
    record["Records"][0]["about"] = "z" * hops.SUBMIT_JOB.limit
    answer, failed = world.invoke("heavy", json.dumps(record).encode())
    assert failed is None, answer
    assert world.job("heavy", key)["status"] == "SUCCEEDED"
    assert len(world.jobs("heavy", key)) == 1


def test_t1_24(world: World) -> None:
    """What a key is made of reaches the script as it is, in every mode, also through a job's environment and event."""
    odd = """t1-24 a+b%41 ünï 日本 'q' "d" $HOME $(id) `id` back\\slash * -rf\nline"""
    for name in ("light", "both", "heavy"):
        world.put(name, odd, facts=True, sleep_lambda=30 if name == "both" else 0)

    def told(name: str) -> list[dict[str, Any]]:
        found = world.local.keys(f"bucket-{name}", "out/t1-24 ")
        bodies = [world.s3.get_object(Bucket=f"bucket-{name}", Key=key)["Body"].read() for key in found]
        return [json.loads(body)["environment"] for body in bodies]

    until("all outputs", lambda: all(told(name) for name in ("light", "both", "heavy")))
    for name in ("light", "both", "heavy"):
        (seen,) = told(name)
        assert seen["STORAGE_OBJECT_KEY"] == f"in/{odd}.json"
        assert seen["INPUT_FILE_PATH"] == f"{odd}.json"
    (job,) = world.jobs("both", "t1-24")
    assert job["status"] in {"RUNNING", "SUCCEEDED"}


def gang(name: str, nodes: dict[str, object], **batch: object) -> dict[str, Any]:
    """A function whose jobs take several nodes, each of which runs the script."""
    places = {"multi_node_parallel": {"script_on_workers": True, **nodes}, **batch}
    return function(name, "batch", batch=places, init_script="gang.py")


def test_t1_19(world: World) -> None:
    """Nodes are told in both spellings (from scar.cfg: `scar/fdl/test_configuration.py`); a main node that is none of them is refused, before any call."""
    for spelling, index, code in (("enable", 2, 0), ("enabled", 3, 2)):
        world.write("t1-19.yaml", gang("t1-19", {spelling: True, "number_nodes": 3, "main_node_index": index}))
        (world.folder / "gang.py").write_text(script("pass"))
        checked = world.scar("validate", "-f", "t1-19.yaml")
        assert checked.code == code, checked
        assert code == 0 or "main_node_index" in checked.err


def test_t1_20(world: World) -> None:
    """Three containers at once with AWS's variables; the main node's exit code is the job's; each node's status and log are shown."""
    names = [
        f"AWS_BATCH_JOB_{name}"
        for name in ("NODE_INDEX", "NUM_NODES", "MAIN_NODE_INDEX", "MAIN_NODE_PRIVATE_IPV4_ADDRESS")
    ]
    said = f"print('told', *(os.environ.get(name, 'unset') for name in {names}), os.environ['INSTANCE_IP'], flush=True)"
    # The main node's script does not end before the others' have spoken: with it they are stopped.
    met = """
import socket, time
if os.environ['SCAR_NODE_INDEX'] == '1':
    with socket.create_server(('', 5777)) as door:
        [door.accept() for _ in range(2)]
    raise SystemExit(7)
while True:
    try:
        socket.create_connection((os.environ['SCAR_MAIN_HOST'], 5777)).recv(1)
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
"""
    (world.folder / "gang.py").write_text(script(said, met))
    world.deploy("t1-20.yaml", gang("t1-20", {"enabled": True, "number_nodes": 3, "main_node_index": 1}))
    ran = world.local.scar("run", "-n", "t1-20", "--wait")
    assert ran.code == 7, ran
    (job,) = world.local.must("jobs", "-n", "t1-20", "-o", "json").json
    until("all nodes' ends", lambda: {node["status"] for node in shown(world, job["id"])["nodes"]} <= ENDED)
    whole = shown(world, job["id"])
    assert (whole["status"], whole["exit_code"]) == ("FAILED", 7)
    assert [node["main"] for node in whole["nodes"]] == [False, True, False]
    told = [log_line(world, job["id"], index, "told") for index in range(3)]  # their ends are told after their lines
    addresses = [words[-1] for words in told]
    assert len(set(addresses)) == 3
    assert [words[1:4] for words in told] == [["0", "3", "1"], ["1", "3", "1"], ["2", "3", "1"]]
    assert [words[4] for words in told] == [addresses[1], "unset", addresses[1]]


def shown(world: World, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = world.local.must("jobs", job_id, "-o", "json").json
    return told


def log_line(world: World, job_id: str, node: int, first: str) -> list[str]:
    """The one line of a node's log that begins with a word, word by word."""
    lines = [line["message"] for line in world.local.must("log", job_id, "--node", str(node), "-o", "json").documents]
    (found,) = [line.split() for line in lines if line.startswith(first)]
    return found


def test_t1_22(world: World) -> None:
    """What AWS gives several nodes no machines of is refused with AWS's rule (a placement group in several zones: `e2e/test_plan.py`)."""
    (world.folder / "gang.py").write_text(script("pass"))
    for resources in ({"type": "SPOT"}, {"type": "FARGATE"}, {"type": "FARGATE_SPOT"}, {"manage": "UNMANAGED"}):
        body = gang("t1-22", {"enabled": True, "number_nodes": 2}, compute_resources=resources)
        if "manage" in resources:
            body["batch"] |= {"compute_resources": {}, "type": "UNMANAGED"}
        world.write("t1-22.yaml", body)
        refused = world.scar("validate", "-f", "t1-22.yaml")
        assert refused.code == 2, (resources, refused)
        assert "AWS Batch user guide, mnp-ce" in refused.err, refused.err
