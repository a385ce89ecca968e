"""What was changed by hand is told from an edit of the definition, and nobody is accused of what nobody did (CL9)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from scar.aws import tags
from scar.design import Site, design
from scar.fdl.model import Function
from scar.plan.diff import Plan, diff
from scar.plan.listing import functions
from scar.plan.observe import observe
from scar.plan.owned import strays
from scar.plan.settled import note, note_of, settle, told
from tests.support.account import Account, FakeImage, Killed, function, killed
from tests.support.deploying import init


def planned(acct: Account, fn: Function) -> Plan:
    desired = design(fn, Site.of(acct.aws), FakeImage())
    actual = observe(acct.aws, [*desired, *strays(acct.aws, fn.name, desired)], threads=1)
    return told(diff(desired, actual), actual)


def settled(acct: Account, fn: Function) -> None:
    """What `scar init` does."""
    init(acct.aws, fn, threads=1)
    desired = design(fn, Site.of(acct.aws), FakeImage())
    settle(acct.aws, fn.name, desired, note_of(observe(acct.aws, desired, threads=1)))


def by_hand(acct: Account) -> None:
    acct.aws.lambda_.update_function_configuration(FunctionName="grayify", MemorySize=128)
    acct.aws.logs.delete_log_group(logGroupName="/aws/lambda/grayify")


def test_what_was_changed_or_removed_by_hand_is_said_to_be(acct: Account) -> None:
    """CL9"""
    settled(acct, function())
    by_hand(acct)
    assert str(planned(acct, function())).splitlines() == [
        "+ log group /aws/lambda/grayify  (removed by hand)",
        "~ function grayify  memory_mib: 128 → 512  (changed by hand)",
    ]


def test_an_edit_is_no_change_by_hand_and_beside_one_each_is_told_for_what_it_is(acct: Account) -> None:
    """CL9"""
    settled(acct, function())
    acct.aws.logs.put_retention_policy(logGroupName="/aws/lambda/grayify", retentionInDays=1)
    assert str(planned(acct, function(memory=1024))).splitlines() == [
        "~ log group /aws/lambda/grayify  retention_days: 1 → 30  (changed by hand)",
        "~ function grayify  memory_mib: 512 → 1024",
    ]


def test_the_list_of_functions_tells_of_one_that_was_changed_by_hand_without_another_call(acct: Account) -> None:
    """CL9"""
    settled(acct, function())
    settled(acct, function("other"))
    acct.wire.clear()
    assert [each.changed_by_hand for each in functions(acct.aws)] == [False, False]
    calls = len(acct.wire.calls)
    by_hand(acct)
    acct.wire.clear()
    assert [(each.name, each.changed_by_hand) for each in functions(acct.aws)] == [("grayify", True), ("other", False)]
    assert len(acct.wire.calls) == calls


@pytest.mark.parametrize("at", range(5, 30, 6))
def test_an_init_that_was_cut_short_accuses_nobody(at: int, acct: Account) -> None:
    acct.wire.plant(at, "before", killed)
    with suppress(Killed):
        settled(acct, function())
    acct.wire.clear()
    assert not [step for step in planned(acct, function()).steps if step.by_hand]


def test_a_function_that_is_gone_meanwhile_needs_no_note(acct: Account) -> None:
    settle(acct.aws, "nobody", design(function("nobody"), Site.of(acct.aws), FakeImage()), "")
    assert acct.wire.writes == []


def test_a_second_init_writes_no_note(acct: Account) -> None:
    settled(acct, function())
    acct.wire.clear()
    settled(acct, function())
    assert acct.wire.writes == []


def test_the_note_is_no_difference_to_any_plan_and_fits_a_tag_however_much_there_is(acct: Account) -> None:
    settled(acct, function())
    (found,) = acct.aws.tagging.get_resources(ResourceTypeFilters=["lambda:function"])["ResourceTagMappingList"]
    assert 30 < len({tag["Key"]: tag["Value"] for tag in found["Tags"]}[tags.SETTLED]) <= tags.VALUE_CHARS
    assert not planned(acct, function())
    many = function(inputs=tuple(f"kit{n}/in" for n in range(20)), outputs=tuple(f"out{n}" for n in range(20)))
    assert tags.VALUE_CHARS - 4 < len(note(design(many, Site.of(acct.aws), FakeImage()), "123456")) <= tags.VALUE_CHARS
