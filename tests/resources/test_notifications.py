"""A bucket's notifications are everyone's: ours come and go, the others' stay byte for byte."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from scar.aws.clients import Access, Aws
from scar.aws.resources.notification import Entry, Notification
from scar.design import Site, design
from tests.support.account import ACCOUNT, REGION, Account, FakeImage, function, notifications
from tests.support.deploying import init, plan_init, rm

LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"

FOREIGN: dict[str, Any] = {
    "QueueConfigurations": [
        {
            "Id": "their-queue",
            "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:theirs",
            "Events": ["s3:ObjectRemoved:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".log"}]}},
        }
    ],
    "TopicConfigurations": [
        {
            "Id": "scar-grayify-notours",
            "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:theirs",
            "Events": ["s3:ReducedRedundancyLostObject"],
        }
    ],
    "LambdaFunctionConfigurations": [
        {
            "Id": "by hand",
            "LambdaFunctionArn": LAMBDA + "grayify",
            "Events": ["s3:ObjectRemoved:Delete"],
            "Filter": {
                "Key": {"FilterRules": [{"Name": "prefix", "Value": "x/ü"}, {"Name": "suffix", "Value": ".tif"}]}
            },
        },
        {"Id": "scar-grayify-more-0123abcd", "LambdaFunctionArn": LAMBDA + "other", "Events": ["s3:ObjectTagging:*"]},
    ],
    "EventBridgeConfiguration": {},
}


@pytest.fixture
def shared(acct: Account) -> Account:
    """An account with a bucket that others have put notifications on."""
    acct.aws.s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    _destinations(acct)
    acct.aws.s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration=FOREIGN)  # type: ignore[arg-type]
    return acct


def _destinations(acct: Account) -> None:
    acct.aws._client("sqs").create_queue(QueueName="theirs")
    acct.aws._client("sns").create_topic(Name="theirs")


def _others(found: dict[str, Any]) -> str:
    ours = {"scar-grayify-" + tail for tail in _tails(found)}
    kept = [item for item in found.get("LambdaFunctionConfigurations", ()) if item["Id"] not in ours]
    return json.dumps({**found, "LambdaFunctionConfigurations": kept}, sort_keys=True)


def _tails(found: dict[str, Any]) -> set[str]:
    return {
        item["Id"].removeprefix("scar-grayify-")
        for item in found.get("LambdaFunctionConfigurations", ())
        if len(item["Id"]) == len("scar-grayify-") + 8
    }


def test_what_others_put_on_a_bucket_is_the_same_after_init_update_and_rm(shared: Account) -> None:
    """CL5"""
    before = _others(notifications("photos"))
    init(shared.aws, function())
    assert _others(notifications("photos")) == before
    init(shared.aws, function(inputs=("photos/elsewhere", "photos/third")))
    assert _others(notifications("photos")) == before
    assert len(_tails(notifications("photos"))) == 2
    rm(shared.aws)
    assert _others(notifications("photos")) == before
    assert _tails(notifications("photos")) == set()


def test_a_bucket_without_a_folder_is_watched_whole(acct: Account) -> None:
    init(acct.aws, function(inputs=("photos",), outputs=("out",)))
    (entry,) = notifications("photos")["LambdaFunctionConfigurations"]
    assert "Filter" not in entry
    assert entry["Events"] == ["s3:ObjectCreated:*"]


def test_a_folder_inside_another_gets_no_entry_of_its_own(acct: Account) -> None:
    init(acct.aws, function(inputs=("photos/a/b", "photos/a", "photos/ab"), outputs=()))
    rules = [item["Filter"]["Key"]["FilterRules"] for item in notifications("photos")["LambdaFunctionConfigurations"]]
    assert sorted(rule[0]["Value"] for rule in rules) == ["a/", "ab/"]


def test_a_bucket_that_is_no_longer_an_input_notifies_no_more(acct: Account) -> None:
    init(acct.aws, function(inputs=("photos/in", "films/in")))
    plan = plan_init(acct.aws, function(inputs=("photos/in",)))
    assert {str(step) for step in plan.steps if step.verb == "delete"} == {
        "- notification films → grayify  (in/*)",
        "- permission films → grayify",
    }
    init(acct.aws, function(inputs=("photos/in",)))
    assert notifications("films") == {}
    assert not plan_init(acct.aws, function(inputs=("photos/in",)))


def test_two_functions_on_one_bucket_do_not_see_each_other(acct: Account) -> None:
    init(acct.aws, function("one", inputs=("photos/a",), outputs=()))
    init(acct.aws, function("one-0123abcd", inputs=("photos/b",), outputs=()))
    rm(acct.aws, "one")
    (left,) = notifications("photos")["LambdaFunctionConfigurations"]
    assert left["LambdaFunctionArn"] == LAMBDA + "one-0123abcd"
    assert not plan_init(acct.aws, function("one-0123abcd", inputs=("photos/b",), outputs=()))


def test_entries_of_functions_of_ours_that_are_gone_are_cleared_away(acct: Account) -> None:
    init(acct.aws, function("gone", inputs=("photos/a",), outputs=()))
    state = f"scar-state-{ACCOUNT}-{REGION}"
    acct.aws.lambda_.delete_function(FunctionName="gone")
    acct.aws.s3.delete_object(Bucket=state, Key="members/gone")
    init(acct.aws, function("here", inputs=("photos/b",), outputs=()))
    arns = [item["LambdaFunctionArn"] for item in notifications("photos")["LambdaFunctionConfigurations"]]
    assert arns == [LAMBDA + "here"]


def test_an_entry_changed_by_hand_is_shown_and_put_right(acct: Account) -> None:
    init(acct.aws, function())
    found = notifications("photos")
    found["LambdaFunctionConfigurations"][0]["Events"] = ["s3:ObjectCreated:Put"]
    acct.aws.s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration=found)  # type: ignore[arg-type]
    assert str(plan_init(acct.aws, function())).startswith("~ notification photos → grayify  entries:")
    init(acct.aws, function())
    assert not plan_init(acct.aws, function())


def test_parallel_writers_lose_no_notification(acct: Account) -> None:
    """CL4: Eight functions come to one bucket at once, each slow between reading and writing."""
    names = [f"fn{n}" for n in range(8)]
    for name in names:
        init(acct.aws, function(name, inputs=(), outputs=("photos/out",)))
    start = Barrier(len(names))

    def add(name: str) -> None:
        aws = Aws(Access(REGION, access_key="testing", secret_key="testing"))
        aws.__dict__["account"] = ACCOUNT
        desired = design(function(name, inputs=(f"photos/{name}",)), Site.of(aws), FakeImage())
        (mine,) = [resource for resource in desired if isinstance(resource, Notification)]
        aws._session.register("before-call.s3.PutBucketNotificationConfiguration", lambda **_: _pause())
        start.wait(10)
        mine.create(aws)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(add, names))
    found = notifications("photos")["LambdaFunctionConfigurations"]
    assert sorted(item["LambdaFunctionArn"] for item in found) == [LAMBDA + name for name in names]


def _pause() -> None:
    import time

    time.sleep(0.05)


def test_a_writer_that_overwrites_ours_is_outlasted(acct: Account) -> None:
    """Someone who knows nothing of leases writes, just after us, what they had read before us."""
    init(acct.aws, function())
    (mine,) = [
        resource
        for resource in design(function(), Site.of(acct.aws), FakeImage())
        if isinstance(resource, Notification)
    ]
    changed = replace(mine, entries=(Entry("new/"),))
    overwritten: list[bool] = []

    def overwrite(**_: Any) -> None:
        if not overwritten:
            overwritten.append(True)
            acct.aws.s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration={})

    acct.aws.s3.meta.events.register_last("after-call.s3.PutBucketNotificationConfiguration", overwrite, "rival")
    try:
        changed.update(acct.aws, mine)
    finally:
        acct.aws.s3.meta.events.unregister("after-call.s3.PutBucketNotificationConfiguration", overwrite, "rival")
    assert overwritten
    assert changed.read(acct.aws) == changed
