"""Compute environments of the local Batch live as AWS's do: what they become, what may be changed of them, when they may go."""

from __future__ import annotations

import pytest
from control_bench import EC2, FARGATE, Bench, Refused, World, changed, queue_of

OWN_ROLE = "arn:aws:iam::123456789012:role/batch"


@pytest.fixture
def batch(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def slow(tmp_path):
    return Bench(tmp_path, settle_s=5.0)


def status(bench, name="place"):
    found = bench.environment(name)
    return found and (found["state"], found["status"])


def test_an_environment_takes_its_time_to_become_valid_and_to_go(slow):
    slow("CreateComputeEnvironment", EC2)
    assert status(slow) == ("ENABLED", "CREATING")
    slow.now_s += 5
    assert status(slow) == ("ENABLED", "VALID")
    slow("UpdateComputeEnvironment", computeEnvironment="place", state="DISABLED")
    assert status(slow) == ("DISABLED", "UPDATING")
    slow.now_s += 5
    slow("DeleteComputeEnvironment", computeEnvironment="place")
    assert status(slow) == ("DISABLED", "DELETING")
    slow.now_s += 5
    assert slow.environment() is None


@pytest.mark.parametrize("operation", ["UpdateComputeEnvironment", "DeleteComputeEnvironment"])
def test_an_environment_that_is_changing_is_left_alone(slow, operation):
    slow("CreateComputeEnvironment", EC2)
    with pytest.raises(Refused, match="resource is being modified"):
        slow(operation, computeEnvironment="place")


@pytest.mark.parametrize("missing", ["machines", "subnet-b", "sg-a", "role/batch"])
def test_an_environment_whose_role_or_network_is_not_there_is_invalid_and_says_why(tmp_path, missing):  # BA10
    names = {"machines": EC2["computeResources"]["instanceRole"], "role/batch": OWN_ROLE}
    gone = names.get(missing, missing)
    bench = Bench(tmp_path, world=World({gone}))
    bench("CreateComputeEnvironment", EC2 | {"serviceRole": OWN_ROLE})
    found = bench.environment()
    assert found["status"] == "INVALID" and gone in found["statusReason"]
    with pytest.raises(Refused, match="must be created and valid"):
        bench("CreateJobQueue", queue_of("place"))
    bench.world.gone.clear()
    bench("UpdateComputeEnvironment", computeEnvironment="place", state="ENABLED")
    assert status(bench) == ("ENABLED", "VALID")


def test_an_invalid_environment_can_be_disabled_and_deleted(tmp_path):  # BA10
    bench = Bench(tmp_path, world=World({"subnet-a"}))
    bench("CreateComputeEnvironment", EC2)
    bench("UpdateComputeEnvironment", computeEnvironment="place", state="DISABLED")
    assert status(bench) == ("DISABLED", "INVALID")
    bench("DeleteComputeEnvironment", computeEnvironment="place")
    assert bench.environment() is None


def test_an_environment_cannot_go_without_the_role_that_takes_it_down(batch):
    batch("CreateComputeEnvironment", EC2 | {"serviceRole": OWN_ROLE})
    batch("UpdateComputeEnvironment", computeEnvironment="place", state="DISABLED")
    batch.world.gone.add(OWN_ROLE)
    batch("DeleteComputeEnvironment", computeEnvironment="place")
    assert status(batch) == ("DISABLED", "INVALID")
    batch.world.gone.clear()
    batch("DeleteComputeEnvironment", computeEnvironment="place")
    assert batch.environment() is None


@pytest.mark.parametrize("role", [OWN_ROLE, EC2["computeResources"]["instanceRole"]])
def test_an_environment_whose_role_goes_later_is_invalid_until_it_is_updated(slow, role):  # BA10
    slow("CreateComputeEnvironment", EC2 | {"serviceRole": OWN_ROLE})
    slow.now_s += 5
    slow.batch.changed({"s3", "iam"})
    slow.now_s += 5
    assert status(slow) == ("ENABLED", "VALID")
    slow.world.gone.add(role)
    slow.batch.changed({"iam"})
    slow.now_s += 5
    assert status(slow) == ("ENABLED", "INVALID") and role in slow.environment()["statusReason"]
    slow.world.gone.clear()
    slow.batch.changed({"iam"})
    slow.now_s += 5
    again = slow.restarted()
    assert status(again) == ("ENABLED", "INVALID")
    again("UpdateComputeEnvironment", computeEnvironment="place", state="ENABLED")
    again.now_s += 5
    assert status(again) == ("ENABLED", "VALID")


def test_a_name_is_taken_once(batch):
    batch("CreateComputeEnvironment", EC2)
    with pytest.raises(Refused, match="Object already exists"):
        batch("CreateComputeEnvironment", FARGATE)


def test_an_environment_goes_only_disabled_and_out_of_every_queue(batch):
    batch.make()
    with pytest.raises(Refused, match="must be in DISABLED state"):
        batch("DeleteComputeEnvironment", computeEnvironment="place")
    batch("UpdateComputeEnvironment", computeEnvironment="place", state="DISABLED")
    with pytest.raises(Refused, match="Cannot delete, found existing JobQueue relationship"):
        batch("DeleteComputeEnvironment", computeEnvironment="place")
    batch("UpdateJobQueue", jobQueue="line", state="DISABLED")
    batch("DeleteJobQueue", jobQueue="line")
    batch("DeleteComputeEnvironment", computeEnvironment="place")
    assert batch.environment() is None


@pytest.mark.parametrize("operation", ["UpdateComputeEnvironment", "DeleteComputeEnvironment"])
@pytest.mark.parametrize("name", ["none", "arn:aws:batch:us-east-1:123456789012:compute-environment/place"])
def test_what_is_not_in_this_region_does_not_exist(batch, operation, name):
    batch("CreateComputeEnvironment", EC2)
    with pytest.raises(Refused, match="does not exist"):
        batch(operation, computeEnvironment=name)


def test_scaling_is_changed_in_any_environment(batch):
    batch(
        "CreateComputeEnvironment", changed(EC2, {"serviceRole": OWN_ROLE, "computeResources.allocationStrategy": None})
    )
    batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"minvCpus": 2, "maxvCpus": 16})
    resources = batch.environment()["computeResources"]
    assert (resources["minvCpus"], resources["desiredvCpus"], resources["maxvCpus"]) == (2, 2, 16)
    assert resources["instanceTypes"] == EC2["computeResources"]["instanceTypes"]
    with pytest.raises(Refused, match="maxvCpus should be greater than or equal to minvCpus"):
        batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"maxvCpus": 1})


