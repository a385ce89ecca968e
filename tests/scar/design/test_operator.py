"""The operator's policy says what SCAR's own code calls: nothing is missing, and no right is there that no code uses."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from scar.design import Site
from scar.design.operator import COMMANDS, DATA, POLICY_CHARACTERS, ROWS, operator_policy, parts, size
from scar.local.iam.evaluate import Asked, Principal, decide
from tests.support.account import batch_function, function

SCAR = Path(__file__).parents[3] / "scar"
SITE = Site("123456789012", "eu-west-1")
# What clients are called in the code → botocore's service, and what its actions begin with.
SERVICES = {
    "s3": ("s3", "s3"), "lambda_": ("lambda", "lambda"), "invoker": ("lambda", "lambda"), "iam": ("iam", "iam"), "logs": ("logs", "logs"),
    "ecr": ("ecr", "ecr"), "batch": ("batch", "batch"), "ec2": ("ec2", "ec2"), "events": ("events", "events"), "ssm": ("ssm", "ssm"),
    "tagging": ("resourcegroupstaggingapi", "tag"), "sts": ("sts", "sts"), "apigateway": ("apigateway", "apigateway"),
}  # fmt: skip
# Operations whose action has another name, or none at all
OTHERS = {
    "lambda:Invoke": "lambda:InvokeFunction", "sts:GetCallerIdentity": None,
    "s3:HeadObject": "s3:GetObject", "s3:HeadBucket": "s3:ListBucket", "s3:ListObjectsV2": "s3:ListBucket", "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:DeleteObjects": "s3:DeleteObject", "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject", "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock", "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification", "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:ListObjectVersions": "s3:ListBucketVersions", "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
}  # fmt: skip
# Asked for by AWS beside a call of another name: why
BESIDE = {
    "s3:DeleteObjectVersion": "DeleteObjects, of a bucket with versions",
    "iam:PassRole": "CreateFunction, RegisterJobDefinition, AddRoleToInstanceProfile and CreateComputeEnvironment hand roles on",
    "iam:CreateServiceLinkedRole": "Batch makes its own role in an account that has none yet",
    "iam:TagInstanceProfile": "a profile is made with tags",
    "s3:PutBucketOwnershipControls": "a bucket is made with its ownership enforced",
    "ecr:BatchCheckLayerAvailability": "pushing, by the protocol of registries",
    "ecr:InitiateLayerUpload": "pushing",
    "ecr:UploadLayerPart": "pushing",
    "ecr:CompleteLayerUpload": "pushing",
    "ecr:PutImage": "pushing",
    "ecr:BatchGetImage": "pulling an image of the account's own registry",
    "ecr:GetDownloadUrlForLayer": "pulling",
    "lambda:InvokeFunctionUrl": "a signed request to a Function URL",
    "execute-api:Invoke": "a signed request to a REST API",
}


@functools.cache
def operations(service: str) -> dict[str, str]:
    model = botocore.session.Session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


@functools.cache
def called() -> dict[str, str]:
    """Every action that a call in SCAR's code needs → where."""
    found: dict[str, str] = {}
    pattern = re.compile(r'(?:\baws|_aws|\bthere)\.(\w+)\.(?:(?:get_paginator|get_waiter)\(\s*"(\w+)"|(\w+))')
    for path in sorted(SCAR.rglob("*.py")):
        if path.is_relative_to(SCAR / "local"):
            continue
        for client, paged, plain in pattern.findall(path.read_text()):
            if client not in SERVICES:
                continue
            service, prefix = SERVICES[client]
            operation = operations(service).get(paged or plain)
            if operation is None:  # an exception, the client's own settings
                continue
            action = f"{prefix}:{operation}"
            if prefix == "apigateway":
                model = botocore.session.Session().get_service_model(service).operation_model(operation)
                action = f"apigateway:{model.http['method']}"
            named = OTHERS.get(action, action)
            if named is not None:
                found[named] = str(path.relative_to(SCAR))
    return found


def granted() -> set[str]:
    return {f"{row.service}:{action}" for row in ROWS for action in row.actions.split()}


def test_every_call_of_scars_code_has_its_action() -> None:
    """SE2: what is added to the code is missed here until the policy has it."""
    missing = {action: where for action, where in called().items() if action not in granted()}
    assert missing == {}


