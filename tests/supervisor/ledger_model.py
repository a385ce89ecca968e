"""Every order in which invocations, jobs, crashes and lost answers can meet over one ledger entry.

The programs are the real ones: `Ledger`, `Claim` and `delegate.Batch`; only the store, Batch and the clock are in memory. A program runs
until it asks the world something (`Port.ask`). The search answers in every possible way, by running the program again with one more
answer, and remembers the states it has seen. So a state is: what the store and Batch hold, and the answers each live program has got.

What is asserted in every state is in `World.check`; `search` follows all of it breadth first, so a violation's story is a shortest one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError

from faassupervisor.contract import Task
from faassupervisor.deadline import Deadline
from faassupervisor.delegate import Batch
from faassupervisor.errors import AgentError
from faassupervisor.ledger import (
    Ambiguous,
    Busy,
    Claim,
    HandOver,
    Ledger,
    LedgerUnreachable,
    Lost,
    Proceed,
    Settled,
    Taken,
)

RUN = "ab" * 32
LIFE_S = 100.0  # a tick of the clock; no invocation survives one
LEASE_S = 101.0  # an invocation's: longer than its life
JOB_LEASE_S = 150.0  # a job has to renew in every tick
Answer = tuple[Any, ...]
T = TypeVar("T")


class Violation(Exception):
    """Something happened that must not."""


class Paused(BaseException):
    """The program asks `question`, and nobody has answered yet."""

    def __init__(self, question: Answer) -> None:
        self.question = question


class Leg(NamedTuple):
    """One life of one program: an invocation (of request `owner`) or an attempt of a job (`owner` is its id)."""

    name: str
    owner: str
    mode: Literal["lambda-batch", "batch", "job"]
    killed: bool = False
    gives_up: bool = False
    epoch: int = 0
    attempt: int = 0


class Port:
    """A program's world: answers from the log, and `Paused` at its end. The client, store and clock of the real code, all at once."""

    def __init__(self, leg: Leg, log: tuple[tuple[Answer, float], ...]) -> None:
        self.leg, self._log, self._at, self._nonces, self._patience = leg, log, 0, 0, 0.0
        self.now = log[0][1]

    def ask(self, *question: Any) -> Any:
        self._at += 1
        if self._at == len(self._log):
            raise Paused(question)
        (kind, *value), self.now = self._log[self._at]
        match kind:
            case "taken":
                raise Taken
            case "ambiguous":
                raise Ambiguous
            case "timeout":
                raise ReadTimeoutError(endpoint_url="batch")
            case "500":
                raise ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "SubmitJob")
        return value[0]

    def ledger(self) -> Ledger:
        return Ledger(self, "f", clock=lambda: self.now, nonce=self.nonce, sleep=self.sleep, pauses_s=(0.1,))

    def nonce(self) -> str:
        self._nonces += 1
        return f"{self.leg.name}/{self._nonces}"

    def sleep(self, seconds: float) -> None:
        if seconds >= 1:  # else a pause between two tries
            self.ask("sleep", self.now + seconds)

    def read(self, run: str) -> tuple[bytes, str] | None:
        return self.ask("read")

    def create(self, run: str, body: bytes) -> str:
        return self.ask("write", None, body)

    def replace(self, run: str, body: bytes, etag: str) -> str:
        return self.ask("write", etag, body)

    def batch(self) -> tuple[Batch, Deadline]:
        def pause(seconds: float) -> None:
            self._patience += 25  # so that a doubt ends after two looks

        return Batch(self, "queue", "definition", pause=pause), Deadline(90, 0, clock=lambda: self._patience)  # type: ignore[arg-type]

    def submit_job(self, *, jobName: str, containerOverrides: dict[str, Any], **more: str) -> dict[str, str]:
        task = Task.from_json(containerOverrides["environment"][0]["value"])
        return {"jobId": self.ask("submit", jobName, task.epoch)}

    def close(self) -> None:
        pass

    def get_paginator(self, name: str) -> Port:
        return self

    def paginate(self, *, filters: list[dict[str, Any]], **more: str) -> list[dict[str, Any]]:
        found = self.ask("list", filters[0]["values"][0])
        return [{"jobSummaryList": [{"jobName": filters[0]["values"][0], "jobId": job} for job in found]}]