def test_machines_are_not_scaled_down_by_hand(batch):
    batch("CreateComputeEnvironment", changed(EC2, {"computeResources.desiredvCpus": 4}))
    with pytest.raises(Refused, match="Manually scaling down compute environment is not supported"):
        batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"desiredvCpus": 3})
    with pytest.raises(Refused, match="desiredvCpus should be between"):
        batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"desiredvCpus": 9})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"serviceRole": OWN_ROLE}, "requires the service-linked role"),
        ({"computeResources.allocationStrategy": None}, "not supported with the allocation strategy BEST_FIT"),
    ],
)
def test_infrastructure_is_changed_only_with_batchs_own_role_and_a_strategy_but_best_fit(batch, made, says):
    batch("CreateComputeEnvironment", changed(EC2, made))
    with pytest.raises(Refused, match=says):
        batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"subnets": ["subnet-c"]})
    assert batch.environment()["computeResources"]["subnets"] == ["subnet-a", "subnet-b"]
    batch(
        "UpdateComputeEnvironment", computeEnvironment="place", computeResources={"subnets": ["subnet-a", "subnet-b"]}
    )


def test_infrastructure_is_changed_member_by_member(batch):
    batch(
        "CreateComputeEnvironment", changed(EC2, {"computeResources.launchTemplate": {"launchTemplateName": "disks"}})
    )
    batch(
        "UpdateComputeEnvironment",
        computeEnvironment="place",
        computeResources={
            "type": "SPOT",
            "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
            "subnets": ["subnet-c"],
            "launchTemplate": {"launchTemplateName": ""},
            "updateToLatestImageVersion": True,
        },
        updatePolicy={"terminateJobsOnUpdate": True},
    )
    found = batch.environment()
    assert (found["computeResources"]["type"], found["computeResources"]["subnets"]) == ("SPOT", ["subnet-c"])
    assert (
        "launchTemplate" not in found["computeResources"]
        and "updateToLatestImageVersion" not in found["computeResources"]
    )
    assert found["updatePolicy"] == {"terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 30}
    with pytest.raises(Refused, match="arm-based"):
        batch(
            "UpdateComputeEnvironment", computeEnvironment="place", computeResources={"instanceTypes": ["m6i", "m6g"]}
        )


def test_an_environment_keeps_to_its_family_and_its_kind_of_role(batch):
    batch("CreateComputeEnvironment", EC2)
    with pytest.raises(Refused, match="can't be changed to Fargate"):
        batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources={"type": "FARGATE"})
    with pytest.raises(Refused, match="can't be changed to a regular IAM role"):
        batch("UpdateComputeEnvironment", computeEnvironment="place", serviceRole=OWN_ROLE)


