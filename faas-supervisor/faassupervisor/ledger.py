"""Who may run a record, and who may publish what came of it? The ledger: one entry a record, changed by conditional writes only.

How a record goes through it (left: state of the entry; who writes it):

    running(lambda)  an invocation that runs the script. Its lease is longer than Lambda lets it live
    publishing       in time and exit code 0: the outputs go up under their final names
    done
    delegating       the script was stopped, nothing was published, a job of the name `job_name` is to be submitted. Who comes
                     upon it later goes on here: first looks for a job of that name, then submits
    delegated        the job is submitted
    running(batch)   the job runs the script; then publishing and done as above. It renews its lease while it lives
    failed           the script's own failure, or nobody can do more

Every write says which entry it replaces. Of two that reach for one entry one wins, and the other learns it before it publishes anything.
What may be done with an entry is `ledger_entry`; what the object store behind has to promise is `ledger_store`.

What is trusted: Lambda stops an invocation at its deadline; Batch starts a further attempt of a job only when the one before is over;
clocks differ by less than LAMBDA_LEASE_MARGIN_S; a job that cannot renew its lease stops (see `Claim.renew`).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from faassupervisor import contract
from faassupervisor.errors import AgentError, AlreadyRunningError, HandOverError
from faassupervisor.ledger_entry import (
    Entry,
    LedgerUnreadable,
    Place,
    State,
    for_invocation,
    for_job,
    identity,
    identity_of_request,
)
from faassupervisor.ledger_store import Ambiguous, Store, Taken

# Seen through this module
__all__ = [
    "Ambiguous",
    "Entry",
    "LedgerUnreadable",
    "Place",
    "State",
    "Store",
    "Taken",
    "identity",
    "identity_of_request",
]

LAMBDA_LEASE_MARGIN_S: Final = 30.0  # an invocation's lease is what it has left to live, and this
_LONGEST_LEASE_S: Final = (
    900.0 + LAMBDA_LEASE_MARGIN_S
)  # lambda/latest/dg/gettingstarted-limits: an invocation's timeout
JOB_LEASE_S: Final = 900.0
JOB_RENEWAL_S: Final = 300.0  # two renewals may fail before the lease is over

PAUSES_S: Final = (0.2, 0.6, 1.8)  # between tries of one request; botocore has tried several times in each
_ROUNDS: Final = 8  # how often an entry may change under our hands before we give up


class Lost(AlreadyRunningError):  # noqa: N818
    """The entry is no longer ours: publish nothing. `entry` is what is there now, None when it is gone."""

    def __init__(self, message: str, *, entry: Entry | None) -> None:
        super().__init__(message)
        self.entry = entry


class LedgerUnreachable(HandOverError):  # noqa: N818
    """The ledger does not answer, or changes faster than we can follow. The invocation fails and is tried again."""


class EntryGone(AgentError):  # noqa: N818
    """A job's entry does not exist: the function was removed, or the entry is past its retention. Nothing is run or published."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """Run the script here. `claim.entry.attempt` counts the starts of this record."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class HandOver:
    """Do not run here. The entry is `delegating` already: look for a job named `claim.delegating()`, submit it if there is none.

    With `claim.fresh` nobody can have submitted it: the hand-over was begun by this very claim.
    """

    claim: Claim


@dataclass(frozen=True, slots=True)
class Settled:
    """Done, failed for good, or in the hands of Batch: success without a run."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Busy:
    """Another owner lives and may yet die: fail, and come again."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class _Found:
    entry: Entry
    etag: str


class _Beaten(Exception):  # noqa: N818
    """A write lost to somebody else's, who left `found`."""

    def __init__(self, found: _Found | None) -> None:
        super().__init__()
        self.found = found


