"""Each step of the ledger's protocol by itself: who may run, who hands over, who has nothing to do, and who has lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from faassupervisor.contract import job_name
from faassupervisor.ledger import (
    Ambiguous,
    Busy,
    Claim,
    Entry,
    EntryGone,
    HandOver,
    Ledger,
    LedgerUnreachable,
    LedgerUnreadable,
    Lost,
    Proceed,
    Settled,
    Taken,
    identity,
    identity_of_request,
)

RUN = "c" * 64
LEASE_S = 930.0


@dataclass
class Objects:
    """A store in memory. `faults` are taken one a request: `lost` (stored, no answer), `dropped` (neither), `412` (stored, but 412), `409`."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def read(self, run: str) -> tuple[bytes, str] | None:
        self.asked.append("read")
        body = self.bodies.get(run)
        return None if body is None else (body, body.hex())

    def create(self, run: str, body: bytes) -> str:
        return self._write("create", run, body, None)

    def replace(self, run: str, body: bytes, etag: str) -> str:
        return self._write("replace", run, body, etag)

    def _write(self, what: str, run: str, body: bytes, etag: str | None) -> str:
        self.asked.append(what)
        fault = self.faults.pop(0) if self.faults else ""
        there = self.bodies.get(run)
        if fault == "dropped":
            raise Ambiguous("connection reset")
        if fault == "409" or (None if there is None else there.hex()) != etag:
            raise Taken
        self.bodies[run] = body
        if fault == "lost":
            raise Ambiguous("read timed out")
        if fault == "412":
            raise Taken
        return body.hex()


