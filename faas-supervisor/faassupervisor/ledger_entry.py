"""What does the ledger say about one record, and what may be done next? The pure half of the ledger: no store, no waiting.

An entry is one JSON object below `ledger/`. Who may do what with it is said by two tables, `for_invocation` and `for_job`; how it is
written is told in `ledger`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from faassupervisor.errors import HandOverError

SCHEMA: Final = 1

State = Literal["running", "publishing", "done", "delegating", "delegated", "failed"]
STATES: Final[tuple[State, ...]] = get_args(State)
Place = Literal["lambda", "batch"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)


class LedgerUnreadable(HandOverError):  # noqa: N818 - a state of the ledger, named as its siblings are
    """The object is no entry, or a later version wrote it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one record.

    `attempt` counts how often the record's script was started (SCAR_ATTEMPT). `owner` is the request id of the invocation, or the id of
    the job, that may write next; `request_id` that of the invocation which was asked first. Until `lease_until` (seconds since 1970) the
    owner counts as alive. `epoch` counts the hand-overs that were begun; `job_name`, `job_id` and `job_attempt` (AWS_BATCH_JOB_ATTEMPT)
    belong to the last one. `key` is the object's key, for people. `nonce` is new with every write: it tells a writer whose answer was lost
    that the write is its own, and keeps two writes from having the same entity tag.

    `fence_until` and `fence_nonce` remember a publisher that was said to be dead before its lease was over: who comes after it publishes
    nothing before that time, and until then that publisher may still say that it is done.

    `unknown` are fields of later versions: they are kept when the entry is written again.
    """

    state: State
    place: Place
    owner: str
    request_id: str
    lease_until: float
    attempt: int = 0
    epoch: int = 0
    job_name: str | None = None
    job_id: str | None = None
    job_attempt: int | None = None
    exit_code: int | None = None
    reason: str = ""
    key: str | None = None
    updated: float = 0.0
    nonce: str = ""
    fence_until: float = 0.0
    fence_nonce: str = ""
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "unknown"}
        return json.dumps({**self.unknown, **fields, "schema": SCHEMA}, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Entry:
        """Raises LedgerUnreadable."""
        try:
            raw = json.loads(body)
        except ValueError as error:
            raise LedgerUnreadable(f"ledger entry: not JSON: {error}") from error
        if not isinstance(raw, dict):
            raise LedgerUnreadable("ledger entry: not a JSON object")
        schema = raw.pop("schema", None)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise LedgerUnreadable(f"ledger entry: schema {schema!r}, this agent knows {SCHEMA}: run `scar init` again")
        if raw.get("state") not in STATES or raw.get("place") not in PLACES:
            raise LedgerUnreadable(f"ledger entry: state {raw.get('state')!r} in {raw.get('place')!r} is unknown")
        known = {item.name for item in dataclasses.fields(cls)} - {"unknown"}
        try:
            entry = cls(
                **{name: value for name, value in raw.items() if name in known},
                unknown={name: value for name, value in raw.items() if name not in known},
            )
        except TypeError as error:  # a field without default is missing
            raise LedgerUnreadable(f"ledger entry: {error}") from error
        for number in (entry.lease_until, entry.fence_until, entry.attempt, entry.epoch):
            if not isinstance(number, int | float):
                raise LedgerUnreadable(f"ledger entry: {number!r}: a number was expected")
        return entry


# What an invocation or a job may do with an entry. `run`: start the script. `hand over`: begin a new hand-over. `continue`: go on with
# the one that is there. `settled`: somebody else has done it or will. `busy`: somebody else is alive and may yet need us.
Step = Literal["run", "hand over", "continue", "settled", "busy"]


def for_invocation(
    entry: Entry | None, *, owner: str, mode: Literal["lambda-batch", "batch"], killed: bool, now: float
) -> Step:
    """What the invocation `owner` does with a record. `killed`: the platform says that this request's own legs are over and that one
    was killed, or none ever started; nothing of it is left to run in Lambda.

    The entry's owner is gone when its lease is over (Lambda stops a function at its deadline, and the lease is longer), or when it is the
    same request: the asynchronous retry of a leg that was killed. A duplicate of a live leg has the same request id too, though:
    what it takes over is lost to the live leg, which publishes nothing then. So only a publisher is not taken over this way.
    """
    begin: Step = "hand over" if killed or mode == "batch" else "run"
    if entry is None:
        return begin
    gone = now >= entry.lease_until
    own = entry.owner == owner
    match entry.state, entry.place:
        case ("done" | "delegated", _) | ("failed", "batch"):
            return "settled"
        case "failed", _:  # the script's own failure here, or a hand-over that was given up
            if killed:
                return "settled"
            return "hand over" if entry.epoch else begin
        case "delegating", _:
            return "continue" if own or gone else "busy"
        case _, "batch":
            return "hand over" if gone else "settled"
        case "running", _:
            return "hand over" if own or gone else "busy"
        case _:  # publishing in Lambda
            return "hand over" if gone or (own and killed) else "busy"


def for_job(entry: Entry, *, epoch: int, job_id: str, attempt: int, now: float) -> Step:
    """What attempt `attempt` of the job `job_id`, submitted for the hand-over `epoch`, does with its record.

    The first job of a hand-over that gets here is the one that counts; a second of the same name ends without a trace. Batch starts a
    further attempt only when the one before is over: it takes over without waiting for the lease.
    """
    if entry.epoch != epoch:
        return "settled"
    same = entry.job_id == job_id
    match entry.state, entry.place:
        case "done", _:
            return "settled"
        case ("delegating" | "delegated", _) | ("failed", "lambda"):
            return "run"
        case "failed", _:
            return "run" if same and attempt > (entry.job_attempt or 0) else "settled"
        case _, "batch":
            mine = attempt >= (entry.job_attempt or 0) if same else now >= entry.lease_until
            return "run" if mine else "settled"
        case _:
            return "busy"


def identity(function: str, bucket: str, key: str, version_or_etag: str, sequencer: str) -> str:
    """The one name of what happened to one object: 64 hex digits. A duplicate of an event has the same, another upload has not."""
    return _digest("object", function, bucket, key, version_or_etag, sequencer)


def identity_of_request(function: str, request_id: str, index: int) -> str:
    """The same for a record that names no object: the `index`th of the request."""
    return _digest("request", function, request_id, str(index))


def _digest(*parts: str) -> str:
    # As JSON, so that no two lists of parts become the same text.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