def invocation(port: Port) -> str:
    """One leg in Lambda, as the agent goes through it. Answers `success`, `failure` or `script failed`."""
    leg = port.leg
    try:
        got = port.ledger().claim(
            RUN, owner=leg.owner, request_id=leg.owner, lease_s=LEASE_S, key="k", mode=leg.mode, killed=leg.killed
        )
        match got:
            case Settled():
                return "success"
            case Busy():
                return "failure"
            case HandOver(claim) if leg.gives_up:
                claim.failed(1, "it could not be handed over")
                return "success"
            case HandOver(claim):
                return hand_over(port, claim)
            case Proceed(claim):
                return run_here(port, claim)
    except AgentError:
        return "failure"


def run_here(port: Port, claim: Claim) -> str:
    outcome = port.ask("script")
    while outcome == "alarm":
        patiently(port, lambda: claim.renew(JOB_LEASE_S))
        outcome = port.ask("script")
    if outcome == "slow":
        return hand_over(port, claim)
    if outcome == "fails":
        claim.failed(3, "exit code 3")
        return "script failed"
    patiently(port, claim.publishing)
    port.ask("put", 0)
    port.ask("put", 1)
    patiently(port, claim.done)
    return "success"


def patiently(port: Port, step: Callable[[], T]) -> T:
    """A job asks again when the ledger does not answer; nobody else would."""
    try:
        return step()
    except LedgerUnreachable:
        if port.leg.mode != "job":
            raise
        return step()


def hand_over(port: Port, claim: Claim) -> str:
    name = claim.delegating()
    batch, deadline = port.batch()
    task = Task("f", "r", RUN, claim.epoch, event="{}")
    try:
        job_id = batch.hand_over(task, name, deadline, continued=not claim.fresh)
    except AgentError:
        claim.renew(0)  # nobody need wait for us
        raise
    claim.delegated(job_id)
    return "success"


def job(port: Port) -> str:
    """One attempt of a job. A job that has lost its claim, or never got it, ends with 0 and without output."""
    leg = port.leg
    try:
        ledger = port.ledger()
        got = patiently(
            port,
            lambda: ledger.claim_job(RUN, epoch=leg.epoch, job_id=leg.owner, attempt=leg.attempt, lease_s=JOB_LEASE_S),
        )
        return run_here(port, got.claim) if isinstance(got, Proceed) else "success"
    except Lost:
        return "success"
    except AgentError:
        return "failure"


class Programs:
    """What a program does next, remembered: the same answers always lead to the same question."""

    def __init__(self) -> None:
        self._next: dict[tuple[Leg, int], tuple[str, Any]] = {}
        self._logs: list[tuple[tuple[Answer, float], ...]] = []
        self._ids: dict[tuple[tuple[Answer, float], ...], int] = {}

    def begin(self, now: float) -> int:
        return self._id(((("start",), now),))

    def answered(self, log: int, answer: Answer, now: float) -> int:
        return self._id((*self._logs[log], (answer, now)))

    def next(self, leg: Leg, log: int) -> tuple[str, Any]:
        """("asks", question) or ("ends", result)."""
        if (leg, log) not in self._next:
            port = Port(leg, self._logs[log])
            try:
                self._next[leg, log] = ("ends", job(port) if leg.mode == "job" else invocation(port))
            except Paused as paused:
                self._next[leg, log] = ("asks", paused.question)
        return self._next[leg, log]

    def heard_s(self, log: int) -> float:
        """When the last answer came."""
        return self._logs[log][-1][1]

    def _id(self, log: tuple[tuple[Answer, float], ...]) -> int:
        if log not in self._ids:
            self._ids[log] = len(self._logs)
            self._logs.append(log)
        return self._ids[log]


class Chain(NamedTuple):
    """One asynchronous event: the first leg, retries, on-failure deliveries, until one succeeds."""

    name: str
    owner: str
    deliveries: (
        str  # one letter each: Lambda's own (`i`), the on-failure path's (`k`, killed), its last (`g`, gives up)
    )
    at: int = 0
    live: bool = False


class Job(NamedTuple):
    id: str
    name: str
    epoch: int
    left: int  # attempts
    attempt: int = 0
    status: Literal["queued", "live", "over", "lost"] = "queued"


class State(NamedTuple):
    now: float
    body: bytes | None
    # Writes whose sender waits no longer, and which may yet be carried out; at the latest when it ends, minutes before it is tried again.
    flying: tuple[tuple[bytes | None, bytes], ...]
    outputs: tuple[str | None, str | None]  # who wrote the two outputs
    publisher: str | None  # the leg that has published something and lives, or has said that it is done
    killed: bool  # a leg in Lambda was killed while the entry was its own
    actors: tuple[tuple[Leg, int], ...]
    chains: tuple[Chain, ...]
    jobs: tuple[Job, ...]
    crashes: int
    losses: int
    stale: int
    ticks: int


Made = tuple[str, State]


