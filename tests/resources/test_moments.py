"""What holds between any two calls, whoever else is at it, and however little AWS tells at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import boto3
import pytest

from scar.aws.clients import Access, Aws
from scar.aws.resources.notification import Notification
from scar.design import Site, design
from scar.errors import ScarError
from scar.fdl.model import Io
from scar.plan.listing import functions
from tests.support.account import (
    ACCOUNT,
    READS,
    REGION,
    Account,
    FakeImage,
    dump_account,
    function,
    notifications,
    refused,
)
from tests.support.deploying import init, plan_init, rm

LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"


# -- while a function is changed ----------------------------------------------------------------------------------


def told(bucket: str, key: str) -> int:
    """How many entries tell of a key."""
    count = 0
    for item in notifications(bucket).get("LambdaFunctionConfigurations", ()):
        rules = {rule["Name"]: rule["Value"] for rule in item.get("Filter", {}).get("Key", {}).get("FilterRules", ())}
        count += key.startswith(rules.get("prefix", "")) and key.endswith(rules.get("suffix", ""))
    return count


@contextmanager
def watched(acct: Account, bucket: str, key: str) -> Iterator[set[tuple[int, bool]]]:
    """After every call that changes something: how many entries tell of the key, and whether the bucket may invoke the function."""
    seen: set[tuple[int, bool]] = set()
    client = boto3.client("lambda", REGION)

    def look(name: str) -> None:
        if not name.startswith(READS):
            seen.add((told(bucket, key), bucket in client.get_policy(FunctionName="grayify")["Policy"]))

    acct.wire.watch = look
    try:
        yield seen
    finally:
        acct.wire.watch = None


EDITS: dict[str, dict[str, Any]] = {
    "memory and environment": {"memory": 1024, "environment": {"MODE": "x"}},
    "folders and outputs": {"inputs": ("photos/in", "photos/more", "films/in"), "outputs": ("elsewhere/out",)},
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_lands_at_any_moment_of_an_update_is_told_once(edit: str, acct: Account) -> None:
    """CL3: the same folder before and after; the image changes, too."""
    init(acct.aws, function())
    with watched(acct, "photos", "in/a.jpg") as seen:
        init(acct.aws, function(**EDITS[edit]), FakeImage("2"), threads=1)
    assert seen == {(1, True)}


def test_a_folder_that_is_left_is_told_of_until_the_new_one_is(acct: Account) -> None:
    """CL3: from bucket to bucket, what lands in one of the two is told to the function at every moment."""
    init(acct.aws, function())
    seen: list[tuple[int, int]] = []

    def look(name: str) -> None:
        if name == "PutBucketNotificationConfiguration":
            seen.append((told("photos", "in/a.jpg"), told("films", "in/a.jpg")))

    acct.wire.watch = look
    try:
        init(acct.aws, function(inputs=("films/in",)), threads=1)
    finally:
        acct.wire.watch = None
    assert seen == [(1, 1), (0, 1)]


def test_filters_of_an_input_reach_s3_and_may_change(acct: Account) -> None:
    from dataclasses import replace

    fn = function()
    fn = replace(fn, lambda_=replace(fn.lambda_, input=(Io(path="photos/in", prefix=("a",), suffix=(".jpg", ".png")),)))
    init(acct.aws, fn)
    assert [told("photos", key) for key in ("in/a.jpg", "in/ab.png", "in/b.jpg", "in/a.gif")] == [1, 1, 0, 0]
    init(acct.aws, function())
    assert told("photos", "in/b.gif") == 1
    assert not plan_init(acct.aws, function())


# -- several at once ----------------------------------------------------------------------------------------------


class Hurried:
    """A clock that runs ten times as fast, so that waiting takes little time."""

    def monotonic(self) -> float:
        return time.monotonic() * 10

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 10)


def hurried_pair(acct: Account) -> tuple[list[Aws], list[Notification]]:
    """Two ways into the account, and the triggers of two functions on one bucket."""
    init(acct.aws, function("one", inputs=(), outputs=("photos/out",)))
    clients = [Aws(Access(REGION, access_key="testing", secret_key="testing"), Hurried()) for _ in range(2)]
    for aws in clients:
        aws.__dict__["account"] = ACCOUNT
    pair = [
        next(
            each
            for each in design(function(name, inputs=(f"photos/{name}",)), Site.of(acct.aws), FakeImage())
            if isinstance(each, Notification)
        )
        for name in ("one", "two")
    ]
    acct.aws.s3.put_object(Bucket=f"scar-state-{ACCOUNT}-{REGION}", Key="members/two")
    return clients, pair


def told_functions() -> list[str]:
    return sorted(item["LambdaFunctionArn"] for item in notifications("photos")["LambdaFunctionConfigurations"])


def test_fifty_pairs_of_inits_on_one_bucket_lose_no_trigger(acct: Account) -> None:
    """CL4: two functions at once, a delay between reading the bucket's triggers and writing them; others' stay as they are."""
    acct.aws._client("sqs").create_queue(QueueName="theirs")
    clients, pair = hurried_pair(acct)
    foreign: Any = [
        {"Id": "theirs", "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:theirs", "Events": ["s3:ObjectRemoved:*"]}
    ]
    for aws in clients:
        aws._session.register(
            "before-call.s3.PutBucketNotificationConfiguration", lambda **_: time.sleep(random.random() / 100)
        )
    with ThreadPoolExecutor(2) as pool:
        for _ in range(50):
            acct.aws.s3.put_bucket_notification_configuration(
                Bucket="photos", NotificationConfiguration={"QueueConfigurations": foreign}
            )
            start = threading.Barrier(2)

            def go(number: int, start: threading.Barrier = start) -> None:
                start.wait(10)
                pair[number].create(clients[number])

            list(pool.map(go, range(2)))
            assert told_functions() == [LAMBDA + "one", LAMBDA + "two"]
            assert [item["QueueArn"] for item in notifications("photos")["QueueConfigurations"]] == [
                foreign[0]["QueueArn"]
            ]


def test_one_that_is_so_slow_that_it_is_taken_for_dead_takes_no_trigger_away(acct: Account) -> None:
    """CL4: it has read, and writes only after the other has taken over its lease, has written and has looked."""
    (slow, other), pair = hurried_pair(acct)
    reading, written = threading.Event(), threading.Event()

    def linger(**_: Any) -> None:
        if not reading.is_set():
            reading.set()
            assert written.wait(30)

    slow._session.register("before-call.s3.PutBucketNotificationConfiguration", linger)
    other._session.register("after-call.s3.DeleteObject", lambda **_: written.set())  # it gives the lease back
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(pair[0].create, slow)
        assert reading.wait(30)
        pool.submit(pair[1].create, other).result(60)
        first.result(60)
    assert told_functions() == [LAMBDA + "one", LAMBDA + "two"]


# -- a page at a time ---------------------------------------------------------------------------------------------

SIZES = {
    "ListFunctions": "MaxItems",
    "GetResources": "ResourcesPerPage",
    "ListObjectsV2": "MaxKeys",
    "ListObjectVersions": "MaxKeys",
    "DescribeLogGroups": "limit",
    "ListAttachedRolePolicies": "MaxItems",
    "ListRolePolicies": "MaxItems",
    "DescribeImages": "maxResults",
}


def test_with_one_item_a_page_everything_is_seen_and_goes(acct: Account) -> None:
    """CL10"""

    def one_a_page(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name in SIZES:
            params[SIZES[model.name]] = 1

    for name in ("one", "two", "three"):
        init(acct.aws, function(name, inputs=(f"photos/{name}",)))
        for number in range(3):
            acct.aws.s3.put_object(Bucket=f"scar-state-{ACCOUNT}-{REGION}", Key=f"functions/{name}/{number}")
    clients: Any = (acct.aws.s3, acct.aws.lambda_, acct.aws.tagging, acct.aws.logs, acct.aws.iam, acct.aws.ecr)
    for client in clients:
        client.meta.events.register("before-parameter-build", one_a_page, unique_id="one-a-page")
    acct.wire.clear()
    try:
        assert [each.name for each in functions(acct.aws)] == ["one", "three", "two"]
        assert acct.wire.count()["GetResources"] >= 3
        for name in ("one", "two", "three"):
            assert not plan_init(acct.aws, function(name, inputs=(f"photos/{name}",)))
            rm(acct.aws, name)
    finally:
        for client in clients:
            client.meta.events.unregister("before-parameter-build", unique_id="one-a-page")
    assert [kind for kind, found in dump_account().items() if found] == ["buckets"]
    assert list(dump_account()["buckets"]) == ["photos"]


def test_of_three_functions_the_middle_one_fails_and_the_same_command_does_the_rest(acct: Account) -> None:
    """CL23: what was made before stands, and nothing is made twice."""
    chain = [function(name, inputs=(f"photos/{n}",), outputs=(f"photos/{n + 1}",)) for n, name in enumerate("abc")]
    for fn in chain:
        init(acct.aws, fn)
    wanted = dump_account()
    acct.reset()
    init(acct.aws, chain[0])
    acct.wire.plant(12, "before", refused)
    with suppress(ScarError):
        init(acct.aws, chain[1], threads=1)
    acct.wire.clear()
    assert "b" not in dump_account()["functions"] or plan_init(acct.aws, chain[1])
    acct.wire.clear()
    assert not plan_init(acct.aws, chain[0])
    for fn in chain[1:]:
        init(acct.aws, fn)
    assert dump_account() == wanted
