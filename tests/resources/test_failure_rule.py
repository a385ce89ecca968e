"""The rule by which a function's failures come back to it: made whole wherever it was left, and gone with nothing of it left."""

from __future__ import annotations

import pytest

from scar.aws.resources.failure_rule import FailureRule
from scar.errors import ConflictError
from tests.support.account import ACCOUNT, REGION, Account, Killed, function, killed
from tests.support.deploying import init

NAME = "scar-grayify.failures"
RULE = FailureRule(
    name=NAME,
    arn=f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{NAME}",
    function="grayify",
    function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:grayify",
    tags=(("createdby", "scar"), ("scar:function", "grayify")),
)


@pytest.fixture
def there(acct: Account) -> Account:
    init(acct.aws, function(inputs=()))
    acct.wire.clear()
    return acct


def test_killed_before_any_call_it_is_finished_by_the_next_run_and_then_nothing_differs(there: Account) -> None:
    for at in range(1, 20):
        there.wire.plant(at, "before", killed)
        try:
            RULE.create(there.aws)
        except Killed:
            there.wire.clear()
            left = RULE.read(there.aws)
            if left is None:
                RULE.create(there.aws)
            elif left != RULE:
                RULE.update(there.aws, left)
            assert RULE.read(there.aws) == RULE
            RULE.delete(there.aws)
            assert RULE.read(there.aws) is None
        else:
            there.wire.clear()
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("harm", ["target", "pattern", "leave"])
def test_what_was_taken_from_it_is_put_back(harm: str, there: Account) -> None:
    RULE.create(there.aws)
    if harm == "target":
        there.aws.events.remove_targets(Rule=NAME, Ids=["function"])
    elif harm == "pattern":
        there.aws.events.put_rule(Name=NAME, EventPattern='{"source": ["mine"]}')
    else:
        there.aws.lambda_.remove_permission(FunctionName="grayify", StatementId="scar-failures")
    actual = RULE.read(there.aws)
    assert actual is not None
    assert not actual.whole
    RULE.update(there.aws, actual)
    assert RULE.read(there.aws) == RULE


def test_a_rule_of_that_name_that_is_not_ours_is_not_touched(there: Account) -> None:
    there.aws.events.put_rule(Name=NAME, EventPattern='{"source": ["mine"]}')
    with pytest.raises(ConflictError, match="was not made by scar"):
        RULE.create(there.aws)
    assert there.aws.events.describe_rule(Name=NAME)["EventPattern"] == '{"source": ["mine"]}'


def test_removing_it_twice_leaves_no_leave_to_invoke(there: Account) -> None:
    RULE.create(there.aws)
    RULE.delete(there.aws)
    RULE.delete(there.aws)
    assert there.aws.events.list_rules()["Rules"] == []
