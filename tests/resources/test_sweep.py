"""Every API call fails once: whatever it was, the same command run again ends where an undisturbed one does.

Three faults, at every call that matters: the call is refused; it took effect and the answer was lost; the process died on the way.
Answers are lost on `init` and `update` of an image's function: on the others such a fault leaves what a death or a refusal leaves, and time is
short.
A death between two reads leaves what the death before the next write leaves, so it is tried at writes and after the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from scar.errors import ScarError
from scar.fdl.model import Deployment
from tests.support.account import READS, Account, FakeImage, FakeZip, Killed, dump_account, function, killed, refused
from tests.support.deploying import init, rm


def lost(_: str) -> Exception:
    return ReadTimeoutError(endpoint_url="https://aws.example")


@dataclass(frozen=True)
class Journey:
    """What was there before, and the command that is disturbed."""

    name: str
    before: Callable[[Account], None]
    command: Callable[[Account], object]
    answers_lost: bool = False


def _nothing(_: Account) -> None: ...


def _deployed(acct: Account) -> None:
    init(acct.aws, function(tags={"team": "a"}))


def _init(acct: Account) -> object:
    return init(acct.aws, function(tags={"team": "a"}), threads=1)


def _edit(acct: Account) -> object:
    """Memory, input bucket, image and tags: everything an update can have to do."""
    edited = function(memory=1024, inputs=("films/in",), tags={"crew": "b"}, environment={"A": "1"})
    return init(acct.aws, edited, FakeImage("2"), threads=1)


def _rm(acct: Account) -> object:
    return rm(acct.aws, threads=1)


def _zip_deployed(acct: Account) -> None:
    init(acct.aws, function(runtime="python3.13"), FakeZip())


def _zip_edit(acct: Account) -> object:
    """Other layers, one of them kept, and the zip beside them."""
    return init(
        acct.aws, function(runtime="python3.13"), FakeZip("2", (b"layer", b"another"), through_bucket=True), threads=1
    )


def _zip_elsewhere(acct: Account) -> object:
    """Everything moves to a bucket of the user's."""
    fn = function(runtime="python3.13", deployment=Deployment(bucket="mine"))
    return init(acct.aws, fn, FakeZip("2", kept_in="mine"), threads=1)


JOURNEYS = [
    Journey("init", _nothing, _init, answers_lost=True),
    Journey("update", _deployed, _edit, answers_lost=True),
    Journey("rm", _deployed, _rm),
    Journey("update of a zip", _zip_deployed, _zip_edit),
    Journey("zip to another bucket", _zip_deployed, _zip_elsewhere),
    Journey("rm of a zip", _zip_deployed, _rm),
]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
def test_after_any_single_fault_the_same_command_finishes(journey: Journey, acct: Account) -> None:
    """CL1"""
    calls, wanted = _undisturbed(journey, acct)
    first_write = next(at for at, (_, name) in enumerate(calls, 1) if _writes(name))
    for at, (service, name) in enumerate(calls, 1):
        if at >= first_write - 1:  # any read before that leaves the account as it was
            _disturbed(journey, acct, at, "before", refused, wanted, f"{service} {name} refused")
        if _writes(name) and journey.answers_lost:
            _disturbed(journey, acct, at, "after", lost, wanted, f"{service} {name} answer lost")
        if _writes(name):
            _disturbed(journey, acct, at, "before", killed, wanted, f"{service} {name} killed before")
    _disturbed(journey, acct, len(calls), "after", killed, wanted, "killed at the end")


def _undisturbed(journey: Journey, acct: Account) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    journey.before(acct)
    acct.wire.clear()
    journey.command(acct)
    return list(acct.wire.calls), dump_account()


def _disturbed(
    journey: Journey, acct: Account, at: int, when: str, fault: Any, wanted: dict[str, Any], what: str
) -> None:
    acct.reset()
    journey.before(acct)
    acct.wire.plant(at, when, fault)
    with suppress(ScarError, Killed):
        journey.command(acct)
    acct.wire.clear()
    journey.command(acct)
    assert dump_account() == wanted, f"{journey.name}: call {at}: {what}"
    if fault is killed:
        acct.wire.clear()
        journey.command(acct)
        assert acct.wire.writes == [], f"{journey.name}: call {at}: {what}: a third run writes"


def _writes(name: str) -> bool:
    return not name.startswith(READS)


def test_rm_after_an_init_that_died_anywhere_leaves_nothing_but_the_users_bucket(acct: Account) -> None:
    """CL6"""
    _init(acct)
    writes = [at for at, (_, name) in enumerate(acct.wire.calls, 1) if _writes(name)]
    for at in writes[1:]:
        acct.reset()
        acct.wire.plant(at, "before", killed)
        with suppress(Killed):
            _init(acct)
        acct.wire.clear()
        rm(acct.aws, threads=1)
        left = dump_account()
        photos = left["buckets"].pop("photos", {"notifications": {}})
        assert (photos["notifications"], [kind for kind, found in left.items() if found]) == ({}, []), f"call {at}"