class Lab:
    """One function's ledger, and a clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.objects, self.now, self.slept = Objects(), 1000.0, 0.0
        self.ledger = Ledger(self.objects, "thumbs", clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def claim(self, owner: str = "r1", mode: Any = "lambda-batch", **more: Any) -> Any:
        return self.ledger.claim(RUN, owner=owner, request_id=owner, lease_s=LEASE_S, key="in/a.jpg", mode=mode, **more)

    def proceeds(self, owner: str = "r1") -> Claim:
        got = self.claim(owner)
        assert isinstance(got, Proceed)
        return got.claim

    def delegated(self, job_id: str = "j1") -> Entry:
        got = self.claim(mode="batch")
        assert isinstance(got, HandOver)
        got.claim.delegated(job_id)
        return got.claim.entry

    def job(self, job_id: str = "j1", *, epoch: int = 1, attempt: int = 1) -> Any:
        return self.ledger.claim_job(RUN, epoch=epoch, job_id=job_id, attempt=attempt, lease_s=900)

    def running_job(self, job_id: str = "j1", **more: Any) -> Claim:
        got = self.job(job_id, **more)
        assert isinstance(got, Proceed)
        return got.claim

    @property
    def entry(self) -> Entry:
        found = self.ledger.read(RUN)
        assert found is not None
        return found


@pytest.fixture
def lab() -> Lab:
    return Lab()


# In Lambda


def test_a_new_record_runs_here_and_costs_three_writes(lab: Lab) -> None:
    claim = lab.proceeds()
    assert (claim.entry.state, claim.entry.attempt, claim.entry.lease_until) == ("running", 1, 1000 + LEASE_S)
    claim.publishing()
    claim.done()
    assert lab.objects.asked == ["create", "replace", "replace"]
    assert (lab.entry.state, lab.entry.exit_code) == ("done", 0)


def test_a_record_that_is_done_is_settled(lab: Lab) -> None:  # TM11
    claim = lab.proceeds()
    claim.publishing()
    claim.done()
    for owner in ("r1", "r2"):
        assert isinstance(lab.claim(owner), Settled)


def test_a_duplicate_has_to_come_again_while_the_first_runs(lab: Lab) -> None:
    lab.proceeds("r1")
    got = lab.claim("r2")
    assert isinstance(got, Busy) and got.entry.owner == "r1"


def test_the_retry_of_a_leg_that_was_killed_hands_over_at_once(lab: Lab) -> None:  # TM9, TM15
    lab.proceeds("r1")
    got = lab.claim("r1")
    assert isinstance(got, HandOver) and got.claim.fresh
    assert got.claim.delegating() == job_name("thumbs", RUN, 1)


def test_another_event_hands_over_what_a_dead_owner_left(lab: Lab) -> None:  # TM9
    lab.proceeds("r1")
    lab.now += LEASE_S
    assert isinstance(lab.claim("r2"), HandOver)


def test_a_leg_that_was_overtaken_learns_it_before_it_publishes(lab: Lab) -> None:  # TM3
    first = lab.proceeds("r1")
    lab.claim("r1")
    with pytest.raises(Lost) as lost:
        first.publishing()
    assert lost.value.entry is not None and lost.value.entry.state == "delegating"


@pytest.mark.parametrize("step", ["publishing", "failed", "delegating", "renew"])
def test_a_leg_that_was_overtaken_writes_nothing_any_more(lab: Lab, step: str) -> None:
    first = lab.proceeds("r1")
    lab.claim("r1").claim.delegated("j1")
    before = lab.entry
    steps: dict[str, Any] = {
        "publishing": first.publishing,
        "failed": lambda: first.failed(3, "exit code 3"),
        "delegating": first.delegating,
        "renew": lambda: first.renew(LEASE_S),
    }
    with pytest.raises(Lost):
        steps[step]()
    assert lab.entry == before


def test_a_script_that_failed_runs_again_with_the_next_attempt(lab: Lab) -> None:
    lab.proceeds().failed(3, "exit code 3")
    assert (lab.entry.state, lab.entry.exit_code, lab.entry.reason) == ("failed", 3, "exit code 3")
    claim = lab.proceeds()
    assert claim.entry.attempt == 2 and claim.entry.exit_code is None and claim.entry.reason == ""


def test_the_on_failure_path_leaves_a_script_that_failed_alone(lab: Lab) -> None:
    lab.proceeds().failed(3, "exit code 3")
    assert isinstance(lab.claim(killed=True), Settled)


def test_the_on_failure_path_hands_over_what_never_started(lab: Lab) -> None:
    assert isinstance(lab.claim(killed=True), HandOver)


def test_the_on_failure_path_does_not_touch_another_owner_that_lives(lab: Lab) -> None:
    lab.proceeds("r2")
    assert isinstance(lab.claim("r1", killed=True), Busy)


def test_running_out_of_time_becomes_a_job_of_a_name_of_its_own(lab: Lab) -> None:  # TM2
    claim = lab.proceeds()
    assert claim.delegating() == job_name("thumbs", RUN, 1) == claim.job_name
    assert claim.fresh and claim.delegating() == claim.job_name
    claim.delegated("j1")
    assert (lab.entry.state, lab.entry.job_id, lab.entry.epoch) == ("delegated", "j1", 1)
    assert isinstance(lab.claim(), Settled)


# A publisher that is killed, or said to be


def test_a_publisher_is_not_overtaken_by_a_retry_while_it_may_live(lab: Lab) -> None:
    lab.proceeds("r1").publishing()
    assert isinstance(lab.claim("r1"), Busy)
    lab.now += LEASE_S
    assert isinstance(lab.claim("r1"), HandOver)


def test_who_comes_after_a_killed_publisher_waits_with_its_own_outputs(lab: Lab) -> None:
    lab.proceeds("r1").publishing()
    end = lab.now + LEASE_S
    got = lab.claim("r1", killed=True)
    got.claim.delegated("j1")
    job = lab.running_job()
    assert lab.now < end
    job.publishing()
    assert lab.now >= end


def test_a_publisher_wrongly_said_to_be_dead_still_ends_the_record(lab: Lab) -> None:
    first = lab.proceeds("r1")
    first.publishing()
    lab.claim("r1", killed=True).claim.delegated("j1")
    job = lab.running_job()
    first.done()
    assert lab.entry.state == "done"
    with pytest.raises(Lost):
        job.publishing()


def test_a_publisher_that_comes_too_late_does_not_end_the_record_of_another(lab: Lab) -> None:
    first = lab.proceeds("r1")
    first.publishing()
    lab.claim("r1", killed=True).claim.delegated("j1")
    lab.running_job().publishing()
    with pytest.raises(Lost):
        first.done()


# Handing over


def test_mode_batch_never_runs_here_and_costs_two_writes(lab: Lab) -> None:
    lab.delegated()
    assert lab.objects.asked == ["create", "replace"]
    assert (lab.entry.state, lab.entry.attempt, lab.entry.epoch) == ("delegated", 0, 1)


def test_an_interrupted_hand_over_goes_on_under_the_same_name(lab: Lab) -> None:  # TM10
    first = lab.claim("r1", mode="batch").claim
    again = lab.claim("r1", mode="batch").claim
    assert (again.job_name, again.epoch) == (first.job_name, 1)
    assert first.fresh and not again.fresh


def test_another_event_waits_for_a_hand_over_until_its_lease_is_over(lab: Lab) -> None:
    lab.claim("r1", mode="batch")
    assert isinstance(lab.claim("r2", mode="batch"), Busy)
    lab.now += LEASE_S
    assert lab.claim("r2", mode="batch").claim.epoch == 1


def test_a_job_that_is_faster_than_the_ledger_is_no_loss(lab: Lab) -> None:
    claim = lab.claim(mode="batch").claim
    job = lab.running_job("j1")
    claim.delegated("j1")
    assert (lab.entry.state, lab.entry.place) == ("running", "batch")
    job.publishing()
    job.done()


def test_two_legs_that_submitted_the_same_job_are_both_content(lab: Lab) -> None:
    first, second = lab.claim(mode="batch").claim, lab.claim(mode="batch").claim
    first.delegated("j1")
    second.delegated("j1")
    assert lab.entry.state == "delegated"


def test_a_hand_over_that_was_begun_anew_is_lost_to_the_older_one(lab: Lab) -> None:
    first = lab.claim(mode="batch").claim
    lab.running_job("j1")
    lab.now += 900
    assert lab.claim(mode="batch").claim.epoch == 2
    with pytest.raises(Lost):
        first.delegated("j1")


def test_a_hand_over_that_was_given_up_is_failed_and_may_be_begun_anew(lab: Lab) -> None:
    lab.claim(mode="batch").claim.failed(1, "the queue is disabled")
    assert isinstance(lab.claim(killed=True, mode="batch"), Settled)
    got = lab.claim("r2")
    assert isinstance(got, HandOver) and got.claim.epoch == 2


# In Batch


def test_a_job_runs_publishes_and_is_done(lab: Lab) -> None:
    lab.delegated()
    job = lab.running_job()
    assert (job.entry.place, job.entry.owner, job.entry.attempt) == ("batch", "j1", 1)
    job.publishing()
    job.done()
    assert (lab.entry.state, lab.entry.place) == ("done", "batch")


def test_a_second_job_of_the_same_name_has_nothing_to_do(lab: Lab) -> None:  # TM7
    lab.delegated()
    lab.running_job("j1")
    assert isinstance(lab.job("j2"), Settled)


def test_the_second_job_steps_in_when_the_first_is_dead(lab: Lab) -> None:
    lab.delegated()
    first = lab.running_job("j1")
    lab.now += 900
    lab.running_job("j2").publishing()
    with pytest.raises(Lost):
        first.renew(900)


def test_a_job_of_an_older_hand_over_has_nothing_to_do(lab: Lab) -> None:
    lab.delegated()
    lab.running_job("j1")
    lab.now += 900
    lab.claim(mode="batch").claim.delegated("j2")
    assert isinstance(lab.job("j1", epoch=1, attempt=2), Settled)
    assert isinstance(lab.job("j2", epoch=2), Proceed)


def test_batchs_next_attempt_takes_over_at_once_and_the_attempt_before_publishes_nothing(lab: Lab) -> None:  # BA8, BA7
    lab.delegated()
    first = lab.running_job(attempt=1)
    second = lab.running_job(attempt=2)
    assert second.entry.attempt == 2
    with pytest.raises(Lost):
        first.publishing()
    assert isinstance(lab.job(attempt=1), Settled)


def test_a_job_that_failed_is_not_run_again_by_lambda_but_by_batch(lab: Lab) -> None:  # TM16
    lab.delegated()
    lab.running_job(attempt=1).failed(3, "exit code 3")
    assert isinstance(lab.claim("r1"), Settled)
    assert isinstance(lab.claim("r2", killed=True), Settled)
    assert isinstance(lab.job("j2"), Settled)
    assert isinstance(lab.job(attempt=2), Proceed)


def test_an_event_finds_a_running_job_settled_until_its_lease_is_over(lab: Lab) -> None:  # TM11, TM17
    lab.delegated()
    job = lab.running_job()
    lab.now += 600
    job.renew(900)
    lab.now += 600
    assert isinstance(lab.claim("r2"), Settled)
    lab.now += 300
    got = lab.claim("r2")
    assert isinstance(got, HandOver) and got.claim.epoch == 2


def test_a_job_whose_function_was_removed_runs_and_publishes_nothing(lab: Lab) -> None:  # TM17
    lab.delegated()
    job = lab.running_job()
    lab.objects.bodies.clear()
    with pytest.raises(Lost) as lost:
        job.publishing()
    assert lost.value.entry is None
    with pytest.raises(EntryGone, match="the function was removed"):
        lab.job(attempt=2)


# Answers that are lost


@pytest.mark.parametrize("fault", ["lost", "dropped", "412", "409"])
@pytest.mark.parametrize("at", range(4))
def test_a_write_of_ours_is_known_as_ours_whatever_the_answer(lab: Lab, fault: str, at: int) -> None:
    lab.objects.faults = [""] * at + [fault]
    claim = lab.proceeds()
    claim.delegating()
    claim.delegated("j1")
    job = lab.running_job()
    job.publishing()
    job.done()
    assert (lab.entry.state, lab.entry.job_id, lab.entry.epoch, lab.entry.attempt) == ("done", "j1", 1, 2)
    assert lab.objects.faults == []


def test_a_write_that_was_stored_and_then_overtaken_is_lost(lab: Lab) -> None:
    first = lab.proceeds("r1")
    second = lab.claim("r1").claim
    lab.objects.faults = ["dropped"]
    with pytest.raises(Lost):
        first.publishing()
    assert lab.entry.nonce == second.entry.nonce


@pytest.mark.parametrize("step", ["publishing", "done", "renew"])
def test_a_step_that_was_given_up_in_doubt_may_be_taken_again(lab: Lab, step: str) -> None:
    lab.delegated()
    job = lab.running_job()
    steps = {"publishing": job.publishing, "done": job.done, "renew": lambda: job.renew(900)}
    lab.objects.faults = ["lost", "dropped", "dropped", "dropped"]
    with pytest.raises(LedgerUnreachable):
        steps[step]()
    steps[step]()
    job.done()
    assert lab.entry.state == "done"


def test_a_state_bucket_that_stays_silent_ends_in_a_bounded_time(lab: Lab) -> None:
    lab.objects.faults = ["dropped"] * 9
    with pytest.raises(LedgerUnreachable, match="no clear answer") as error:
        lab.claim()
    assert error.value.kind == "HandOverFailed"
    assert lab.slept < 10 and len(lab.objects.asked) == 4


# What an entry looks like


def test_an_entry_keeps_what_a_later_version_has_added(lab: Lab) -> None:
    claim = lab.proceeds()
    document = json.loads(lab.objects.bodies[RUN])
    lab.objects.bodies[RUN] = json.dumps({**document, "shard": 7}).encode()
    lab.claim(claim.entry.owner)
    assert json.loads(lab.objects.bodies[RUN])["shard"] == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema 2"),
        ({"state": "asleep"}, "'asleep'"),
        ({"lease_until": "soon"}, "a number was expected"),
        ({"owner": None, "lease_until": None}, "a number was expected"),
    ],
)
def test_an_entry_that_is_not_understood_is_refused_in_words(lab: Lab, change: dict[str, Any], said: str) -> None:
    lab.proceeds()
    lab.objects.bodies[RUN] = json.dumps({**json.loads(lab.objects.bodies[RUN]), **change}).encode()
    with pytest.raises(LedgerUnreadable, match=said):
        lab.claim("r2")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{}", b'{"schema": 1, "state": "done", "place": "batch"}'])
def test_something_else_under_an_entrys_name_is_refused(lab: Lab, body: bytes) -> None:
    lab.objects.bodies[RUN] = body
    with pytest.raises(LedgerUnreadable, match="ledger entry"):
        lab.claim()


def test_an_identity_tells_uploads_apart_and_duplicates_not() -> None:
    one = identity("f", "b", "k", "v", "s")
    assert one == identity("f", "b", "k", "v", "s")
    assert len(one) == 64 and set(one) <= set("0123456789abcdef")
    others = {
        identity(*parts) for parts in (("g", "b", "k", "v", "s"), ("f", "b", "k", "v", "s2"), ("f", "bk", "", "v", "s"))
    }
    others |= {identity_of_request("f", "r", 0), identity_of_request("f", "r", 1), identity_of_request("f", "r0", 1)}
    assert len(others | {one}) == 7
