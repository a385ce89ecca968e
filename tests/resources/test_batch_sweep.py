"""Every call about Batch fails once: whatever it was, the same command run again ends where an undisturbed one does (CL1, CL6).

Three faults: the call is refused; it took effect and the answer was lost; the process died before it. All three are tried where a function
is made; elsewhere only the death, which leaves what a refusal leaves, and less.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from scar.errors import ScarError
from tests.resources.batch_bench import dump, make, nothing, remove
from tests.support.account import READS, Account, Killed, batch_function, killed, refused
from tests.support.batch_account import SUBNETS

SHARED = {"shared": "gpu"}


def lost(_: str) -> Exception:
    return ReadTimeoutError(endpoint_url="https://aws.example")


@dataclass(frozen=True)
class Journey:
    """What was there before, and the command that is disturbed."""

    name: str
    before: Callable[[Account], object]
    command: Callable[[Account], object]
    all_faults: bool = False


def _nothing(_: Account) -> None: ...


def _made(acct: Account) -> object:
    return make(acct.aws, batch_function(tags={"team": "a"}))


def _edited(acct: Account) -> object:
    """The machines, the queue and the definition change, and so do the tags: everything that an update can have to do."""
    edit = {"max_v_cpus": 8, "subnets": SUBNETS, "priority": 3, "memory": 2048}
    return make(acct.aws, batch_function(batch=edit, tags={"crew": "b"}))


def _moved(acct: Account) -> object:
    """From a place of its own to one that is shared."""
    return make(acct.aws, batch_function(batch=SHARED))


def _removed(acct: Account) -> object:
    return remove(acct.aws)


def _shared_with_another(acct: Account) -> None:
    make(acct.aws, batch_function("other", batch=SHARED))
    make(acct.aws, batch_function(batch=SHARED))


def _last_of_a_shared_place(acct: Account) -> None:
    make(acct.aws, batch_function(batch=SHARED))


JOURNEYS = [
    Journey("init", _nothing, _made, all_faults=True),
    Journey("update", _made, _edited),
    Journey("move", _made, _moved),
    Journey("rm of the last that shares", _last_of_a_shared_place, _removed),
    Journey("rm of one that shares", _shared_with_another, _removed),
]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
def test_after_any_single_fault_the_same_command_finishes(journey: Journey, acct: Account) -> None:
    journey.before(acct)
    acct.wire.clear()
    journey.command(acct)
    calls, wanted = list(acct.wire.calls), dump(acct)
    first_write = next(at for at, call in enumerate(calls, 1) if _writes(call))
    for at, call in enumerate(calls, 1):
        if at < first_write - 1:  # a read before that leaves the account as it was
            continue
        if journey.all_faults and call[0] == "s3":  # test_sweep has them
            continue
        writes = _writes(call)
        if journey.all_faults and calls[at - 2] != call:  # polls that are alike leave what the first leaves
            _disturbed(journey, acct, at, "before", refused, wanted, call)
        if journey.all_faults and writes:
            _disturbed(journey, acct, at, "after", lost, wanted, call)
        if writes:
            _disturbed(journey, acct, at, "before", killed, wanted, call)


def _disturbed(
    journey: Journey, acct: Account, at: int, when: str, fault: Any, wanted: object, call: tuple[str, str]
) -> None:
    acct.reset()
    journey.before(acct)
    acct.wire.plant(at, when, fault)
    with suppress(ScarError, Killed):
        journey.command(acct)
    acct.wire.clear()
    journey.command(acct)
    assert dump(acct) == wanted, f"{journey.name}: call {at}: {call} {when} {fault.__name__}"
    if fault is killed and journey.all_faults:
        acct.wire.clear()
        journey.command(acct)
        assert acct.wire.writes == [], f"{journey.name}: call {at}: {call} {when} {fault.__name__}: a third run writes"


def _writes(call: tuple[str, str]) -> bool:
    return not call[1].startswith(READS)


def test_rm_after_an_init_that_died_anywhere_leaves_nothing(acct: Account) -> None:
    """Of a shared place: it has all that a place of one's own has, and the mark."""
    fn = batch_function(batch=SHARED)
    make(acct.aws, fn)
    for at in [at for at, call in enumerate(acct.wire.calls, 1) if _writes(call)]:
        acct.reset()
        acct.wire.plant(at, "before", killed)
        with suppress(Killed):
            make(acct.aws, fn)
        acct.wire.clear()
        remove(acct.aws)
        left = dump(acct)
        # A bucket whose making was broken off may stay: nothing in it says whose it is, and the next init goes on with it.
        assert not any(found for kind, found in left.items() if kind != "buckets"), f"call {at}"
        assert not any(left["buckets"].values()), f"call {at}"


def test_nothing_is_left_of_a_function_that_was_removed(acct: Account) -> None:
    make(acct.aws, batch_function())
    remove(acct.aws)
    assert nothing(acct)