def test_no_action_is_granted_that_no_code_calls() -> None:
    """SE2."""
    assert sorted(granted() - called().keys() - BESIDE.keys()) == []
    assert sorted(BESIDE.keys() - granted()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_rows_and_its_policy_is_one_that_iam_takes(command: str) -> None:
    policy = operator_policy(SITE, [command], (batch_function(), function("other")))
    assert policy["Statement"]
    assert all(size(part) <= POLICY_CHARACTERS for part in parts(policy))
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(sids) == len(set(sids))
    assert all(sid.isalnum() for sid in sids)


def test_the_whole_is_cut_where_iam_would_not_take_it() -> None:
    whole = operator_policy(SITE, COMMANDS, tuple(batch_function(f"function-{number}") for number in range(8)))
    each = parts(whole)
    assert len(each) > 1
    assert [statement for part in each for statement in part["Statement"]] == whole["Statement"]
    assert all(size(part) <= POLICY_CHARACTERS for part in each)


EVERYTHING = {
    "batch:DescribeComputeEnvironments", "batch:DescribeJobDefinitions", "batch:DescribeJobQueues", "batch:DescribeJobs", "batch:ListJobs",
    "ec2:DescribeInstanceTypes", "ec2:DescribePlacementGroups", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs", "ecr:DescribePullThroughCacheRules", "ecr:GetAccountSetting", "ecr:GetAuthorizationToken", "lambda:ListFunctions",
    "s3:ListAllMyBuckets", "tag:GetResources",
}  # fmt: skip


def test_only_what_knows_no_resources_is_allowed_on_all_of_them() -> None:
    """SE1: each of these is said by AWS to know no resource (service-authorization/latest/reference)."""
    policy = operator_policy(SITE, COMMANDS, (batch_function(),))
    found = {action for one in policy["Statement"] if "*" in one["Resource"] for action in one["Action"]}
    assert found == EVERYTHING
    assert all(not action.startswith("iam:") for action in found)


def may(policy: dict[str, Any], action: str, resource: str, **context: tuple[str, ...]) -> bool:
    user = "arn:aws:iam::123456789012:user/u"
    asked = Asked(action, resource, {key.replace("__", ":"): value for key, value in context.items()})
    return decide(Principal(user, "123456789012", user, (policy,)), asked).allowed


def test_an_operator_of_one_function_reaches_no_other() -> None:
    """SE2."""
    policy = operator_policy(SITE, COMMANDS, (batch_function("cow", inputs=("farm/in",), outputs=("farm/out",)),))
    arn = "arn:aws:{}:eu-west-1:123456789012:{}"
    for name, allowed in (("cow", True), ("horse", False)):
        assert may(policy, "lambda:DeleteFunction", arn.format("lambda", f"function:{name}")) == allowed
        assert may(policy, "iam:PutRolePolicy", f"arn:aws:iam::123456789012:role/scar-{name}-eu-west-1") == allowed
        assert may(policy, "ecr:PutImage", arn.format("ecr", f"repository/scar/{name}")) == allowed
        assert (
            may(policy, "logs:FilterLogEvents", arn.format("logs", f"log-group:/aws/lambda/{name}:log-stream:"))
            == allowed
        )
    assert may(policy, "s3:PutObject", "arn:aws:s3:::farm/in/a")
    assert not may(policy, "s3:PutObject", "arn:aws:s3:::other/in/a")
    assert not may(policy, "iam:PutRolePolicy", "arn:aws:iam::123456789012:role/admin")


def test_a_role_is_handed_to_the_services_that_take_it_on_and_to_no_other() -> None:
    """SE2: whoever may pass a role to anything may become it."""
    policy = operator_policy(SITE, ["init"], (batch_function("cow"),))
    role = "arn:aws:iam::123456789012:role/scar-cow-eu-west-1"
    assert may(policy, "iam:PassRole", role, iam__passedtoservice=("lambda.amazonaws.com",))
    assert not may(policy, "iam:PassRole", role, iam__passedtoservice=("glue.amazonaws.com",))
    assert not may(policy, "iam:PassRole", role)


def test_looking_changes_nothing() -> None:
    policy = operator_policy(SITE, ["plan", "ls", "log", "jobs"])
    verbs = {action.partition(":")[2] for one in policy["Statement"] for action in one["Action"]}
    assert [verb for verb in verbs if not verb.startswith(("Get", "List", "Describe", "Filter", "GET"))] == []
    json.dumps(policy)


def test_the_users_data_is_deleted_only_by_a_right_of_its_own() -> None:
    everything = operator_policy(SITE, COMMANDS, (function(outputs=("results/out",)),))
    assert not may(everything, "s3:DeleteObject", "arn:aws:s3:::results/out/a")
    assert not may(everything, "s3:DeleteBucket", "arn:aws:s3:::results")
    assert may(operator_policy(SITE, [DATA]), "s3:DeleteObject", "arn:aws:s3:::results/out/a")
