"""The exact requests about Batch (T1-07), and Batch's answers that no local one gives: late, INVALID, refused for a role it does not know yet."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from scar.aws import errors
from scar.aws.clients import Access, Aws
from scar.aws.resources.compute_environment import ComputeEnvironment
from scar.aws.resources.invoke_config import InvokeConfig
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.job_queue import JobQueue, TimeLimit
from scar.aws.resources.machines import Machines
from scar.errors import ConflictError, NotFoundError, ScarError, ServiceError, TimedOutError
from tests.support.account import ACCOUNT, FakeClock

ARN = f"arn:aws:batch:eu-west-1:{ACCOUNT}:compute-environment/scar-f"
PROFILE = f"arn:aws:iam::{ACCOUNT}:instance-profile/scar-f"
TAGS = (("createdby", "scar"), ("scar:function", "f"))
WRITTEN = {"createdby": "scar", "scar:function": "f", "scar:version": metadata.version("scar")}
EC2 = Machines(
    "EC2", "BEST_FIT_PROGRESSIVE", 0, 4, 0, ("c7i", "m7i"), ("subnet-1", "subnet-2"), ("sg-1",), PROFILE, None
)
FARGATE = Machines("FARGATE", None, 0, 4, 0, subnets=("subnet-1",), security_groups=("sg-1",))
ENVIRONMENT = ComputeEnvironment(
    name="scar-f",
    function="f",
    shared=None,
    managed=True,
    state="ENABLED",
    service_role=None,
    resources=EC2,
    tags=TAGS,
)
CREATE = {
    "computeEnvironmentName": "scar-f",
    "type": "MANAGED",
    "state": "ENABLED",
    "tags": WRITTEN,
    "computeResources": {
        "type": "EC2",
        "allocationStrategy": "BEST_FIT_PROGRESSIVE",
        "minvCpus": 0,
        "maxvCpus": 4,
        "desiredvCpus": 0,
        "instanceTypes": ["c7i", "m7i"],
        "subnets": ["subnet-1", "subnet-2"],
        "securityGroupIds": ["sg-1"],
        "instanceRole": PROFILE,
    },
}
QUEUE = JobQueue(
    name="scar-f",
    function="f",
    shared=None,
    environment="scar-f",
    state="ENABLED",
    tags=TAGS,
    priority=3,
    time_limits=(TimeLimit("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 600),),
)
ASK = {"computeEnvironments": ["scar-f"]}
NAMED = {"computeEnvironment": "scar-f"}
NO_PROFILE = "CLIENT_ERROR - Invalid IamInstanceProfile: scar-f"


def _aws(*, patience_s: float = 600.0) -> Aws:
    aws = Aws(Access("eu-west-1", access_key="testing", secret_key="testing"), FakeClock(), patience_s=patience_s)
    aws.__dict__.update(account=ACCOUNT, batch=_clients().batch, lambda_=_clients().lambda_)
    return aws


@cache
def _clients() -> Aws:
    """They are what takes time to make."""
    return Aws(Access("eu-west-1", access_key="testing", secret_key="testing"))


def _slept(aws: Aws) -> float:
    assert isinstance(aws.clock, FakeClock)
    return sum(aws.clock.slept)


def _found(status: str = "VALID", **more: Any) -> dict[str, Any]:
    described = {**CREATE, "computeEnvironmentArn": ARN, "status": status, **more}
    return {"computeEnvironments": [described]}


NONE: dict[str, Any] = {"computeEnvironments": []}
# What beside ENVIRONMENT, and what CreateComputeEnvironment is sent for it.
MADE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "EC2": ({}, {}),
    "SPOT with a launch template": (
        {"resources": replace(EC2, type="SPOT", min_vcpus=2, desired_vcpus=3, launch_template="theirs")},
        {
            "computeResources": {
                **CREATE["computeResources"],  # type: ignore[dict-item]
                "type": "SPOT",
                "minvCpus": 2,
                "desiredvCpus": 3,
                "launchTemplate": {"launchTemplateName": "theirs"},
            }
        },
    ),
    "a launch template by its id": (
        {"resources": replace(EC2, launch_template="lt-1")},
        {"computeResources": {**CREATE["computeResources"], "launchTemplate": {"launchTemplateId": "lt-1"}}},  # type: ignore[dict-item]
    ),
    "near each other": (
        {"resources": replace(EC2, placement_group="close")},
        {"computeResources": {**CREATE["computeResources"], "placementGroup": "close"}},  # type: ignore[dict-item]
    ),
    "FARGATE": (
        {"resources": FARGATE},
        {
            "computeResources": {
                "type": "FARGATE",
                "maxvCpus": 4,
                "subnets": ["subnet-1"],
                "securityGroupIds": ["sg-1"],
            }
        },
    ),
    "disabled, with a service role": (
        {"state": "DISABLED", "service_role": "theirs"},
        {"state": "DISABLED", "serviceRole": "theirs"},
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_a_compute_environment_is_asked_for_and_waited_for(name: str) -> None:
    given, sent = MADE[name]
    aws = _aws()
    with Stubber(aws.batch) as batch:
        batch.add_response("create_compute_environment", {}, {**CREATE, **sent})
        batch.add_response("describe_compute_environments", NONE, ASK)  # not yet shown
        batch.add_response("describe_compute_environments", _found("CREATING"), ASK)
        batch.add_response("describe_compute_environments", _found(), ASK)
        replace(ENVIRONMENT, **given).create(aws)
        batch.assert_no_pending_responses()
    assert 0 < _slept(aws) < 2


def test_an_unmanaged_one_has_no_machines_of_ours() -> None:
    aws = _aws()
    wanted = {key: value for key, value in CREATE.items() if key != "computeResources"}
    with Stubber(aws.batch) as batch:
        batch.add_response("create_compute_environment", {}, {**wanted, "type": "UNMANAGED", "serviceRole": "theirs"})
        batch.add_response("describe_compute_environments", _found(), ASK)
        replace(ENVIRONMENT, managed=False, resources=None, service_role="theirs").create(aws)


# What AWS has where EC2 is wanted, and what UpdateComputeEnvironment is sent beside the name.
POLICY = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 360}
CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "numbers": ({"max_vcpus": 2}, {"computeResources": {"maxvCpus": 4}}),
    "machines": (
        {"subnets": ("subnet-9",), "instance_types": ("m5",)},
        {
            "computeResources": {"instanceTypes": ["c7i", "m7i"], "subnets": ["subnet-1", "subnet-2"]},
            "updatePolicy": POLICY,
        },
    ),
    "no launch template any more": (
        {"launch_template": "old"},
        {"computeResources": {"launchTemplate": {"launchTemplateName": ""}}, "updatePolicy": POLICY},
    ),
    "not near each other any more": (
        {"placement_group": "close"},
        {"computeResources": {"placementGroup": ""}, "updatePolicy": POLICY},
    ),
    "another type": ({"type": "SPOT"}, {"computeResources": {"type": "EC2"}, "updatePolicy": POLICY}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_sends_what_differs_and_nothing_else(name: str) -> None:
    there, sent = CHANGED[name]
    aws = _aws()
    with Stubber(aws.batch) as batch:
        batch.add_client_error(
            "update_compute_environment", "ClientException", "Cannot update, resource is being modified"
        )
        batch.add_response("update_compute_environment", {}, {**NAMED, "state": "ENABLED", **sent})
        batch.add_response("describe_compute_environments", _found("UPDATING"), ASK)
        batch.add_response("describe_compute_environments", _found(), ASK)
        ENVIRONMENT.update(aws, replace(ENVIRONMENT, resources=replace(EC2, **there)))
        batch.assert_no_pending_responses()


def test_machines_that_are_replaced_only_as_their_jobs_end_are_not_waited_for() -> None:
    aws = _aws()
    with Stubber(aws.batch) as batch:
        batch.add_response("update_compute_environment", {})
        for _ in range(30):
            batch.add_response("describe_compute_environments", _found("UPDATING"))
        ENVIRONMENT.update(aws, replace(ENVIRONMENT, resources=replace(EC2, subnets=("subnet-9",))))
    assert 60 <= _slept(aws) < 66


def test_an_invalid_environment_that_cannot_be_changed_is_made_anew() -> None:
    """BA10."""
    aws = _aws()
    with Stubber(aws.batch) as batch:
        batch.add_client_error("update_compute_environment", "ClientException", "Cannot update an INVALID environment")
        batch.add_response("describe_compute_environments", _found("INVALID"))
        _add_removal(batch)
        batch.add_response("create_compute_environment", {}, CREATE)
        batch.add_response("describe_compute_environments", _found())
        ENVIRONMENT.update(aws, replace(ENVIRONMENT, status="INVALID"))
        batch.assert_no_pending_responses()


def test_a_higher_minimum_raises_what_is_desired_and_nothing_ever_lowers_it() -> None:
    wanted = replace(EC2, min_vcpus=3)
    assert wanted.update_of(EC2) == {"minvCpus": 3, "desiredvCpus": 3}
    assert wanted.update_of(replace(EC2, desired_vcpus=4)) == {"minvCpus": 3}


NEVER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"resources": FARGATE}, {"resources": replace(FARGATE, type="FARGATE_SPOT")}, "never becomes one of type FARGATE_SPOT"),
    ({"managed": False, "resources": None}, {}, "never becomes"),
    ({"service_role": "a"}, {}, "its own service role|own service role"),
    (
        {"resources": replace(EC2, allocation_strategy="BEST_FIT")},
        {"resources": replace(EC2, allocation_strategy="BEST_FIT", subnets=("subnet-9",))},
        r"BEST_FIT Batch changes nothing but .* \(subnets\)",
    ),
    ({"service_role": "a"}, {"service_role": "a", "resources": replace(EC2, instance_types=("m5",))}, "service role of one's own"),
]  # fmt: skip


@pytest.mark.parametrize(("there", "wanted", "says"), NEVER, ids=[says[:20] for _, _, says in NEVER])
def test_what_aws_never_changes_is_a_conflict_before_anything_is_sent(
    there: dict[str, Any], wanted: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConflictError, match=says) as caught:
        replace(ENVIRONMENT, **wanted).update(_aws(), replace(ENVIRONMENT, **there))
    assert "scar rm -n f" in str(caught.value)


def test_numbers_change_under_any_strategy_and_role() -> None:
    there = replace(EC2, allocation_strategy="BEST_FIT")
    assert replace(there, max_vcpus=9).never_becomes(there, custom_role=True) is None


SAME: list[tuple[dict[str, Any], Machines]] = [
    ({"subnets": ["subnet-2", "subnet-1"], "instanceTypes": ["m7i", "c7i"]}, EC2),
    ({"instanceTypes": ["default_x86_64"]}, replace(EC2, instance_types=("optimal",))),
    ({"instanceRole": "scar-f"}, EC2),
    ({"desiredvCpus": 3}, EC2),
    (
        {"launchTemplate": {"launchTemplateId": "lt-1", "launchTemplateName": "theirs", "version": "$Default"}},
        replace(EC2, launch_template="theirs"),
    ),
]


@pytest.mark.parametrize(("described", "wanted"), SAME)
def test_what_means_the_same_is_no_difference(described: dict[str, Any], wanted: Machines) -> None:
    found: dict[str, Any] = {**CREATE["computeResources"], **described}  # type: ignore[dict-item]
    assert Machines.of(found, wanted) == wanted


def test_batchs_own_service_role_is_none_of_ones_own() -> None:
    aws = _aws()
    linked = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
    with Stubber(aws.batch) as batch:
        batch.add_response("describe_compute_environments", _found(serviceRole=linked), ASK)
        assert ENVIRONMENT.read(aws) == ENVIRONMENT


def test_a_role_that_batch_does_not_know_yet_is_asked_for_again() -> None:
    """BA11, refused at once."""
    aws = _aws()
    with Stubber(aws.batch) as batch:
        for _ in range(2):
            batch.add_client_error(
                "create_compute_environment", "ClientException", "The role scar-f cannot be assumed", expected_params=CREATE
            )  # fmt: skip
        batch.add_response("create_compute_environment", {}, CREATE)
        batch.add_response("describe_compute_environments", _found())
        ENVIRONMENT.create(aws)
        batch.assert_no_pending_responses()


def _add_removal(batch: Stubber) -> None:
    """Of an environment that is INVALID and stays so while it is disabled."""
    batch.add_response("update_compute_environment", {}, {**NAMED, "state": "DISABLED"})
    batch.add_response("describe_compute_environments", _found("INVALID", state="DISABLED"))
    batch.add_response("delete_compute_environment", {}, NAMED)
    batch.add_response("describe_compute_environments", _found("DELETING"))
    batch.add_response("describe_compute_environments", NONE)


def test_an_environment_that_a_new_profile_made_invalid_is_made_again() -> None:
    """BA11, found out afterwards."""
    aws = _aws()
    with Stubber(aws.batch) as batch:
        batch.add_response("create_compute_environment", {}, CREATE)
        batch.add_response("describe_compute_environments", _found("INVALID", statusReason=NO_PROFILE))
        _add_removal(batch)
        batch.add_response("create_compute_environment", {}, CREATE)
        batch.add_response("describe_compute_environments", _found())
        ENVIRONMENT.create(aws)
        batch.assert_no_pending_responses()


def test_a_profile_that_batch_never_comes_to_know_is_given_up_on_with_its_reason() -> None:
    """BA11, beyond the stated time."""
    aws = _aws()
    with Stubber(aws.batch) as batch:
        for _ in range(100):
            batch.add_response("create_compute_environment", {}, CREATE)
            batch.add_response("describe_compute_environments", _found("INVALID", statusReason=NO_PROFILE))
            _add_removal(batch)
        with pytest.raises(ScarError, match=NO_PROFILE):
            ENVIRONMENT.create(aws)
    assert 100 < _slept(aws) < 140


def test_an_environment_that_is_invalid_for_another_reason_is_an_error_at_once() -> None:
    """BA10: exit code 1, with what Batch says, and nothing else is tried."""
    aws = _aws()
    reason = "CLIENT_ERROR - The subnet ID 'subnet-1' does not exist"
    with Stubber(aws.batch) as batch:
        batch.add_response("create_compute_environment", {}, CREATE)
        batch.add_response("describe_compute_environments", _found("INVALID", statusReason=reason))
        with pytest.raises(ScarError, match="does not exist") as caught:
            ENVIRONMENT.create(aws)
        batch.assert_no_pending_responses()
    assert (caught.value.exit_code, _slept(aws)) == (1, 0)


def test_an_environment_that_never_becomes_valid_is_waited_for_as_long_as_was_asked() -> None:
    aws = _aws(patience_s=30)
    with Stubber(aws.batch) as batch:
        batch.add_response("create_compute_environment", {}, CREATE)
        for _ in range(30):
            batch.add_response("describe_compute_environments", _found("CREATING"))
        with pytest.raises(TimedOutError, match=r"waited 30 s for compute environment scar-f to become VALID"):
            ENVIRONMENT.create(aws)
    assert _slept(aws) == pytest.approx(30)


def test_an_environment_whose_queue_went_a_moment_ago_is_asked_to_go_again() -> None:
    aws = _aws()
    held = "Cannot delete, found existing JobQueue relationship"
    with Stubber(aws.batch) as batch:
        batch.add_response("describe_compute_environments", _found(state="DISABLED"))
        batch.add_client_error("delete_compute_environment", "ClientException", held)
        batch.add_response("describe_job_queues", {"jobQueues": []})
        batch.add_response("delete_compute_environment", {}, NAMED)
        batch.add_response("describe_compute_environments", _found("DELETED"))
        ENVIRONMENT.delete(aws)
        batch.assert_no_pending_responses()


def test_an_environment_that_cannot_go_for_its_role_is_gone_says_so() -> None:
    """BA10: what was INVALID, and is again after its deletion was begun."""
    aws = _aws()
    reason = "CLIENT_ERROR - Not authorized to perform sts:AssumeRole"
    with Stubber(aws.batch) as batch:
        batch.add_response("describe_compute_environments", _found("INVALID", state="DISABLED"))
        batch.add_response("delete_compute_environment", {}, NAMED)
        batch.add_response("describe_compute_environments", _found("DELETING"))
        batch.add_response("describe_compute_environments", _found("INVALID", statusReason=reason))
        with pytest.raises(ScarError, match="sts:AssumeRole"):
            ENVIRONMENT.delete(aws)


def test_a_queue_is_asked_for_and_waited_for() -> None:
    aws = _aws()
    limits = [
        {
            "reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
            "state": "RUNNABLE",
            "maxTimeSeconds": 600,
            "action": "CANCEL",
        }
    ]
    sent = {
        "state": "ENABLED",
        "priority": 3,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": ARN}],
        "jobStateTimeLimitActions": limits,
    }
    found = {**sent, "jobQueueName": "scar-f", "jobQueueArn": "", "tags": WRITTEN}
    with Stubber(aws.batch) as batch:
        named = {"jobQueueName": "scar-f", "jobQueueArn": ""}
        batch.add_response("create_job_queue", named, {"jobQueueName": "scar-f", "tags": WRITTEN, **sent})
        batch.add_response("describe_job_queues", {"jobQueues": [{**found, "status": "CREATING"}]})
        batch.add_response("describe_job_queues", {"jobQueues": [{**found, "status": "VALID"}]})
        QUEUE.create(aws)
        batch.add_response("describe_job_queues", {"jobQueues": [{**found, "status": "VALID"}]})
        assert QUEUE.read(aws) == QUEUE
        batch.add_response("update_job_queue", {}, {"jobQueue": "scar-f", **sent})
        batch.add_response(
            "describe_job_queues", {"jobQueues": [{**found, "status": "INVALID", "statusReason": "why"}]}
        )
        with pytest.raises(ScarError, match="INVALID; Batch says: why"):
            QUEUE.update(aws, replace(QUEUE, priority=1))
        batch.assert_no_pending_responses()


def test_a_definition_is_registered_with_what_it_says_once() -> None:
    aws = _aws()
    definition = JobDefinition("scar-f-0123456789abcdef", "f", '{"type":"container"}', TAGS)
    asked = {"jobDefinitionName": definition.name, "status": "ACTIVE"}
    registered = {**asked, "type": "container", "jobDefinitionArn": "arn", "revision": 1, "tags": WRITTEN}
    with Stubber(aws.batch) as batch:
        batch.add_response("describe_job_definitions", {"jobDefinitions": []}, asked)
        sent = {"jobDefinitionName": definition.name, "type": "container", "tags": WRITTEN}
        answer = {"jobDefinitionName": definition.name, "jobDefinitionArn": "arn", "revision": 1}
        batch.add_response("register_job_definition", answer, sent)
        definition.create(aws)
        batch.add_response("describe_job_definitions", {"jobDefinitions": [registered]}, asked)
        definition.create(aws)  # an answer was lost
        batch.assert_no_pending_responses()


def test_where_failed_events_go_is_told_lambda_until_it_knows_what_the_role_may_do() -> None:
    aws = _aws()
    arn = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f"
    sent = {
        "FunctionName": "f",
        "MaximumRetryAttempts": 2,
        "MaximumEventAgeInSeconds": 21600,
        "DestinationConfig": {"OnFailure": {"Destination": arn}},
    }
    refusal = "The function's execution role does not have permissions to call InvokeFunction on " + arn
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_client_error("put_function_event_invoke_config", "InvalidParameterValueException", refusal)
        lambda_.add_client_error("put_function_event_invoke_config", "ResourceConflictException", "in progress")
        lambda_.add_response("put_function_event_invoke_config", {}, sent)
        InvokeConfig("f", arn).create(aws)
        lambda_.add_client_error("put_function_event_invoke_config", "InvalidParameterValueException", "no such place")
        with pytest.raises(ClientError, match="no such place"):
            InvokeConfig("f", arn).create(aws)
        lambda_.assert_no_pending_responses()


TOLD: dict[str, type[ScarError]] = {
    "Job queue scar-f does not exist": NotFoundError,
    "Object already exists": ConflictError,
    "Cannot delete, found existing JobQueue relationship": ConflictError,
    "Cannot update, resource is being modified": ConflictError,
    "Error executing request, Exception : maxvCpus": ServiceError,
}


@pytest.mark.parametrize("message", TOLD)
def test_batchs_one_error_code_is_told_apart_by_its_text(message: str) -> None:
    error = ClientError({"Error": {"Code": "ClientException", "Message": message}}, "DoIt")
    assert type(errors.told(error, "do it")) is TOLD[message]
