"""A function joins a network and mounts a file system: what AWS is asked for, what is read back, and how both are left again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber

from scar.aws import names
from scar.aws.clients import Access, Aws
from scar.aws.resources.code import ImageCode
from scar.aws.resources.function import JoinedNetwork, LambdaFunction
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.role import Role
from scar.design import Site, design
from scar.fdl.model import FileSystem, Vpc
from tests.support.account import ACCOUNT, Account, FakeClock, FakeImage, batch_function, function
from tests.support.deploying import init, plan_init

ACCESS_POINT = f"arn:aws:elasticfilesystem:eu-west-1:{ACCOUNT}:access-point/fsap-0123456789abcdef0"
VPC = Vpc(subnet_ids=("subnet-1a2b3c4d", "subnet-0a2b3c4d"), security_group_ids=("sg-1a2b3c4d",))
SHARED = FileSystem(arn=ACCESS_POINT, local_mount_path="/mnt/shared", file_system_id="fs-0123456789abcdef0")
SITE = Site(ACCOUNT, "eu-west-1")
IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/scar/f@sha256:{'0' * 64}"
SENT_NETWORK = {
    "SubnetIds": ["subnet-0a2b3c4d", "subnet-1a2b3c4d"],
    "SecurityGroupIds": ["sg-1a2b3c4d"],
    "Ipv6AllowedForDualStack": False,
}
SENT_FILES = [{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/shared"}]


def one(kind: type[Any], fn: Any) -> Any:
    (found,) = (each for each in design(fn, SITE, FakeImage()) if isinstance(each, kind))
    return found


def statements(fn: Any, name: str) -> dict[str, Any]:
    (role,) = (each for each in design(fn, SITE, FakeImage()) if isinstance(each, Role) and each.name == name)
    return {each["Sid"]: each for each in json.loads(role.policy)["Statement"]}


def aws() -> Aws:
    made = Aws(Access("eu-west-1", access_key="testing", secret_key="testing"), FakeClock())
    made.__dict__["account"] = ACCOUNT
    return made


def answer(fn: LambdaFunction, **more: Any) -> dict[str, Any]:
    """What GetFunction says of a function that is as wanted."""
    return {
        "Configuration": {
            "FunctionArn": fn.arn,
            "Role": fn.role_arn,
            "MemorySize": fn.memory_mib,
            "Timeout": fn.timeout_s,
            "PackageType": "Image",
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "Environment": {"Variables": dict(fn.environment)},
            **more,
        },
        "Code": {"ImageUri": IMAGE},
        "Tags": {**dict(fn.tags), "scar:version": "1"},
    }


def test_a_function_is_made_in_its_network_with_its_file_system_and_read_back_so() -> None:
    wanted = replace(one(LambdaFunction, function(vpc=VPC, file_system=(SHARED,))), code=ImageCode(IMAGE))
    client = aws()
    with Stubber(client.lambda_) as lambda_:
        sent: list[dict[str, Any]] = []
        client.lambda_.meta.events.register(
            "provide-client-params.lambda.CreateFunction", lambda params, **_: sent.append(params)
        )
        lambda_.add_response("create_function", {"State": "Active", "LastUpdateStatus": "Successful"})
        wanted.create(client)
        lambda_.add_response("get_function", answer(wanted, VpcConfig=SENT_NETWORK, FileSystemConfigs=SENT_FILES))
        assert wanted.read(client) == wanted
    assert (sent[0]["VpcConfig"], sent[0]["FileSystemConfigs"]) == (SENT_NETWORK, SENT_FILES)


def test_what_a_function_leaves_is_said_and_what_it_never_had_is_not() -> None:
    placed = replace(one(LambdaFunction, function(vpc=VPC, file_system=(SHARED,))), code=ImageCode(IMAGE))
    alone = replace(placed, network=JoinedNetwork(), files=())
    client, sent = aws(), []
    client.lambda_.meta.events.register(
        "provide-client-params.lambda.UpdateFunctionConfiguration", lambda params, **_: sent.append(params)
    )
    for actual in (placed, replace(alone, memory_mib=128)):
        with Stubber(client.lambda_) as lambda_:
            lambda_.add_response("update_function_configuration", {})
            lambda_.add_response("get_function", answer(alone))
            alone.update(client, actual)
    left, other = sent
    assert left["VpcConfig"] == {"SubnetIds": [], "SecurityGroupIds": []}
    assert left["FileSystemConfigs"] == []
    assert not {"VpcConfig", "FileSystemConfigs"} & other.keys()


def test_a_network_is_planned_made_and_left_again(acct: Account) -> None:
    init(acct.aws, function(vpc=VPC))
    assert not plan_init(acct.aws, function(vpc=VPC))
    (step,) = plan_init(acct.aws, function(vpc=replace(VPC, subnet_ids=("subnet-1a2b3c4d",)))).steps
    assert "subnets: -subnet-0a2b3c4d" in str(step)
    init(acct.aws, function())
    assert not plan_init(acct.aws, function())


def test_the_role_may_join_the_network_and_the_functions_code_may_not_touch_it() -> None:
    made = statements(function(vpc=VPC, file_system=(SHARED,)), names.role("grayify", "eu-west-1"))
    assert {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"} <= set(made["JoinNetwork"]["Action"])
    assert made["NotTheCode"]["Action"] == made["JoinNetwork"]["Action"]
    assert made["NotTheCode"]["Condition"]["ArnEquals"] == {
        "lambda:SourceFunctionArn": [f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:grayify"]
    }
    assert made["MountFiles"]["Resource"] == [
        f"arn:aws:elasticfilesystem:eu-west-1:{ACCOUNT}:file-system/fs-0123456789abcdef0"
    ]
    assert not {"JoinNetwork", "MountFiles"} & statements(function(), names.role("grayify", "eu-west-1")).keys()


@pytest.mark.parametrize("known", [True, False])
def test_jobs_mount_the_file_system_at_the_same_path_when_they_know_which_it_is(known: bool) -> None:
    shared = SHARED if known else replace(SHARED, file_system_id=None)
    fn = batch_function(mode="batch", vpc=VPC, file_system=(shared,))
    container = json.loads(one(JobDefinition, fn).request)["containerProperties"]
    if not known:
        assert not {"volumes", "mountPoints"} & container.keys()
        return
    (volume,), (point,) = container["volumes"], container["mountPoints"]
    assert point == {"sourceVolume": volume["name"], "containerPath": "/mnt/shared"}
    efs = volume["efsVolumeConfiguration"]
    assert efs["fileSystemId"] == "fs-0123456789abcdef0"
    assert efs["authorizationConfig"] == {"accessPointId": "fsap-0123456789abcdef0", "iam": "ENABLED"}
    assert "MountFiles" in statements(fn, names.job_role("grayify", "eu-west-1"))
