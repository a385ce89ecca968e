"""Policies as data: golden documents, and a table of what they allow and what they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scar.design import Site, iam
from scar.fdl.model import Io
from scar.fdl.nodes import MultiNodeParallel
from scar.local.iam.evaluate import Asked, Principal, decide
from tests.support.account import batch_function, function

GOLDEN = Path(__file__).parent / "golden"
SITE = Site("123456789012", "eu-west-1")
FN = function(inputs=("photos/in", "photos/more", "films"), outputs=("results/out",))
WITH_JOBS = batch_function()
WITH_NODES = batch_function(batch={"multi_node_parallel": MultiNodeParallel(enabled=True, number_nodes=2)})
LOGS = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/"
STATE = "arn:aws:s3:::scar-state-123456789012-eu-west-1"
CODE = f"{STATE}/scar-code/123456789012/grayify/"


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("lambda_policy", iam.lambda_policy(FN, SITE)),
        ("lambda_policy_without_storage", iam.lambda_policy(function(inputs=(), outputs=()), SITE)),
        ("lambda_policy_with_code", iam.lambda_policy(FN, SITE, code=CODE + "*")),
        ("lambda_trust", iam.lambda_trust()),
        ("ecr_pull", iam.ecr_pull(SITE, "grayify")),
    ],
)
def test_a_policy_is_its_golden_document(name: str, document: dict[str, Any]) -> None:
    assert document == json.loads((GOLDEN / f"{name}.json").read_text())


ALLOWED = [
    ("s3:GetObject", "arn:aws:s3:::photos/in/a.jpg"),
    ("s3:GetObjectVersion", "arn:aws:s3:::photos/more/deep/a.jpg"),
    ("s3:GetObject", "arn:aws:s3:::films/anything"),
    ("s3:PutObject", "arn:aws:s3:::results/out/a.jpg"),
    ("s3:AbortMultipartUpload", "arn:aws:s3:::results/out/a.jpg"),
    ("logs:PutLogEvents", LOGS + "grayify:log-stream:2026/11/21/[$LATEST]ab"),
    ("s3:GetObject", STATE + "/functions/grayify/spill/1"),
]
DENIED = [
    ("s3:GetObject", "arn:aws:s3:::photos/inside/a.jpg"),
    ("s3:GetObject", "arn:aws:s3:::photos/a.jpg"),
    ("s3:GetObject", "arn:aws:s3:::results/out/a.jpg"),
    ("s3:PutObject", "arn:aws:s3:::photos/in/a.jpg"),
    ("s3:PutObject", "arn:aws:s3:::results/other/a.jpg"),
    ("s3:DeleteObject", "arn:aws:s3:::results/out/a.jpg"),
    ("s3:ListBucket", "arn:aws:s3:::photos"),
    ("logs:PutLogEvents", LOGS + "other:log-stream:x"),
    ("logs:CreateLogGroup", LOGS + "grayify"),
    ("s3:GetObject", STATE + "/functions/other/ledger/1"),
    ("s3:GetObject", STATE + "/functions/grayify2/1"),
    ("s3:PutObject", STATE + "/functions/grayify/ledger/1"),
    ("s3:DeleteObject", STATE + "/functions/grayify/ledger/1"),
    ("s3:PutObject", STATE + "/members/grayify"),
    ("s3:PutObject", STATE + "/leases/notification/photos"),
    ("iam:PassRole", "arn:aws:iam::123456789012:role/x"),
    ("lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:123456789012:function:grayify"),
]


@pytest.mark.parametrize(("action", "resource"), ALLOWED)
def test_a_function_may(action: str, resource: str) -> None:
    assert _allows(iam.lambda_policy(FN, SITE), action, resource)


@pytest.mark.parametrize(("action", "resource"), DENIED)
def test_a_function_may_not(action: str, resource: str) -> None:
    assert not _allows(iam.lambda_policy(FN, SITE), action, resource)


def test_state_is_written_by_functions_that_hand_runs_over_and_taken_away_by_nodes_only() -> None:
    """SE1: what one kind of function needs no other is given."""
    entry = STATE + "/functions/grayify/ledger/1"
    own = iam.lambda_policy(WITH_JOBS, SITE), iam.job_policy(WITH_JOBS, SITE)
    assert [_allows(policy, "s3:PutObject", entry) for policy in own] == [True, True]
    assert [_allows(policy, "s3:DeleteObject", entry) for policy in own] == [False, False]
    assert _allows(iam.job_policy(WITH_NODES, SITE), "s3:DeleteObject", STATE + "/functions/grayify/gang/1")
    assert not _allows(iam.lambda_policy(WITH_NODES, SITE), "s3:DeleteObject", STATE + "/functions/grayify/gang/1")


def test_a_zip_function_reads_its_own_code_and_nothing_else_of_the_bucket() -> None:
    policy = iam.lambda_policy(FN, SITE, code=CODE + "*")
    assert _allows(policy, "s3:GetObject", CODE + "0" * 64)
    assert not _allows(policy, "s3:PutObject", CODE + "0" * 64)
    assert not _allows(policy, "s3:GetObject", CODE.replace("grayify", "grayify2") + "0" * 64)
    assert not _allows(iam.lambda_policy(FN, SITE), "s3:GetObject", CODE + "0" * 64)


def test_no_resource_is_a_bare_star() -> None:
    statements = iam.lambda_policy(FN, SITE)["Statement"]
    assert "*" not in [resource for statement in statements for resource in statement["Resource"]]


def test_a_star_in_a_folder_is_a_character_and_not_a_wildcard() -> None:
    fn = function(inputs=("photos/a*b$c?",), outputs=())
    (reads,) = [item for item in iam.lambda_policy(fn, SITE)["Statement"] if item["Sid"] == "ReadInputs"]
    assert reads["Resource"] == ["arn:aws:s3:::photos/a${*}b${$}c${?}/*"]


def test_storage_elsewhere_than_s3_gets_no_rights() -> None:
    assert not iam.is_s3(Io(path="photos/in", storage_provider="minio.lab"))
    assert iam.is_s3(Io(path="photos/in", storage_provider="s3"))


def test_other_partitions_have_their_own_names() -> None:
    china = Site("123456789012", "cn-north-1", "aws-cn")
    assert json.dumps(iam.lambda_policy(FN, china)).count("arn:aws:") == 0
    assert china.registry == "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"


def _allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    """As IAM would decide, by the evaluator that the local AWS has."""
    role = Principal(
        "arn:aws:sts::123456789012:assumed-role/r/s", "123456789012", "arn:aws:iam::123456789012:role/r", (policy,)
    )
    return decide(role, Asked(action, resource)).allowed
