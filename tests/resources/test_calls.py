"""How many calls a command takes. The state bucket, the role and the image's own push are counted apart."""

from __future__ import annotations

import pytest

from tests.support.account import REGION, Account, FakeImage, function
from tests.support.deploying import init, plan_init, rm

APART = {"GetRole", "CreateRole", "GetRolePolicy", "PutRolePolicy", "DeleteRole", "DeleteRolePolicy", "PutImage"}


@pytest.fixture
def settled(acct: Account) -> Account:
    """The bucket is there and so is scar's own."""
    acct.aws.s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    init(acct.aws, function("first", inputs=("photos/first",)))
    acct.wire.clear()
    return acct


def _counted(acct: Account) -> int:
    objects = {"GetObject", "HeadObject", "PutObject", "DeleteObject", "ListObjectsV2", "DeleteObjects"}
    return sum(number for name, number in acct.wire.count().items() if name not in APART | objects)


def test_init_of_a_new_function(settled: Account) -> None:
    """Twelve, and four for ECR: the repository with its rule and its policy."""
    init(settled.aws, function())
    assert _counted(settled) <= 16


def test_a_second_init_only_reads(settled: Account) -> None:
    init(settled.aws, function())
    settled.wire.clear()
    assert not plan_init(settled.aws, function())
    assert (settled.wire.writes, len(settled.wire.calls) <= 18) == ([], True)


def test_rm(settled: Account) -> None:
    init(settled.aws, function())
    settled.wire.clear()
    rm(settled.aws)
    assert _counted(settled) <= 12


def test_an_update_sends_what_differs_and_nothing_else(settled: Account) -> None:
    init(settled.aws, function())
    for edit, image, writes in [
        ({"memory": 1024}, FakeImage(), ["UpdateFunctionConfiguration"]),
        ({"memory": 1024}, FakeImage("2"), ["PutImage", "UpdateFunctionCode"]),
        ({"memory": 2048}, FakeImage("3"), ["PutImage", "UpdateFunctionCode", "UpdateFunctionConfiguration"]),
    ]:
        settled.wire.clear()
        init(settled.aws, function(**edit), image)  # type: ignore[arg-type]
        assert [name for _, name in settled.wire.writes] == writes
