"""Credentials of storage: written encrypted, compared and never shown, and gone with the function."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from faassupervisor import contract
from scar.errors import ConflictError
from scar.fdl.load import validate
from scar.fdl.model import Function
from scar.package.spec import spec_of
from scar.plan.apply import ApplyError, Silent, apply
from tests.support.account import READS, REGION, Account, Killed, dump_account, killed
from tests.support.deploying import init, plan_init, rm

CANARY = "canary-3f1b-do-not-show"
NAME = "/scar/grayify/minio.lab"
OUTPUT = [{"path": "results", "storage_provider": "minio.lab"}]


def fn(key: str = CANARY, output: list[dict[str, Any]] | None = None, **provider: Any) -> Function:
    keys = {"access_key": "lab", "secret_key": key} if "secret" not in provider else {}
    providers = {"minio": {"lab": {"endpoint": "https://minio.example", **keys, **provider}}}
    lambda_ = {
        "name": "grayify",
        "container": {"image": "ubuntu:24.04"},
        "output": OUTPUT if output is None else output,
    }
    (made,) = validate({"functions": {"aws": [{"lambda": lambda_}]}, "storage_providers": providers}).functions
    return made


def stored(acct: Account, name: str = NAME) -> dict[str, Any]:
    found: dict[str, Any] = acct.aws.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    return found


def parameters(acct: Account) -> list[str]:
    return [each["Name"] for each in acct.aws.ssm.describe_parameters()["Parameters"]]


def test_credentials_are_kept_encrypted_tagged_and_nowhere_else(acct: Account) -> None:
    """SE5: what AWS holds of the function is searched for the canary."""
    wanted = fn()
    plan = plan_init(acct.aws, wanted)
    shown = f"{plan}{plan!r}{json.dumps(plan.to_json())}{wanted!r}"
    apply(acct.aws, plan, Silent())
    assert CANARY not in shown
    assert f"+ credentials {NAME}  (encrypted; only the function may read them)" in shown
    found = stored(acct)
    assert (found["Type"], json.loads(found["Value"])) == ("SecureString", {"access_key": "lab", "secret_key": CANARY})
    tagged = acct.aws.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=NAME)["TagList"]
    assert {(tag["Key"], tag["Value"]) for tag in tagged} >= {("createdby", "scar"), ("scar:function", "grayify")}
    assert CANARY not in json.dumps(dump_account(), default=repr)
    assert CANARY.encode() not in spec_of(wanted).to_json()


def test_the_agent_is_told_where_they_are_and_its_role_may_read_that_and_nothing_else(acct: Account) -> None:
    """SE1."""
    wanted = fn(private=True, verify=False)
    init(acct.aws, wanted)
    assert spec_of(wanted).providers == (
        contract.Provider("minio.lab", NAME, "https://minio.example", verify=False, private=True),
    )
    policy = acct.aws.iam.get_role_policy(RoleName=f"scar-grayify-{REGION}", PolicyName="scar")["PolicyDocument"]
    reading = [each for each in policy["Statement"] if any("ssm" in action for action in each["Action"])]
    assert reading == [
        {
            "Sid": "ReadCredentials",
            "Effect": "Allow",
            "Action": ["ssm:GetParameter"],
            "Resource": [f"arn:aws:ssm:{REGION}:{acct.aws.account}:parameter{NAME}"],
        }
    ]
    assert not any("kms" in action for each in policy["Statement"] for action in each["Action"])


def test_only_other_credentials_are_written_again_and_the_plan_does_not_say_which(acct: Account) -> None:
    init(acct.aws, fn())
    assert not plan_init(acct.aws, fn())
    plan = plan_init(acct.aws, fn("canary-the-second"))
    assert [str(step) for step in plan.steps] == [f"~ credentials {NAME}  value: changed"]
    assert "canary" not in json.dumps(plan.to_json())
    apply(acct.aws, plan, Silent())
    assert json.loads(stored(acct)["Value"])["secret_key"] == "canary-the-second"
    assert stored(acct)["Version"] == 2
    assert not plan_init(acct.aws, fn("canary-the-second"))


def test_what_somebody_wrote_there_unencrypted_is_encrypted_again(acct: Account) -> None:
    init(acct.aws, fn())
    value = stored(acct)["Value"]
    acct.aws.ssm.delete_parameter(Name=NAME)
    own = [{"Key": "createdby", "Value": "scar"}, {"Key": "scar:function", "Value": "grayify"}]
    acct.aws.ssm.put_parameter(Name=NAME, Value=value, Type="String", Tags=own)
    init(acct.aws, fn())
    assert stored(acct)["Type"] == "SecureString"


def test_a_parameter_of_somebody_elses_is_neither_overwritten_nor_removed(acct: Account) -> None:
    acct.aws.ssm.put_parameter(Name=NAME, Value="theirs", Type="SecureString")
    with pytest.raises(ConflictError, match="was not made by scar"):
        init(acct.aws, fn())
    rm(acct.aws)
    assert stored(acct)["Value"] == "theirs"
    acct.aws.ssm.delete_parameter(Name=NAME)


def test_an_existing_parameter_is_named_to_the_agent_and_left_alone(acct: Account) -> None:
    acct.aws.ssm.put_parameter(Name="/team/minio", Value="{}", Type="SecureString")
    wanted = fn(secret="/team/minio")
    init(acct.aws, wanted)
    assert spec_of(wanted).providers[0].secret == "/team/minio"
    policy = acct.aws.iam.get_role_policy(RoleName=f"scar-grayify-{REGION}", PolicyName="scar")["PolicyDocument"]
    arn = f"arn:aws:ssm:{REGION}:{acct.aws.account}:parameter/team/minio"
    by_sid = {each["Sid"]: each for each in policy["Statement"]}
    assert by_sid["ReadCredentials"]["Resource"] == [arn]
    assert by_sid["DecryptCredentials"]["Condition"]["StringEquals"] == {
        "kms:EncryptionContext:PARAMETER_ARN": [arn],
        "kms:ViaService": [f"ssm.{REGION}.amazonaws.com"],
    }
    rm(acct.aws)
    assert parameters(acct) == ["/team/minio"]
    acct.aws.ssm.delete_parameter(Name="/team/minio")


def test_they_go_with_the_function_and_with_the_last_use_of_the_provider(acct: Account) -> None:
    init(acct.aws, fn())
    init(acct.aws, fn(output=[]))
    assert parameters(acct) == []
    init(acct.aws, fn())
    rm(acct.aws)
    assert parameters(acct) == []


def test_they_are_found_without_a_mark_and_nobody_asks_for_them_without_a_reason(acct: Account) -> None:
    init(acct.aws, fn())
    _forget_mark(acct)
    rm(acct.aws)
    assert parameters(acct) == []
    acct.wire.calls.clear()
    plain = fn(output=[])
    init(acct.aws, plain)
    init(acct.aws, plain)
    rm(acct.aws)
    assert [call for service, call in acct.wire.calls if service == "ssm"] == []


def _forget_mark(acct: Account) -> None:
    acct.aws.s3.delete_object(Bucket=f"scar-state-{acct.aws.account}-{REGION}", Key="members/grayify")


@pytest.mark.parametrize("command", ["init", "update", "rm"])
def test_after_a_death_around_any_call_of_theirs_the_same_command_finishes(command: str, acct: Account) -> None:
    """CL1: the process dies before each write, and after it had its effect."""

    def begin() -> None:
        acct.reset()
        if command != "init":
            init(acct.aws, fn())
        acct.wire.clear()

    def go() -> object:
        if command == "rm":
            return rm(acct.aws, threads=1)
        return init(acct.aws, fn(CANARY if command == "init" else "another"), threads=1)

    begin()
    go()
    calls, wanted = list(acct.wire.calls), _dump(acct)
    writes = [at for at, (service, name) in enumerate(calls, 1) if service == "ssm" and not name.startswith(READS)]
    assert writes
    for at in writes:
        for when in ("before", "after"):
            begin()
            acct.wire.plant(at, when, killed)
            with suppress(Killed):
                go()
            acct.wire.clear()
            go()
            assert _dump(acct) == wanted, (at, when)
            acct.wire.clear()
            go()
            assert acct.wire.writes == []
    rm(acct.aws)
    assert parameters(acct) == []


def _dump(acct: Account) -> tuple[Any, ...]:
    kept = [(name, stored(acct, name)["Value"], stored(acct, name)["Type"]) for name in parameters(acct)]
    return dump_account(), kept


def test_jobs_may_read_them_too(acct: Account) -> None:
    from scar.design import iam
    from scar.design.site import Site

    statements = iam.job_policy(fn(), Site.of(acct.aws))["Statement"]
    assert "ReadCredentials" in {each["Sid"] for each in statements}


def test_more_than_a_parameter_holds_is_refused_before_anything_is_made(acct: Account) -> None:
    from scar.errors import UsageError

    with pytest.raises(UsageError, match="more than the 4096 bytes") as told:
        plan_init(acct.aws, fn(CANARY + "x" * 5000))
    assert CANARY not in str(told.value)


def test_what_aws_refuses_is_told_without_the_credentials(acct: Account) -> None:
    plan = plan_init(acct.aws, fn())
    acct.aws.ssm.put_parameter(Name=NAME, Value="theirs", Type="SecureString")  # between plan and apply
    with pytest.raises(ApplyError) as told:
        apply(acct.aws, plan, Silent())
    assert "was not made by scar" in str(told.value)
    assert CANARY not in str(told.value) + repr(told.value)
    acct.aws.ssm.delete_parameter(Name=NAME)
