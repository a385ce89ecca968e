"""A function comes and goes: what `init`, `plan` and `rm` do to an account."""

from __future__ import annotations

from tests.support.account import Account, dump_account, function
from tests.support.deploying import init, plan_init, rm


def test_init_makes_everything_and_a_second_one_changes_nothing(acct: Account) -> None:
    """CL2"""
    init(acct.aws, function())
    acct.wire.clear()
    plan = plan_init(acct.aws, function())
    assert (str(plan), acct.wire.writes) == ("nothing to do", [])


def test_rm_leaves_the_users_bucket_and_nothing_else(acct: Account) -> None:
    """CL6"""
    init(acct.aws, function())
    rm(acct.aws)
    left = dump_account()
    assert {kind: list(found) for kind, found in left.items() if found} == {"buckets": ["photos"]}
    assert left["buckets"]["photos"]["notifications"] == {}
