"""Two of scar at once, threads included, and things changed by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest

from scar.aws.clients import Access, Aws
from scar.errors import ScarError
from tests.support.account import ACCOUNT, REGION, Account, FakeImage, Killed, dump_account, function, killed
from tests.support.deploying import init, plan_init


def _another() -> Aws:
    aws = Aws(Access(REGION, access_key="testing", secret_key="testing"))
    aws.__dict__["account"] = ACCOUNT
    return aws


def test_two_inits_of_one_function_at_once_end_as_one(acct: Account) -> None:
    """CL4"""
    init(acct.aws, function())
    wanted = dump_account()
    others = [_another(), _another()]
    for _ in range(5):
        acct.reset()
        start = Barrier(2)

        def go(aws: Aws, start: Barrier = start) -> None:
            start.wait(10)
            with suppress(ScarError):  # the second may be told of a conflict; the same command again settles it
                init(aws, function())

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(go, others))
        init(acct.aws, function())
        assert dump_account() == wanted
        assert not plan_init(acct.aws, function())


@pytest.mark.parametrize("at", range(14, 40, 5))
def test_a_death_with_several_steps_under_way_is_finished_by_the_same_command(at: int, acct: Account) -> None:
    init(acct.aws, function())
    wanted = dump_account()
    acct.reset()
    acct.wire.plant(at, "before", killed)
    with pytest.raises(Killed):
        init(acct.aws, function())
    acct.wire.clear()
    init(acct.aws, function())
    assert dump_account() == wanted


def test_what_was_changed_by_hand_is_shown_and_put_right(acct: Account) -> None:
    """CL9"""
    init(acct.aws, function(environment={"MODE": "grey"}))
    aws, role = acct.aws, f"scar-grayify-{REGION}"
    aws.lambda_.update_function_configuration(
        FunctionName="grayify", MemorySize=128, Environment={"Variables": {"MODE": "colour", "MORE": "1"}}
    )
    aws.iam.put_role_policy(
        RoleName=role,
        PolicyName="scar",
        PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}',
    )
    aws.logs.put_retention_policy(logGroupName="/aws/lambda/grayify", retentionInDays=1)
    aws.ecr.put_image_tag_mutability(repositoryName="scar/grayify", imageTagMutability="MUTABLE")
    aws.ecr.delete_lifecycle_policy(repositoryName="scar/grayify")
    (sid,) = [item["Sid"] for item in dump_account()["functions"]["grayify"]["policy"]]
    aws.lambda_.remove_permission(FunctionName="grayify", StatementId=sid)
    aws.lambda_.add_permission(
        FunctionName="grayify", StatementId=sid, Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
    )
    plan = plan_init(aws, function(environment={"MODE": "grey"}))
    assert set(str(plan).splitlines()) == {
        "~ function grayify  memory_mib: 128 → 512, environment: -MORE +SCAR_STATE ~MODE",
        f"~ role {role}  policy: -(no name) +Logs +ReadInputs +WriteOutputs +OwnState",
        "~ log group /aws/lambda/grayify  retention_days: 1 → 30",
        "~ repository scar/grayify  lifecycle: changed, immutable: False → True",
        "~ permission photos → grayify  exact: False → True",
    }
    init(aws, function(environment={"MODE": "grey"}))
    assert not plan_init(aws, function(environment={"MODE": "grey"}))


def test_a_new_image_is_shown_by_its_digest(acct: Account) -> None:
    init(acct.aws, function())
    old, new = FakeImage().digest[7:19], FakeImage("2").digest[7:19]
    lines = str(plan_init(acct.aws, function(), FakeImage("2"))).splitlines()
    assert f"~ function grayify  code: {old} → {new}" in lines
    assert f"+ image scar/grayify@sha256:{new}  (12.3 MB)" in lines


def test_what_lambda_adds_to_the_repositorys_policy_is_no_difference(acct: Account) -> None:
    import json

    init(acct.aws, function())
    policy = json.loads(acct.aws.ecr.get_repository_policy(repositoryName="scar/grayify")["policyText"])
    (ours,) = policy["Statement"]
    policy["Statement"].append({**ours, "Sid": "LambdaECRImageRetrievalPolicy"})
    acct.aws.ecr.set_repository_policy(repositoryName="scar/grayify", policyText=json.dumps(policy))
    assert not plan_init(acct.aws, function())


def test_going_back_to_an_earlier_image_pushes_nothing(acct: Account) -> None:
    init(acct.aws, function(), FakeImage("1"))
    init(acct.aws, function(), FakeImage("2"))
    acct.wire.clear()
    init(acct.aws, function(), FakeImage("1"))
    assert [name for _, name in acct.wire.writes] == ["UpdateFunctionCode"]


def test_tags_follow_the_definition_everywhere(acct: Account) -> None:
    init(acct.aws, function(tags={"team": "a", "cost": "1"}))
    init(acct.aws, function(tags={"team": "b"}))
    found = dump_account()
    assert found["functions"]["grayify"]["tags"]["team"] == "b"
    assert "cost" not in found["functions"]["grayify"]["tags"]
    for kind, name in (("roles", f"scar-grayify-{REGION}"), ("repositories", "scar/grayify")):
        tags = {tag["Key"]: tag["Value"] for tag in found[kind][name].get("Tags") or found[kind][name]["tags"]}
        assert tags == {
            "team": "b",
            "createdby": "scar",
            "scar:function": "grayify",
            "scar:version": tags["scar:version"],
        }
    assert found["log groups"]["/aws/lambda/grayify"]["tags"]["team"] == "b"


def test_a_newer_scar_alone_changes_nothing(acct: Account) -> None:
    init(acct.aws, function())
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:grayify"
    acct.aws.lambda_.tag_resource(Resource=arn, Tags={"scar:version": "0.1"})
    assert not plan_init(acct.aws, function())
