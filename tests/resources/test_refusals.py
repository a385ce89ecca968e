"""What is refused before anything is done: folders that somebody else has, and loops through what is deployed."""

from __future__ import annotations

from typing import Any

import pytest

from scar.commands.loops import refuse_loops
from scar.errors import ConflictError, FdlError, UsageError
from scar.fdl.model import Iam
from scar.plan.diff import Plan
from scar.plan.neighbours import nodes
from scar.plan.rivals import order
from tests.support.account import ACCOUNT, REGION, Account, function, notifications
from tests.support.deploying import init, plan_init

LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:theirs"


def ordered(acct: Account, *functions: Any) -> tuple[str, ...]:
    plans: list[tuple[str, Plan]] = [(fn.name, plan_init(acct.aws, fn)) for fn in functions]
    acct.wire.clear()
    try:
        return order(acct.aws, plans)
    finally:
        assert acct.wire.writes == []


def told_of(acct: Account, kind: str, arn: str, prefix: str, events: list[str]) -> None:
    """Somebody else's entry in the bucket `photos`."""
    acct.aws.s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    acct.aws._client("sqs").create_queue(QueueName="theirs")
    item = {
        "Id": "theirs",
        f"{kind}Arn": arn,
        "Events": events,
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
    }
    configuration: Any = {f"{'LambdaFunction' if kind == 'LambdaFunction' else kind}Configurations": [item]}
    acct.aws.s3.put_bucket_notification_configuration(
        Bucket="photos", NotificationConfiguration=configuration, SkipDestinationValidation=True
    )


def test_a_folder_that_another_function_has_is_refused_with_both_names(acct: Account) -> None:
    init(acct.aws, function("first"))
    with pytest.raises(ConflictError) as refused:
        ordered(acct, function("second", inputs=("photos/in/deep",)))
    assert "tells function first of `in/*` already, which overlaps `in/deep/*` of second" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "arn", "events"),
    [("Queue", QUEUE, ["s3:ObjectCreated:Put"]), ("LambdaFunction", LAMBDA + "theirs", ["s3:ObjectCreated:*"])],
)
def test_a_folder_that_belongs_to_no_function_of_ours_is_refused_by_its_arn(
    kind: str, arn: str, events: list[str], acct: Account
) -> None:
    told_of(acct, kind, arn, "in/", events)
    with pytest.raises(ConflictError, match=arn):
        ordered(acct, function())


def test_what_does_not_overlap_is_nobodys_business(acct: Account) -> None:
    """CL5: another event, another folder."""
    told_of(acct, "Queue", QUEUE, "in/", ["s3:ObjectRemoved:*"])
    before = notifications("photos")["QueueConfigurations"]
    assert ordered(acct, function()) == ("grayify",)
    init(acct.aws, function())
    assert notifications("photos")["QueueConfigurations"] == before


def test_a_trigger_that_is_there_already_is_not_looked_at_again(acct: Account) -> None:
    init(acct.aws, function())
    plan = plan_init(acct.aws, function())
    acct.wire.clear()
    assert order(acct.aws, [("grayify", plan)]) == ("grayify",)
    assert acct.wire.calls == []


def test_who_gives_a_folder_up_goes_before_who_takes_it_and_a_swap_is_refused(acct: Account) -> None:
    """CL3: within one file, whatever the order that it has them in."""
    init(acct.aws, function("a", inputs=("photos/one",), outputs=()))
    init(acct.aws, function("b", inputs=("photos/two",), outputs=()))
    taking = function("b", inputs=("photos/one",), outputs=())
    giving = function("a", inputs=("photos/three",), outputs=())
    names = ordered(acct, taking, giving)
    assert names == ("a", "b")
    with pytest.raises(ConflictError, match="would take each other's folders at once"):
        ordered(acct, taking, function("a", inputs=("photos/two",), outputs=()))
    for fn in (giving, taking):
        init(acct.aws, fn)
    assert len(notifications("photos")["LambdaFunctionConfigurations"]) == 2


def test_the_entry_of_a_function_of_ours_that_is_gone_is_in_nobodys_way(acct: Account) -> None:
    init(acct.aws, function("gone", outputs=()))
    acct.aws.lambda_.delete_function(FunctionName="gone")
    acct.aws.s3.delete_object(Bucket=f"scar-state-{ACCOUNT}-{REGION}", Key="members/gone")
    assert ordered(acct, function("here", outputs=())) == ("here",)


@pytest.mark.parametrize(
    ("deployed", "mine"),
    [
        # over one (its own earlier self is no other), two and three functions; a folder in a folder; through Batch by its tags
        ([], function("x", inputs=("kit/a",), outputs=("kit/a/out",))),
        (
            [function("b", inputs=("kit/b",), outputs=("kit/a",))],
            function("x", inputs=("kit/a",), outputs=("kit/b/deep",)),
        ),
        (
            [
                function("b", inputs=("kit/b",), outputs=("other/c",)),
                function("c", inputs=("other",), outputs=("kit/a/deep",)),
            ],
            function("x", inputs=("kit/a",), outputs=("kit/b",)),
        ),
    ],
)
def test_a_loop_through_what_is_deployed_is_refused_before_anything_is_done(
    deployed: list[Any], mine: Any, acct: Account
) -> None:
    """CL24"""
    for fn in deployed:
        init(acct.aws, fn)
    acct.wire.clear()
    with pytest.raises(FdlError) as refused:
        refuse_loops(acct.aws, [mine])
    assert acct.wire.writes == []
    told = str(refused.value)
    assert "lambda.output[0].path: the function" in told
    assert all(f"(of {fn.name}, which is deployed)" in told for fn in deployed)


def test_an_edit_that_breaks_a_loop_and_filters_that_keep_it_from_being_one_are_let_through(acct: Account) -> None:
    from scar.fdl.model import Io

    init(acct.aws, function("x", inputs=("kit/a",), outputs=("kit/a",)))  # as an older release may have left it
    refuse_loops(acct.aws, [function("x", inputs=("kit/a",), outputs=("kit/b",))])
    png = function("y", inputs=(), outputs=())
    init(acct.aws, function("x", inputs=("kit/a",), outputs=("kit/b",)))
    refuse_loops(acct.aws, [_with(png, Io(path="kit/b", suffix=(".png",)), Io(path="kit/c"))])
    with pytest.raises(FdlError):
        refuse_loops(acct.aws, [_with(png, Io(path="kit/b", suffix=(".png",)), Io(path="kit/a/x"))])


def _with(fn: Any, input_: Any, output: Any) -> Any:
    from dataclasses import replace

    return replace(fn, lambda_=replace(fn.lambda_, input=(input_,), output=(output,)))


def test_a_role_of_another_account_is_refused_before_anything_is_done(acct: Account) -> None:
    """CL17"""
    elsewhere = function(iam=Iam(role="arn:aws:iam::999999999999:role/theirs"))
    with pytest.raises(
        UsageError, match=f"of account 999999999999, but the function would be made in account {ACCOUNT}"
    ):
        plan_init(acct.aws, elsewhere)
    assert acct.wire.calls == []


def test_what_found_no_room_in_the_tags_of_a_function_is_counted(acct: Account) -> None:
    """A tag has 256 characters, and a function may have twenty outputs."""
    init(acct.aws, function("many", outputs=tuple(f"kit{n}/{'long' * 8}" for n in range(20))))
    (node,) = nodes(acct.aws)
    assert len(node.outputs) + node.hidden == 20
    assert node.hidden > 0
