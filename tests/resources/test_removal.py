"""`rm`: everything that was made goes, whatever state it is found in; nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from moto.backends import get_backend

from scar.errors import ConflictError, DeniedError
from scar.fdl.model import Ecr, Iam
from scar.plan.apply import ApplyError, Silent, apply
from scar.plan.diff import diff
from scar.plan.owned import owned
from tests.support.account import ACCOUNT, REGION, Account, denied, dump_account, function
from tests.support.deploying import init, plan_init, rm

STATE = f"scar-state-{ACCOUNT}-{REGION}"
KINDS = ["role", "log group", "repository", "function", "notification", "permission", "state bucket", "bucket"]


def _by_hand(acct: Account, kind: str) -> None:
    aws = acct.aws
    match kind:
        case "role":
            aws.iam.delete_role_policy(RoleName=f"scar-grayify-{REGION}", PolicyName="scar")
            aws.iam.delete_role(RoleName=f"scar-grayify-{REGION}")
        case "log group":
            aws.logs.delete_log_group(logGroupName="/aws/lambda/grayify")
        case "repository":
            aws.ecr.delete_repository(repositoryName="scar/grayify", force=True)
        case "function":
            aws.lambda_.delete_function(FunctionName="grayify")
        case "notification":
            aws.s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration={})
        case "permission":
            (sid,) = [item["Sid"] for item in dump_account()["functions"]["grayify"]["policy"]]
            aws.lambda_.remove_permission(FunctionName="grayify", StatementId=sid)
        case "state bucket" | "bucket":
            _delete_bucket(acct, STATE if kind == "state bucket" else "photos")


def _delete_bucket(acct: Account, bucket: str) -> None:
    for item in acct.aws.s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        acct.aws.s3.delete_object(Bucket=bucket, Key=item["Key"])
    acct.aws.s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("kind", KINDS)
def test_rm_works_after_any_one_thing_was_deleted_by_hand(kind: str, acct: Account) -> None:
    """CL6"""
    init(acct.aws, function())
    _by_hand(acct, kind)
    rm(acct.aws)
    left = dump_account()
    photos = left["buckets"].pop("photos", {"notifications": {}})
    assert photos["notifications"] == {}
    assert {key: found for key, found in left.items() if found} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_init_repairs_any_one_thing_that_was_deleted_by_hand(kind: str, acct: Account) -> None:
    init(acct.aws, function())
    wanted = dump_account()
    _by_hand(acct, kind)
    init(acct.aws, function())
    assert dump_account() == wanted
    assert not plan_init(acct.aws, function())


def test_rm_of_what_is_not_there_is_an_empty_plan(acct: Account) -> None:
    assert not diff((), owned(acct.aws, "nobody"))


def test_rm_goes_on_when_one_thing_may_not_be_deleted_and_a_second_one_finishes(acct: Account) -> None:
    """CL7"""
    init(acct.aws, function())
    plan = diff((), owned(acct.aws, "grayify"))

    def deny(model: Any, **_: Any) -> None:
        raise denied(model.name)

    acct.aws.lambda_.meta.events.register("before-call.lambda.DeleteFunction", deny)
    with pytest.raises(ApplyError) as caught:
        apply(acct.aws, plan, Silent(), again="Finish with: scar rm -n grayify")
    acct.aws.lambda_.meta.events.unregister("before-call.lambda.DeleteFunction", deny)
    error = caught.value
    assert error.exit_code == DeniedError.exit_code
    assert "scar rm -n grayify" in str(error)
    assert [str(failure.step.id) for failure in error.outcome.failed] == ["function grayify"]
    assert {step.id.kind for step in error.outcome.done} == {"notification"}
    assert {step.id.kind for step in error.outcome.skipped} == {"role", "log group", "repository", "state bucket"}
    rm(acct.aws)
    assert [kind for kind, found in dump_account().items() if found] == ["buckets"]


def test_the_state_bucket_goes_with_the_last_function(acct: Account) -> None:
    init(acct.aws, function("one"))
    init(acct.aws, function("two", inputs=("films/in",)))
    for number in range(1005):
        get_backend("s3")[ACCOUNT]["aws"].put_object(STATE, f"functions/one/{number}", b"")
    acct.aws.s3.put_object(Bucket=STATE, Key="functions/two/1")
    rm(acct.aws, "one")
    objects = dump_account()["buckets"][STATE]["objects"]
    assert {"members/two", "functions/two/1"} <= set(objects)
    assert not [key for key in objects if "one" in key]
    rm(acct.aws, "two")
    assert STATE not in dump_account()["buckets"]


def test_a_users_objects_survive(acct: Account) -> None:
    """CL8"""
    init(acct.aws, function())
    acct.aws.s3.put_object(Bucket="photos", Key="in/a.jpg", Body=b"1")
    rm(acct.aws)
    assert list(dump_account()["buckets"]["photos"]["objects"]) == ["in/a.jpg"]


def test_a_role_that_others_attached_policies_to_goes_all_the_same(acct: Account) -> None:
    init(acct.aws, function())
    name = f"scar-grayify-{REGION}"
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}'
    arn = acct.aws.iam.create_policy(PolicyName="theirs", PolicyDocument=document)["Policy"]["Arn"]
    acct.aws.iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    acct.aws.iam.put_role_policy(RoleName=name, PolicyName="more", PolicyDocument=document)
    rm(acct.aws)
    assert dump_account()["roles"] == {}


def test_a_repository_that_is_to_be_kept_is_kept(acct: Account) -> None:
    init(acct.aws, function(ecr=Ecr(delete_image=False)))
    rm(acct.aws)
    assert list(dump_account()["repositories"]) == ["scar/grayify"]


def test_a_role_that_the_definition_names_is_neither_made_nor_removed(acct: Account) -> None:
    trust = '{"Version":"2012-10-17","Statement":[]}'
    acct.aws.iam.create_role(RoleName="theirs", AssumeRolePolicyDocument=trust)
    fn = function(iam=Iam(role=f"arn:aws:iam::{ACCOUNT}:role/theirs"))
    init(acct.aws, fn)
    assert list(dump_account()["roles"]) == ["theirs"]
    rm(acct.aws)
    assert list(dump_account()["roles"]) == ["theirs"]


def test_changing_to_a_named_role_removes_the_one_that_was_made(acct: Account) -> None:
    init(acct.aws, function())
    trust = '{"Version":"2012-10-17","Statement":[]}'
    acct.aws.iam.create_role(RoleName="theirs", AssumeRolePolicyDocument=trust)
    fn = function(iam=Iam(role=f"arn:aws:iam::{ACCOUNT}:role/theirs"))
    init(acct.aws, fn)
    assert list(dump_account()["roles"]) == ["theirs"]
    assert not plan_init(acct.aws, fn)


def _foreign_function(acct: Account) -> None:
    role = acct.aws.iam.create_role(RoleName="theirs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    acct.aws.lambda_.create_function(
        FunctionName="grayify", Role=role, PackageType="Image", Code={"ImageUri": "theirs@sha256:00"}
    )


def test_a_function_of_the_same_name_that_is_not_ours_is_never_touched(acct: Account) -> None:
    _foreign_function(acct)
    before = dump_account()
    with pytest.raises(ConflictError, match="not made by scar"):
        plan_init(acct.aws, function())
    with pytest.raises(ConflictError, match="not made by scar"):
        rm(acct.aws)
    assert dump_account() == before


def test_a_role_of_the_same_name_that_is_not_ours_is_never_touched(acct: Account) -> None:
    acct.aws.iam.create_role(RoleName=f"scar-grayify-{REGION}", AssumeRolePolicyDocument="{}")
    with pytest.raises(ConflictError, match="not made by scar"):
        plan_init(acct.aws, function())


def test_the_logs_of_a_function_that_was_not_ours_stay(acct: Account) -> None:
    acct.aws.logs.create_log_group(logGroupName="/aws/lambda/grayify")
    assert not diff((), owned(acct.aws, "grayify"))
