"""Job definitions of the local Batch: revisions, what is active, and that a description gives back what was registered."""

from __future__ import annotations

import pytest
from control_bench import ACCOUNT, NODES, ON_EC2, ON_FARGATE, REGION, Bench, Refused, changed


@pytest.fixture
def batch(tmp_path):
    return Bench(tmp_path)


def described(bench, **asked):
    return [
        (f"{one['jobDefinitionName']}:{one['revision']}", one["status"])
        for one in bench("DescribeJobDefinitions", asked)["jobDefinitions"]
    ]


@pytest.mark.parametrize("request_", [ON_EC2, ON_FARGATE, NODES], ids=["EC2", "Fargate", "nodes"])
def test_a_description_gives_back_what_was_registered(batch, request_):
    batch("RegisterJobDefinition", request_ | {"parameters": {"size": "1"}, "propagateTags": True, "tags": {"a": "b"}})
    (found,) = batch.restarted()("DescribeJobDefinitions", jobDefinitionName="job")["jobDefinitions"]
    for name, value in (request_ | {"parameters": {"size": "1"}, "propagateTags": True, "tags": {"a": "b"}}).items():
        if name == "containerProperties":
            assert found[name].items() >= value.items()
            assert found[name]["mountPoints"] == found[name]["secrets"] == []
        else:
            assert found[name] == value
    assert (found["status"], found["revision"], found["containerOrchestrationType"]) == ("ACTIVE", 1, "ECS")
    assert found["jobDefinitionArn"] == "arn:aws:batch:eu-west-1:123456789012:job-definition/job:1"


def test_each_registration_is_a_revision_and_the_latest_active_one_is_meant_by_a_name(batch):
    for number in (1, 2, 3):
        assert batch("RegisterJobDefinition", ON_EC2)["revision"] == number
    region = batch.batch.region(ACCOUNT, REGION)
    assert region.definition("job").revision == 3
    batch("DeregisterJobDefinition", jobDefinition="job:3")
    batch("DeregisterJobDefinition", jobDefinition="job:3")  # again is fine
    batch("DeregisterJobDefinition", jobDefinition=region.arn("job-definition/job:1"))
    assert region.definition("job").revision == region.definition(region.arn("job-definition/job")).revision == 2
    assert region.definition("job:3").active is False
    assert region.definition("arn:aws:batch:us-east-1:123456789012:job-definition/job:2") is None
    everything = [("job:1", "INACTIVE"), ("job:2", "ACTIVE"), ("job:3", "INACTIVE")]
    assert described(batch) == described(batch.restarted(), jobDefinitionName="job") == everything
    assert described(batch, status="ACTIVE") == [("job:2", "ACTIVE")]
    assert described(batch, jobDefinitions=["job:3", "job:9", "none"]) == [("job:3", "INACTIVE")]
    batch("DeregisterJobDefinition", jobDefinition="job:2")
    assert region.definition("job") is None
    assert batch("RegisterJobDefinition", ON_EC2)["revision"] == 4  # numbers are never given twice


@pytest.mark.parametrize("name", ["job", "job:2", "none:1", "job:0", "job:x"])
def test_only_a_revision_that_there_is_can_be_deregistered(batch, name):
    batch("RegisterJobDefinition", ON_EC2)
    with pytest.raises(Refused, match=r"does not exist|with its revision"):
        batch("DeregisterJobDefinition", jobDefinition=name)


def test_definitions_are_found_page_by_page_in_the_order_of_their_revisions(batch):
    for _ in range(11):
        batch("RegisterJobDefinition", ON_EC2)
    batch("RegisterJobDefinition", ON_EC2 | {"jobDefinitionName": "another"})
    found, token = [], None
    while token != "":
        page = batch("DescribeJobDefinitions", maxResults=5, nextToken=token)
        found += [(one["jobDefinitionName"], one["revision"]) for one in page["jobDefinitions"]]
        token = page.get("nextToken", "")
    assert found == [("another", 1), *(("job", number) for number in range(1, 12))]


def test_names_and_a_filter_are_not_for_one_question(batch):
    with pytest.raises(Refused, match="can't be used with"):
        batch("DescribeJobDefinitions", jobDefinitions=["a:1"], status="ACTIVE")
    with pytest.raises(Refused, match="is not valid"):
        batch("DescribeJobDefinitions", status="GONE")


def test_an_action_of_a_retry_strategy_may_be_in_any_case(batch):
    request = changed(ON_EC2, {"retryStrategy.evaluateOnExit": [{"onExitCode": "1*", "action": "retry"}]})
    batch("RegisterJobDefinition", request)
    (found,) = batch("DescribeJobDefinitions")["jobDefinitions"]
    assert found["retryStrategy"]["evaluateOnExit"][0]["action"] == "retry"


def test_the_deprecated_members_are_taken_on_ec2(batch):
    request = changed(
        ON_EC2,
        {
            "containerProperties.vcpus": 2,
            "containerProperties.memory": 128,
            "containerProperties.resourceRequirements": None,
        },
    )
    assert batch("RegisterJobDefinition", request)["revision"] == 1


TASK = {
    "containers": [
        {"name": "down", "essential": False, **ON_EC2["containerProperties"]},
        {
            "name": "main",
            "dependsOn": [{"containerName": "down", "condition": "SUCCESS"}],
            **ON_EC2["containerProperties"],
        },
    ]
}
SEVERAL = {"jobDefinitionName": "job", "type": "container", "ecsProperties": {"taskProperties": [TASK]}}


def test_a_task_of_several_containers_is_registered(batch):
    assert batch("RegisterJobDefinition", SEVERAL)["revision"] == 1
    quarter = [{"type": "VCPU", "value": "0.125"}, {"type": "MEMORY", "value": "256"}]
    on_fargate = {
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecs",
        "containers": [one | {"resourceRequirements": quarter} for one in TASK["containers"]],
    }
    request = SEVERAL | {"platformCapabilities": ["FARGATE"], "ecsProperties": {"taskProperties": [on_fargate]}}
    assert batch("RegisterJobDefinition", request)["revision"] == 2  # the pair is the task's


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"containers.0.essential": True}, "can't be used with an essential container"),
        ({"containers.1.essential": False}, "at least one essential container"),
        ({"containers.1.name": "down"}, "must be unique"),
        ({"containers.1.dependsOn.0.containerName": "main"}, "no other container"),
        ({"containers.1.dependsOn.0.condition": "HEALTHY"}, "START, COMPLETE, SUCCESS"),
        ({"containers.1.resourceRequirements": []}, "vCPU is not provided"),
        ({"ipcMode": "guest"}, "ipcMode must be one of"),
    ],
)
def test_a_task_that_could_not_run_is_refused(batch, changes, says):
    with pytest.raises(Refused, match=says):
        batch("RegisterJobDefinition", SEVERAL | {"ecsProperties": {"taskProperties": [changed(TASK, changes)]}})