class Claim:
    """The right to write an entry next. Each method is one conditional write; Lost means that the right is gone.

    After LedgerUnreachable the same method may be called again. May be used by two threads: one that works and one that renews the lease.
    """

    def __init__(
        self, ledger: Ledger, run: str, found: _Found, *, fresh: bool = False, renewed_s: float | None = None
    ) -> None:
        """`renewed_s` is the lease of an owner that may live on (a job), None for one that Lambda ends."""
        self.run = run
        self.fresh = fresh
        self._renewed_s = renewed_s
        self._ledger = ledger
        self._found = found
        self._doubted: set[str] = set()
        self._lock = threading.Lock()

    @property
    def entry(self) -> Entry:
        """As this claim wrote it last."""
        return self._found.entry

    @property
    def epoch(self) -> int:
        return self.entry.epoch

    @property
    def job_name(self) -> str | None:
        return self.entry.job_name

    def publishing(self) -> None:
        """The script is done and its outputs are complete: from here on they may become visible.

        Waits for a publisher before us that may still be alive (see Entry.fence_until); that is rare.
        """
        self._ledger.wait_until(self.entry.fence_until)
        if self._renewed_s is None:
            self._write(state="publishing", exit_code=0)
            return
        self._write(state="publishing", exit_code=0, lease_until=self._ledger.clock() + self._renewed_s)
        if self.entry.lease_until <= self._ledger.clock():
            raise LedgerUnreachable(f"ledger entry {self.run}: answered when its lease was over; nothing is published")

    def done(self) -> None:
        """Everything is published. A publisher that was wrongly said to be dead still gets this through: nobody published since."""
        mine = self.entry
        with self._lock:
            found = self._found
            for _ in range(_ROUNDS):
                entry = dataclasses.replace(found.entry, state="done", place=mine.place, owner=mine.owner, exit_code=0)
                try:
                    self._found = self._ledger.put(self.run, found, entry, self._doubted)
                except _Beaten as beaten:
                    found = self._after_me(beaten.found, mine)
                else:
                    return
        raise self._ledger.restless(self.run)

    def failed(self, exit_code: int, reason: str) -> None:
        """The record ends here: by the script's own failure, or because nothing more can be done for it."""
        self._write(state="failed", exit_code=exit_code, reason=reason)

    def delegating(self) -> str:
        """Nothing was published and nothing will be: a job is to take over. Answers its name, for ever the same for this hand-over."""
        name = self.entry.job_name
        if self.entry.state != "delegating" or name is None:
            name = self._ledger.job_name(self.run, self.entry.epoch + 1)
            self._write(state="delegating", epoch=self.entry.epoch + 1, job_name=name, job_id=None, job_attempt=None)
            self.fresh = True
        return name

    def delegated(self, job_id: str) -> None:
        """The job is submitted. It may have started, or ended, before this is written; so may a twin of ours that found the same job."""
        with self._lock:
            for _ in range(_ROUNDS):
                entry = dataclasses.replace(self.entry, state="delegated", job_id=job_id)
                try:
                    self._found = self._ledger.put(self.run, self._found, entry, self._doubted)
                except _Beaten as beaten:
                    now = beaten.found
                    if now is None or now.entry.epoch != self.entry.epoch:
                        raise self._lost(now) from None
                    if now.entry.state != "delegating":
                        return
                    self._found = now
                else:
                    return
        raise self._ledger.restless(self.run)

    def renew(self, lease_s: float) -> None:
        """Still alive. A job does so every JOB_RENEWAL_S. On Lost, and when no renewal was possible until the lease is over, the owner
        stops its script and publishes nothing."""
        self._write(lease_until=self._ledger.clock() + lease_s)

    def _write(self, **changes: Any) -> None:
        with self._lock:
            try:
                entry = dataclasses.replace(self.entry, **changes)
                self._found = self._ledger.put(self.run, self._found, entry, self._doubted)
            except _Beaten as beaten:
                raise self._lost(beaten.found) from None

    def _after_me(self, found: _Found | None, mine: Entry) -> _Found:
        """What was put in place of our publication, if it still waits for us."""
        if found is None or found.entry.fence_nonce != mine.nonce:
            raise self._lost(found)
        if found.entry.state in ("publishing", "done", "failed"):
            raise self._lost(found)
        return found

    def _lost(self, found: _Found | None) -> Lost:
        entry = None if found is None else found.entry
        now = "is gone" if entry is None else f"is {entry.state} ({entry.place}, owner {entry.owner})"
        return Lost(f"ledger entry {self.run}: no longer ours, it {now}; nothing is published here", entry=entry)