def test_of_fargate_only_size_and_network_are_changed(batch):
    batch("CreateComputeEnvironment", FARGATE | {"serviceRole": OWN_ROLE})
    wanted = {"maxvCpus": 16, "subnets": ["subnet-c"], "securityGroupIds": []}
    batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources=wanted)
    resources = batch.environment()["computeResources"]
    assert (resources["maxvCpus"], resources["subnets"], resources["securityGroupIds"]) == (16, ["subnet-c"], ["sg-a"])
    assert not resources.keys() & {"desiredvCpus", "minvCpus", "ec2Configuration"}
    for refused in ({"type": "FARGATE_SPOT"}, {"minvCpus": 1}, {"instanceTypes": ["optimal"]}):
        with pytest.raises(Refused, match="is not applicable for Fargate"):
            batch("UpdateComputeEnvironment", computeEnvironment="place", computeResources=refused)


def test_all_are_found_page_by_page_and_each_by_name_or_arn(batch):
    arns = {}
    for name in ("c", "a", "b", "e", "d"):
        arns[name] = batch("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": name})["computeEnvironmentArn"]
    first = batch("DescribeComputeEnvironments", maxResults=2)
    batch("UpdateComputeEnvironment", computeEnvironment="b", state="DISABLED")
    batch("DeleteComputeEnvironment", computeEnvironment="b")  # the token survives that its name goes
    second = batch("DescribeComputeEnvironments", maxResults=2, nextToken=first["nextToken"])
    third = batch.restarted()("DescribeComputeEnvironments", maxResults=2, nextToken=second.get("nextToken"))
    seen = [[one["computeEnvironmentName"] for one in page["computeEnvironments"]] for page in (first, second)]
    assert (seen, "nextToken" in second, len(third["computeEnvironments"])) == ([["a", "b"], ["c", "d"]], True, 1)
    some = batch("DescribeComputeEnvironments", computeEnvironments=["d", arns["a"], "none", "d"])[
        "computeEnvironments"
    ]
    assert [one["computeEnvironmentName"] for one in some] == ["a", "d"]
    for wrong in (
        {"maxResults": 101},
        {"maxResults": -1},
        {"nextToken": "no token"},
        {"computeEnvironments": ["x"] * 101},
    ):
        with pytest.raises(Refused):
            batch("DescribeComputeEnvironments", wrong)


def test_the_51st_environment_of_a_region_is_refused(batch):
    for number in range(50):
        batch("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": f"place{number}"})
    with pytest.raises(Refused, match="at most 50"):
        batch("CreateComputeEnvironment", EC2)