@dataclass(frozen=True)
class World:
    """Which events there are, and how much may go wrong. `conditional` False breaks the store on purpose.

    `requests` are asynchronous events as `REQUEST:DELIVERIES`; two of one request are a duplicate.
    """

    mode: Literal["lambda-batch", "batch"] = "lambda-batch"
    requests: tuple[str, ...] = ("r1:iiikkk",)
    crashes: int = 0
    losses: int = 0
    stale: int = 0
    ticks: int = 0
    attempts: int = 1  # of a job
    script: tuple[str, ...] = ("ok", "slow", "fails")
    job_script: tuple[str, ...] = ("ok", "fails")
    fair: bool = True  # there are deliveries enough for all that goes wrong
    conditional: bool = True

    def first(self) -> State:
        named = (item.split(":") for item in self.requests)
        chains = tuple(Chain(f"{owner}.{n}", owner, deliveries) for n, (owner, deliveries) in enumerate(named))
        return State(
            0.0, None, (), (None, None), None, False, (), chains, (), self.crashes, self.losses, self.stale, self.ticks
        )

    def successors(self, state: State, programs: Programs) -> Iterator[Made]:
        # What only concerns the program itself needs no interleaving: one such program goes first. Once a record is done, no program
        # has anything to say to another: one after the other.
        alone = [n for n, (leg, log) in enumerate(state.actors) if programs.next(leg, log)[1][0] == "script"]
        done = state.body is not None and _entry(state)["state"] == "done" and not state.flying
        awake = [n for n, (leg, log) in enumerate(state.actors) if not self._sleeps(state, programs.next(leg, log)[1])]
        for n in alone[:1] or (awake[:1] if done else awake):
            yield from self._answers(state, n, programs)
        for n in alone[:1] or (awake[:1] if done else range(len(state.actors))):
            if state.crashes:
                leg = state.actors[n][0]
                yield f"{leg.name} is killed", self._died(state._replace(crashes=state.crashes - 1), n)
        if (alone and not state.ticks) or (done and awake):
            return
        for n, chain in enumerate(state.chains):
            if not chain.live:
                yield f"{chain.name} is delivered ({chain.at})", self._delivered(state, n, programs)
        for n, job in enumerate(state.jobs):
            if job.status == "queued":
                yield f"{job.id} starts", self._started(state, n, programs)
        for n, (etag, body) in enumerate(state.flying):
            after = state._replace(flying=state.flying[:n] + state.flying[n + 1 :])
            if etag == state.body:
                yield "a late write lands", _tidy(after._replace(body=body))
        waits = all(leg.mode == "job" and programs.next(leg, log)[1][0] == "sleep" for leg, log in state.actors)
        if state.ticks or (state.actors and waits):
            yield "the clock ticks", self._ticked(state)

    def _answers(self, state: State, n: int, programs: Programs) -> Iterator[Made]:
        leg, log = state.actors[n]
        kind, *question = programs.next(leg, log)[1]

        def told(what: str, answer: Answer, **changes: Any) -> Made:
            after = state._replace(**changes)
            actors = (*state.actors[:n], (leg, programs.answered(log, answer, state.now)), *state.actors[n + 1 :])
            return f"{leg.name}: {what}", self._ended(_tidy(after._replace(actors=actors)), n, programs)

        match kind:
            case "read":
                found = None if state.body is None else (state.body, state.body)
                yield told("reads", ("value", found))
            case "write":
                etag, body = question
                stored = {"body": body} if etag == state.body or not self.conditional else {}
                again = json.loads(body)["state"] == "done"
                if stored and state.body is not None and _entry(state)["state"] == "done" and not again:
                    raise Violation(f"{leg.name} writes {_short(body)} over a record that is done")
                yield told(
                    f"writes {_short(body)}: {bool(stored)}", ("value", body) if stored else ("taken",), **stored
                )
                if state.losses:
                    less = {"losses": state.losses - 1}
                    yield told(f"writes {_short(body)}: never sent", ("ambiguous",), **less)
                    if stored:
                        yield told(f"writes {_short(body)}: answer lost", ("ambiguous",), **stored, **less)
                        yield told(f"writes {_short(body)}: stored, 412", ("taken",), **stored, **less)
                        yield told(f"writes {_short(body)}: 409", ("taken",), **less)
                        yield told(
                            f"writes {_short(body)}: late", ("ambiguous",), flying=(*state.flying, (etag, body)), **less
                        )
            case "list":
                found = tuple(job.id for job in state.jobs if job.name == question[0])
                yield told(f"lists {found}", ("value", found))
                if found and state.stale:
                    yield told("lists nothing yet", ("value", ()), stale=state.stale - 1)
            case "submit":
                made = Job(f"j{len(state.jobs) + 1}", *question, left=self.attempts)
                jobs = (*state.jobs, made)
                yield told(f"submits {made.id} for {made.epoch}", ("value", made.id), jobs=jobs)
                if state.losses:
                    for fault in ("timeout", "500"):
                        less = {"losses": state.losses - 1}
                        yield told(f"submits: {fault}, made {made.id}", (fault,), jobs=jobs, **less)
                        yield told(f"submits: {fault}, not made", (fault,), **less)
            case "script":
                self._may_run(state, n, programs)
                for outcome in self.job_script if leg.mode == "job" else self.script:
                    yield told(f"script {outcome}", ("value", outcome))
                if leg.mode == "job" and state.now > programs.heard_s(log):
                    yield told("renews", ("value", "alarm"))
            case "put":
                self._may_publish(state, leg)
                outputs = (leg.name, state.outputs[1]) if question[0] == 0 else (state.outputs[0], leg.name)
                yield told("publishes", ("value", None), outputs=outputs, publisher=leg.name)
            case "sleep":
                yield told("wakes", ("value", None))

    @staticmethod
    def _sleeps(state: State, question: Answer) -> bool:
        return question[0] == "sleep" and state.now < question[1]

    def _delivered(self, state: State, n: int, programs: Programs) -> State:
        chain = state.chains[n]
        now = chain.deliveries[chain.at]
        leg = Leg(f"{chain.name}.{chain.at}", chain.owner, self.mode, killed=now in "kg", gives_up=now == "g")
        chains = (*state.chains[:n], chain._replace(live=True), *state.chains[n + 1 :])
        return state._replace(chains=chains, actors=(*state.actors, (leg, programs.begin(state.now))))

    def _started(self, state: State, n: int, programs: Programs) -> State:
        job = state.jobs[n]
        job = job._replace(attempt=job.attempt + 1, left=job.left - 1, status="live")
        leg = Leg(f"{job.id}.{job.attempt}", job.id, "job", epoch=job.epoch, attempt=job.attempt)
        jobs = (*state.jobs[:n], job, *state.jobs[n + 1 :])
        return state._replace(jobs=jobs, actors=(*state.actors, (leg, programs.begin(state.now))))

    def _ended(self, state: State, n: int, programs: Programs) -> State:
        leg, log = state.actors[n]
        said, result = programs.next(leg, log)
        if said == "asks":
            return state
        if result == "success" and state.publisher == leg.name:
            if _entry(state)["state"] != "done":
                raise Violation(f"{leg.name} has published and said so, but the entry does not")
            state = state._replace(publisher=f"{leg.name}, done")
        return self._over(state, n, result)

    def _died(self, state: State, n: int) -> State:
        leg, _ = state.actors[n]
        if leg.mode != "job" and state.body is not None:
            entry = _entry(state)
            if entry["nonce"].startswith(leg.name + "/") and entry["state"] in ("running", "publishing", "delegating"):
                state = state._replace(killed=True)
        return self._over(state, n, "killed")

    def _over(self, state: State, n: int, result: str) -> State:
        """The program is no more. What was delivered comes again, unless it went well or has come often enough."""
        leg, _ = state.actors[n]
        publisher = None if state.publisher == leg.name else state.publisher
        flying = tuple(item for item in state.flying if not json.loads(item[1])["nonce"].startswith(leg.name + "/"))
        actors = state.actors[:n] + state.actors[n + 1 :]
        state = state._replace(actors=actors, flying=flying, publisher=publisher)
        if leg.mode == "job":
            at = next(i for i, job in enumerate(state.jobs) if job.id == leg.owner)
            job = state.jobs[at]
            again = "queued" if job.left else "over" if result == "script failed" else "lost"
            job = job._replace(status="over" if result == "success" else again)
            return state._replace(jobs=(*state.jobs[:at], job, *state.jobs[at + 1 :]))
        at = next(i for i, chain in enumerate(state.chains) if leg.name.startswith(chain.name + "."))
        chain = state.chains[at]._replace(at=state.chains[at].at + 1, live=False)
        left = chain.deliveries[chain.at :]
        last = not left or (result == "script failed" and left[0] == "k")
        rest = () if result == "success" or last else (chain,)
        return state._replace(chains=state.chains[:at] + rest + state.chains[at + 1 :])

    def _ticked(self, state: State) -> State:
        """Lambda ends whom it must, and a job that did not renew in time has stopped itself."""
        state = state._replace(now=state.now + LIFE_S, ticks=max(0, state.ticks - 1))
        for n in reversed(range(len(state.actors))):
            leg, _ = state.actors[n]
            if leg.mode != "job":
                state = self._died(state, n)
            elif state.body is not None:
                entry = _entry(state)
                if entry["nonce"].startswith(leg.name + "/") and entry["lease_until"] <= state.now:
                    state = self._died(state, n)
        return state

    def _may_run(self, state: State, n: int, programs: Programs) -> None:
        leg, _ = state.actors[n]
        if leg.mode == "batch":
            raise Violation(f"{leg.name} runs the script in Lambda in mode batch")
        if leg.mode == "lambda-batch" and state.killed:
            raise Violation(f"{leg.name} runs the script in Lambda after a leg was killed")
        for other, log in state.actors:
            at_work = programs.next(other, log)[1][0] in ("script", "put")
            if leg.mode == other.mode == "job" and other != leg and other.epoch == leg.epoch and at_work:
                raise Violation(f"two jobs of one hand-over run the script: {leg.name} and {other.name}")

    def _may_publish(self, state: State, leg: Leg) -> None:
        entry = _entry(state)
        own = entry["state"] == "publishing" and entry["nonce"].startswith(leg.name + "/")
        fenced = entry["fence_nonce"].startswith(leg.name + "/") and state.now < entry["fence_until"]
        if not own and not (fenced and entry["state"] not in ("publishing", "done")):
            raise Violation(f"{leg.name} publishes while the entry is {entry['state']} of {entry['nonce']}")
        if state.publisher not in (None, leg.name):
            raise Violation(f"{leg.name} publishes, and so does or did {state.publisher}")

    def check(self, state: State) -> None:
        """What holds in every state."""
        if state.body is None:
            return
        entry = _entry(state)
        named = [job for job in state.jobs if job.epoch == entry["epoch"]]
        if entry["state"] == "delegated" and entry["job_id"] not in [job.id for job in named]:
            raise Violation("delegated, and no such job")

    def check_end(self, state: State) -> None:
        """What holds when nothing can happen any more."""
        if state.body is None:
            if self.fair:
                raise Violation("the event has disappeared")
            return
        entry = _entry(state)
        lost = any(job.status == "lost" and job.epoch == entry["epoch"] for job in state.jobs)
        if self.fair and entry["state"] not in ("done", "failed") and not lost:
            raise Violation(f"it ends as {entry['state']}, and nobody will come")
        if entry["state"] == "done" and (state.outputs[0] is None or state.outputs[0] != state.outputs[1]):
            raise Violation(f"done with the outputs of {state.outputs}")