class Ledger:
    """The ledger of one function."""

    def __init__(
        self,
        store: Store,
        function: str,
        *,
        clock: Callable[[], float] = time.time,
        nonce: Callable[[], str] = lambda: os.urandom(12).hex(),
        sleep: Callable[[float], None] = time.sleep,
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self._store = store
        self._function = function
        self.clock = clock
        self._nonce = nonce
        self._sleep = sleep
        self._pauses_s = pauses_s

    def claim(
        self,
        run: str,
        *,
        owner: str,
        request_id: str,
        lease_s: float,
        key: str | None,
        mode: Literal["lambda-batch", "batch"],
        killed: bool = False,
    ) -> Proceed | HandOver | Settled | Busy:
        """What the invocation `owner` is to do with the record `run`. With a Proceed or HandOver the entry is the invocation's for `lease_s`.

        `killed`: the on-failure path says that the platform ended this request without a word of ours.
        """
        found: _Found | None = None  # most records are new: try to create before asking what is there
        for _ in range(_ROUNDS):
            before = None if found is None else found.entry
            step = for_invocation(before, owner=owner, mode=mode, killed=killed, now=self.clock())
            if before is not None and step == "settled":
                return Settled(before)
            if before is not None and step == "busy":
                return Busy(before)
            entry = before or Entry("running", "lambda", owner, request_id, 0.0, key=key)
            entry = dataclasses.replace(
                entry, place="lambda", owner=owner, lease_until=self.clock() + lease_s, reason="", exit_code=None
            )
            if step == "run":
                entry = dataclasses.replace(entry, state="running", attempt=entry.attempt + 1)
            elif step == "hand over":
                entry = self._handed_over(run, entry, before)
            try:
                claim = Claim(self, run, self.put(run, found, entry), fresh=step == "hand over")
            except _Beaten as beaten:
                found = beaten.found
            else:
                return Proceed(claim) if step == "run" else HandOver(claim)
        raise self.restless(run)

    def claim_job(
        self, run: str, *, epoch: int, job_id: str, attempt: int, lease_s: float = JOB_LEASE_S
    ) -> Proceed | Settled | Busy:
        """What attempt `attempt` of a job is to do with the record it was submitted for. Raises EntryGone.

        Settled: a job of an older hand-over, a second one of the same name, or a record that is done: end with 0 and publish nothing.
        """
        for _ in range(_ROUNDS):
            found = self._find(run)
            if found is None:
                raise EntryGone(
                    f"ledger entry {run}: not there, or not for this role to read: the function was removed or the entry is past its retention; nothing is run"
                )
            before = found.entry
            step = for_job(before, epoch=epoch, job_id=job_id, attempt=attempt, now=self.clock())
            if step == "settled":
                return Settled(before)
            if step == "busy":
                return Busy(before)
            entry = dataclasses.replace(
                before,
                state="running",
                place="batch",
                owner=job_id,
                job_id=job_id,
                job_attempt=attempt,
                attempt=before.attempt + 1,
                lease_until=self.clock() + lease_s,
                reason="",
                exit_code=None,
            )
            try:
                return Proceed(Claim(self, run, self.put(run, found, entry), renewed_s=lease_s))
            except _Beaten:
                continue
        raise self.restless(run)

    def read(self, run: str) -> Entry | None:
        """The entry as it is now."""
        found = self._find(run)
        return None if found is None else found.entry

    def job_name(self, run: str, epoch: int) -> str:
        return contract.job_name(self._function, run, epoch)

    def wait_until(self, when: float) -> None:
        """Never longer than an invocation may live, nor than it is at first, though the clock is set back before or meanwhile."""
        end = time.monotonic() + min(when - self.clock(), _LONGEST_LEASE_S)
        while (left := min(when - self.clock(), end - time.monotonic())) > 0:
            self._sleep(left)

    def put(self, run: str, found: _Found | None, entry: Entry, doubted: set[str] | None = None) -> _Found:
        """Write `entry` in place of `found` (None: of nothing). Raises _Beaten with what is there instead, and LedgerUnreachable.

        After a lost answer the same bytes are sent again: if the first were stored, the second lose against them, and the nonce tells
        whose they are. `doubted` are the nonces of this claim's writes that were given up without an answer.
        """
        doubted = set() if doubted is None else doubted
        entry = dataclasses.replace(entry, nonce=self._nonce(), updated=self.clock())
        doubted.add(entry.nonce)
        body = entry.to_json()
        for pause_s in (*self._pauses_s, None):
            try:
                etag = self._store.create(run, body) if found is None else self._store.replace(run, body, found.etag)
            except Taken:
                there = self._find(run)
                if there is not None and there.entry.nonce == entry.nonce:
                    return _told(there, doubted)
                if there is not None and there.entry.nonce in doubted:
                    found = there  # what we had given up was stored after all
                elif there != found:
                    raise _Beaten(there) from None
                self._pause(run, pause_s, "a conditional write is refused though nobody else has written")
            except Ambiguous as error:
                self._pause(run, pause_s, error)
            else:
                return _told(_Found(entry, etag), doubted)
        raise AssertionError("the last pause raises")

    def restless(self, run: str) -> LedgerUnreachable:
        return LedgerUnreachable(f"ledger entry {run}: changed {_ROUNDS} times under our hands; try again")

    def _find(self, run: str) -> _Found | None:
        for pause_s in (*self._pauses_s, None):
            try:
                found = self._store.read(run)
            except Ambiguous as error:
                self._pause(run, pause_s, error)
            else:
                return None if found is None else _Found(Entry.from_json(found[0]), found[1])
        raise AssertionError("the last pause raises")

    def _pause(self, run: str, pause_s: float | None, why: object) -> None:
        if pause_s is None:
            raise LedgerUnreachable(f"ledger entry {run}: no clear answer from the state bucket: {why}")
        self._sleep(pause_s)

    def _handed_over(self, run: str, entry: Entry, before: Entry | None) -> Entry:
        epoch = entry.epoch + 1
        entry = dataclasses.replace(
            entry, state="delegating", epoch=epoch, job_name=self.job_name(run, epoch), job_id=None, job_attempt=None
        )
        if before is not None and before.state == "publishing" and before.lease_until > self.clock():
            entry = dataclasses.replace(entry, fence_until=before.lease_until, fence_nonce=before.nonce)
        return entry


def _told(found: _Found, doubted: set[str]) -> _Found:
    """A write that was answered ends all doubts about those before it."""
    doubted.clear()
    return found
