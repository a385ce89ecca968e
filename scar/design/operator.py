"""What does the person who runs SCAR need to be allowed? One row for each kind of resource and each command, scoped to the names that SCAR gives.

A row that AWS cannot scope to a resource says so beside it. The policy is proven: commands run with exactly it, and a call is denied without
each of its actions (tests/e2e/test_permissions, tests/local/iam). Pure.
Source: docs.aws.amazon.com/service-authorization/latest/reference
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scar.design.iam import VERSION
from scar.design.operator_scope import Scope
from scar.design.site import Site
from scar.fdl.model import Function

POLICY_CHARACTERS: Final = (
    6144  # of a managed policy, white space not counted: IAM/latest/UserGuide/reference_iam-quotas
)
COMMANDS: Final = (
    "init", "plan", "rm", "run", "invoke", "put", "get", "ls", "log", "jobs", "wait", "cancel", "terminate", "explain", "image",
)  # fmt: skip
# `rm --delete-data` deletes what is the user's: nobody may that without having asked for the right by name.
DATA: Final = "rm-data"


@dataclass(frozen=True, slots=True)
class Row:
    """`actions` of one service on one kind of resource, for the commands that make them. `only` is for functions with that: `jobs`, `http`, `secrets`."""

    commands: str
    target: str
    service: str
    actions: str
    only: str = ""


_MAKES: Final = "init"
_READS: Final = "init plan rm"
_RUNS: Final = "run put wait log explain"

ROWS: Final = (
    # What has no resource in IAM, or is asked before a name is known
    Row("ls rm log explain", "everything", "lambda", "ListFunctions"),
    Row(f"{_READS} ls log explain", "everything", "tag", "GetResources"),  # init and plan: loops through what is deployed
    Row("ls", "everything", "s3", "ListAllMyBuckets"),
    Row(f"{_READS} image", "everything", "ecr", "GetAuthorizationToken"),
    Row("init plan image", "everything", "ecr", "DescribePullThroughCacheRules GetAccountSetting"),
    Row("init plan", "everything", "ec2", "DescribeSecurityGroups DescribeSubnets DescribeVpcs DescribeVpcEndpoints DescribeRouteTables DescribePlacementGroups", "jobs"),
    Row(_READS, "everything", "batch", "DescribeComputeEnvironments DescribeJobDefinitions DescribeJobQueues", "jobs"),
    Row("rm jobs wait cancel terminate run log explain put", "everything", "batch", "DescribeJobs ListJobs", "jobs"),
    Row("jobs explain wait run log", "everything", "batch", "DescribeJobQueues DescribeComputeEnvironments DescribeJobDefinitions", "jobs"),
    Row(_READS, "log groups", "logs", "DescribeLogGroups"),
    # The function
    Row(f"{_READS} {_RUNS} ls", "functions", "lambda", "GetFunction GetFunctionConfiguration"),
    Row(f"{_READS} ls", "functions", "lambda", "GetPolicy GetFunctionEventInvokeConfig GetFunctionUrlConfig"),
    Row(_MAKES, "functions", "lambda", "CreateFunction UpdateFunctionCode UpdateFunctionConfiguration TagResource UntagResource"),
    Row("init rm", "functions", "lambda", "AddPermission RemovePermission"),
    Row("init rm", "functions", "lambda", "PutFunctionEventInvokeConfig DeleteFunctionEventInvokeConfig", "jobs"),
    Row("init rm", "functions", "lambda", "CreateFunctionUrlConfig UpdateFunctionUrlConfig DeleteFunctionUrlConfig", "http"),
    Row("rm", "functions", "lambda", "DeleteFunction"),
    Row("run invoke", "functions", "lambda", "InvokeFunction"),
    Row("invoke", "functions", "lambda", "InvokeFunctionUrl GetFunctionUrlConfig", "http"),
    Row("explain", "functions", "lambda", "GetFunctionEventInvokeConfig GetPolicy"),
    Row("explain", "functions", "lambda", "GetFunctionConcurrency"),
    Row("explain", "everything", "ec2", "DescribeInstanceTypes", "jobs"),
    # Its roles
    Row(_READS, "roles", "iam", "GetRole GetRolePolicy ListAttachedRolePolicies"),
    Row(_MAKES, "roles", "iam", "CreateRole PutRolePolicy AttachRolePolicy UpdateAssumeRolePolicy TagRole UntagRole"),
    Row("rm", "roles", "iam", "DeleteRole DeleteRolePolicy DetachRolePolicy ListRolePolicies"),
    Row("init rm", "roles", "iam", "DeleteRolePolicy"),
    Row(_MAKES, "roles that services take on", "iam", "PassRole"),
    Row(_READS, "instance profiles", "iam", "GetInstanceProfile", "jobs"),
    Row("init", "instance profiles", "iam", "CreateInstanceProfile AddRoleToInstanceProfile RemoveRoleFromInstanceProfile TagInstanceProfile UntagInstanceProfile", "jobs"),
    Row("rm", "instance profiles", "iam", "DeleteInstanceProfile RemoveRoleFromInstanceProfile", "jobs"),
    Row(_MAKES, "roles that AWS makes for Batch", "iam", "CreateServiceLinkedRole", "jobs"),
    # Its logs
    Row(_READS, "log groups", "logs", "ListTagsForResource"),
    Row(_MAKES, "log groups", "logs", "CreateLogGroup PutRetentionPolicy DeleteRetentionPolicy TagResource UntagResource"),
    Row("rm", "log groups", "logs", "DeleteLogGroup"),
    Row(f"{_RUNS} jobs ls", "log groups", "logs", "FilterLogEvents"),
    Row("ls", "log groups", "logs", "DescribeLogStreams GetLogEvents"),
    # Its image
    Row(_READS, "repositories", "ecr", "DescribeImages DescribeRepositories GetLifecyclePolicy GetRepositoryPolicy ListTagsForResource"),
    Row(_MAKES, "repositories", "ecr", "CreateRepository SetRepositoryPolicy PutLifecyclePolicy PutImageTagMutability PutImageScanningConfiguration TagResource UntagResource"),
    Row("init image", "repositories", "ecr", "BatchCheckLayerAvailability BatchGetImage CompleteLayerUpload GetDownloadUrlForLayer InitiateLayerUpload PutImage UploadLayerPart"),
    Row("rm", "repositories", "ecr", "DeleteRepository"),
    # Its jobs
    Row(_MAKES, "places of jobs", "batch", "CreateComputeEnvironment UpdateComputeEnvironment CreateJobQueue UpdateJobQueue TagResource UntagResource", "jobs"),
    Row("rm", "places of jobs", "batch", "DeleteComputeEnvironment UpdateComputeEnvironment DeleteJobQueue UpdateJobQueue", "jobs"),
    Row(_MAKES, "job definitions", "batch", "RegisterJobDefinition DeregisterJobDefinition TagResource UntagResource", "jobs"),
    Row("rm", "job definitions", "batch", "DeregisterJobDefinition", "jobs"),
    Row("rm cancel", "jobs", "batch", "CancelJob TerminateJob", "jobs"),
    Row("rm terminate run", "jobs", "batch", "TerminateJob", "jobs"),
    Row(_READS, "rules", "events", "DescribeRule ListTagsForResource ListTargetsByRule", "jobs"),
    Row(_MAKES, "rules", "events", "PutRule PutTargets RemoveTargets TagResource UntagResource", "jobs"),
    Row("rm", "rules", "events", "DeleteRule RemoveTargets", "jobs"),
    # Its endpoint, which has a generated name
    Row("plan ls invoke explain init rm", "endpoints", "apigateway", "GET"),
    Row("init", "endpoints", "apigateway", "POST PUT PATCH DELETE", "http"),
    Row("rm", "endpoints", "apigateway", "PATCH DELETE", "http"),
    Row("invoke", "endpoints' callers", "execute-api", "Invoke", "http"),
    # Its credentials for storage elsewhere
    Row(_READS, "parameters", "ssm", "GetParameter GetParametersByPath ListTagsForResource"),
    Row(_MAKES, "parameters", "ssm", "PutParameter AddTagsToResource RemoveTagsFromResource DeleteParameter", "secrets"),
    Row("rm", "parameters", "ssm", "DeleteParameter"),
    # The state bucket, which is SCAR's own
    Row(f"{_READS} ls run", "state bucket", "s3", "ListBucket"),
    Row(f"{_READS} run", "state", "s3", "GetObject"),
    Row("init rm", "state", "s3", "PutObject DeleteObject AbortMultipartUpload"),
    Row("run invoke", "state", "s3", "PutObject"),
    Row(_MAKES, "state bucket", "s3", "CreateBucket PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketTagging PutEncryptionConfiguration PutLifecycleConfiguration"),
    Row("rm", "state bucket", "s3", "DeleteBucket"),
    # Code of zip functions, wherever the definition wants it
    Row(_READS, "code", "s3", "GetObject"),
    Row("init rm", "code", "s3", "PutObject DeleteObject AbortMultipartUpload"),
    # The user's buckets
    Row(f"{_READS} explain", "buckets", "s3", "GetBucketNotification ListBucket"),
    Row("put get ls run", "buckets", "s3", "ListBucket"),
    Row("init rm", "buckets", "s3", "PutBucketNotification"),
    Row(_MAKES, "buckets", "s3", "CreateBucket PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketTagging PutEncryptionConfiguration PutLifecycleConfiguration"),
    Row(DATA, "buckets", "s3", "DeleteBucket ListBucketVersions"),
    Row(DATA, "objects", "s3", "AbortMultipartUpload DeleteObject DeleteObjectVersion"),
    Row("put", "objects", "s3", "PutObject AbortMultipartUpload"),
    Row("put", "buckets", "s3", "ListBucketMultipartUploads"),
    Row("get", "objects", "s3", "GetObject"),
    Row("put run explain", "objects", "s3", "GetObject"),
)  # fmt: skip


def operator_policy(site: Site, commands: Sequence[str], functions: Sequence[Function] = ()) -> dict[str, Any]:
    """For these commands on these functions; without functions, on everything that SCAR may make in the region.

    Buckets without functions are all of the account's: their names are the user's own.
    """
    scope = Scope(site, tuple(functions))
    wanted: dict[str, set[str]] = {}
    for row in ROWS:
        if set(row.commands.split()) & set(commands) and (not row.only or scope.has(row.only)):
            wanted.setdefault(row.target, set()).update(f"{row.service}:{action}" for action in row.actions.split())
    statements = [_statement(scope, target, actions) for target, actions in wanted.items()]
    return {"Version": VERSION, "Statement": [one for one in statements if one["Resource"]]}


def size(policy: Mapping[str, Any]) -> int:
    """As IAM counts it: without white space."""
    return len("".join(json.dumps(policy).split()))


def parts(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same in as many policies as IAM needs; one statement is never cut, so a single large one may still be too large."""
    found: list[dict[str, Any]] = []
    for statement in policy["Statement"]:
        if not found or size({**found[-1], "Statement": [*found[-1]["Statement"], statement]}) > POLICY_CHARACTERS:
            found.append({**policy, "Statement": []})
        found[-1]["Statement"].append(statement)
    return found


def _statement(scope: Scope, target: str, actions: Iterable[str]) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": "".join(word.capitalize() for word in target.replace("'", "").split()),
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": scope.resources(target),
    }
    if target == "roles that services take on":
        services = [
            "lambda.amazonaws.com",
            *(["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"] if scope.has("jobs") else []),
        ]
        statement["Condition"] = {"StringEquals": {"iam:PassedToService": services}}
    if target == "roles that AWS makes for Batch":
        statement["Condition"] = {"StringEquals": {"iam:AWSServiceName": "batch.amazonaws.com"}}
    return statement
