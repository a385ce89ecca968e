"""Waiting has an end, and every error of AWS becomes one that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from scar.aws.errors import mapped, told
from scar.aws.lease import held
from scar.aws.wait import until
from scar.errors import ConflictError, DeniedError, NotFoundError, ScarError, ServiceError, TimedOutError
from tests.support.account import Account, FakeClock


def test_an_answer_that_is_there_is_not_waited_for() -> None:
    clock = FakeClock()
    assert until(lambda: "x", deadline_s=1, what="x", clock=clock) == "x"
    assert clock.slept == []


def test_false_and_zero_are_answers() -> None:
    assert until(lambda: 0, deadline_s=1, what="x", clock=FakeClock()) == 0


def test_pauses_grow_to_a_ceiling_and_end_at_the_deadline() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOutError, match="waited 60 s for the moon"):
        until(lambda: None, deadline_s=60, what="the moon", clock=clock)
    assert clock.now == pytest.approx(60)
    assert max(clock.slept) <= 5
    assert clock.slept[0] < 0.3
    assert len(clock.slept) < 40


def _client_error(code: str, message: str = "m") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "SomeCall")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (_client_error("AccessDeniedException"), DeniedError, "SomeCall"),
        (_client_error("403"), DeniedError, "not allowed"),
        (_client_error("ExpiredToken"), DeniedError, "aws sso login"),
        (_client_error("RequestTimeTooSkewed"), DeniedError, "clock"),
        (_client_error("NoSuchBucket"), NotFoundError, "SomeCall"),
        (_client_error("ResourceConflictException"), ConflictError, "ResourceConflictException"),
        (_client_error("CodeStorageExceededException"), ConflictError, "CodeStorage"),
        (_client_error("TooManyRequestsException"), ServiceError, "Wait a minute"),
        (_client_error("InvalidArgument", "Configurations overlap."), ConflictError, "another folder"),
        (_client_error("InvalidArgument"), ServiceError, "InvalidArgument"),
        (boto.NoCredentialsError(), DeniedError, "profile"),
        (boto.ProfileNotFound(profile="x"), DeniedError, "profile"),
        (boto.NoRegionError(), DeniedError, "AWS_REGION"),
        (boto.EndpointConnectionError(endpoint_url="https://e"), ServiceError, "https://e"),
        (boto.ReadTimeoutError(endpoint_url="https://e"), ServiceError, "network"),
        (boto.ParamValidationError(report="r"), ServiceError, "ParamValidationError"),
    ],
)
def test_an_error_of_aws_becomes_ours(error: ClientError | BotoCoreError, kind: type[ScarError], says: str) -> None:
    mine = told(error, "create role x")
    assert type(mine) is kind
    assert says in str(mine)
    assert str(mine).startswith("create role x: ")


def test_errors_of_ours_pass_the_door_unchanged() -> None:
    with pytest.raises(ConflictError) as caught, mapped("anything"):
        raise ConflictError("mine")
    assert caught.value.where is None


@pytest.fixture
def bucket(acct: Account) -> Account:
    acct.aws.s3.create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return acct


def _keys(acct: Account) -> list[str]:
    return [item["Key"] for item in acct.aws.s3.list_objects_v2(Bucket="state").get("Contents", ())]


def test_a_lease_is_gone_when_it_is_given_back(bucket: Account) -> None:
    with held(bucket.aws, "state", "leases/x"):
        assert _keys(bucket) == ["leases/x"]
    assert _keys(bucket) == []


def test_a_lease_is_given_back_by_a_block_that_fails(bucket: Account) -> None:
    with pytest.raises(ConflictError), held(bucket.aws, "state", "leases/x"):
        raise ConflictError("no")
    assert _keys(bucket) == []


def test_a_dead_holders_lease_is_taken_over_after_ten_seconds(bucket: Account) -> None:
    bucket.aws.s3.put_object(Bucket="state", Key="leases/x", Body=b"dead")
    started = bucket.clock.now
    with held(bucket.aws, "state", "leases/x"):
        assert 10 <= bucket.clock.now - started < 20
    assert _keys(bucket) == []


def test_a_lease_that_changes_hands_is_not_taken_for_dead(bucket: Account) -> None:
    """Every time we look, another holder has it: a living queue is waited for, not pushed aside."""
    turn = 0

    def next_holder(**_: Any) -> None:
        nonlocal turn
        turn += 1
        if turn < 30:
            bucket.aws.s3.put_object(Bucket="state", Key="leases/x", Body=str(turn).encode())

    bucket.aws.s3.put_object(Bucket="state", Key="leases/x", Body=b"0")
    bucket.aws.s3.meta.events.register_last("after-call.s3.HeadObject", next_holder, "queue")
    try:
        with held(bucket.aws, "state", "leases/x"):
            assert turn >= 30
    finally:
        bucket.aws.s3.meta.events.unregister("after-call.s3.HeadObject", next_holder, "queue")


def test_without_a_state_bucket_there_is_nothing_to_hold(acct: Account) -> None:
    with held(acct.aws, "absent", "leases/x"):
        pass