def _tidy(state: State) -> State:
    """Without late writes that can never be carried out any more: no body comes twice."""
    return (
        state._replace(flying=tuple(item for item in state.flying if item[0] == state.body)) if state.flying else state
    )


_ENTRIES: dict[bytes, dict[str, Any]] = {}


def _entry(state: State) -> dict[str, Any]:
    assert state.body is not None
    if state.body not in _ENTRIES:
        _ENTRIES[state.body] = json.loads(state.body)
    return _ENTRIES[state.body]


def _short(body: bytes) -> str:
    entry = json.loads(body)
    return f"{entry['state']}({entry['place']}, epoch {entry['epoch']}, {entry['nonce']})"


@dataclass(frozen=True)
class Found:
    states: int
    ends: dict[str, int]  # how many end states there are of each kind


def search(world: World, *, on_end: Callable[[State], None] = lambda state: None, most: int = 10**9) -> Found:
    """All that can happen. Raises Violation with the shortest story that leads to it."""
    programs = Programs()
    first = world.first()
    came: dict[State, tuple[str, State] | None] = {first: None}
    ends: dict[str, int] = {}
    queue = deque([first])
    while queue and len(came) < most:
        state = queue.popleft()
        try:
            world.check(state)
            made = list(world.successors(state, programs))
            if not made:
                world.check_end(state)
        except Violation as violation:
            raise Violation(f"{violation}, after:\n  " + "\n  ".join(_story(came, state))) from None
        if not made:
            on_end(state)
            kind = "nothing" if state.body is None else "{state} in {place}".format(**_entry(state))
            ends[kind] = ends.get(kind, 0) + 1
        for what, after in made:
            if after not in came:
                came[after] = (what, state)
                queue.append(after)
    return Found(len(came), ends)


def _story(came: dict[State, tuple[str, State] | None], state: State) -> list[str]:
    story = []
    while (step := came[state]) is not None:
        what, state = step
        story.append(what)
    return story[::-1]
