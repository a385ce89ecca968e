"""Events as S3 may deliver them: twice, hours late, in another order than the uploads, for objects that are no more."""

from __future__ import annotations

import json
import threading

import pytest

from tests.chaos.choice import Choice
from tests.chaos.oracles import PutCount
from tests.chaos.storming import MODES, WITHIN_S, Deployed, wait_for

ONCE = ("both", "heavy")  # what has a ledger


def runs(deployed: Deployed, name: str) -> int:
    """How many invocations of a function there were."""
    functions = deployed.storm.local.now()["functions"]["functions"]
    return sum(int(told["runs"]) for arn, told in functions.items() if arn.endswith(f":{name}"))


def versions(deployed: Deployed, name: str, key: str) -> int:
    return PutCount(deployed.storm.local.client, f"bucket-{name}").versions(f"out/{key}.")[f"out/{key}.out"]


@pytest.mark.parametrize("name", MODES)
def test_an_event_that_comes_at_once_and_later_again_has_one_effect(deployed: Deployed, name: str) -> None:
    """EV5: published once where there is a ledger; in mode `lambda` the same bytes again."""
    world = deployed.world
    key = world.hidden(name, f"ev5-{name}", text="of the only upload")
    event = world.event(name, key)
    threads = [threading.Thread(target=world.deliver, args=(name, event)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deployed.until_quiet()
    for _ in range(2):
        world.deliver(name, event)
    deployed.until_quiet()
    assert world.output(name, f"ev5-{name}") == "of the only upload"
    assert (
        versions(deployed, name, f"ev5-{name}") == 1
        if name in ONCE
        else 1 <= versions(deployed, name, f"ev5-{name}") <= 5
    )
    if name == "heavy":
        assert len(world.jobs(name, key)) == 1


@pytest.mark.parametrize("name", MODES)
def test_an_event_that_comes_after_a_newer_one_changes_nothing(deployed: Deployed, name: str) -> None:
    """EV6: delivered in the other order, the older one months after it happened."""
    world = deployed.world
    events = []
    for text, sequencer in (("older", "0055AED6DCD90281E5"), ("newer", "0055AED6DCD90281E6")):
        key = world.hidden(name, f"ev6-{name}", text=text)
        events.append(world.event(name, key, sequencer=sequencer))
    for event in reversed(events):
        world.deliver(name, event)
        deployed.until_quiet()
        assert world.output(name, f"ev6-{name}") == "newer"
    assert versions(deployed, name, f"ev6-{name}") == 1


def test_a_removal_starts_nothing_and_what_is_no_more_is_told_and_not_tried_for_ever(deployed: Deployed) -> None:
    """EV7, XF4: of a version that was deleted before its event came, three attempts and a failed event with the object's name."""
    world, s3 = deployed.world, deployed.storm.local.client("s3")
    key = world.hidden("plain", "ev7", text="gone")
    event = world.event("plain", key)
    version = json.loads(event)["Records"][0]["s3"]["object"]["versionId"]
    before = runs(deployed, "plain")
    world.put("plain", "ev7-marked", text="removed by a marker")
    deployed.until_quiet()
    s3.delete_object(Bucket="bucket-plain", Key="in/ev7-marked.json")
    s3.delete_object(Bucket="bucket-plain", Key=key, VersionId=version)
    deployed.until_quiet()
    assert runs(deployed, "plain") == before + 1
    known = len(deployed.storm.local.given_up())
    request = world.deliver("plain", event)
    wait_for(
        "the event's end", lambda: len(deployed.storm.local.given_up()) > known, lambda: deployed.storm.story, WITHIN_S
    )
    (failed,) = [item for item in deployed.storm.local.given_up() if item["request_id"] == request]
    assert key in failed["reason"]
    assert runs(deployed, "plain") == before + 1 + 3
    assert world.output("plain", "ev7") is None


@pytest.mark.parametrize("name", ["plain", "both"])
def test_of_a_key_that_is_written_again_and_again_the_newest_stays(
    deployed: Deployed, name: str, choice: Choice
) -> None:
    """EV6: whatever their order, every upload is one run at most that writes, and the last word is the last upload's."""
    count = 60 if choice.whole else 8
    key = f"burst-{name}"
    for number in range(count):
        deployed.world.put(name, key, text=str(number))
    deployed.until_quiet()
    assert deployed.world.output(name, key) == str(count - 1)
    assert 1 <= versions(deployed, name, key) <= count
