"""Every order in which invocations, jobs, kills and lost answers can meet over one ledger entry.

The world answers the programs of `ledger_programs` in every possible way, and remembers the states it has seen. A state is what the
store and Batch hold, and which answers each live program has got. `search` goes through all of it breadth first, so the story of a
violation is a shortest one. What is asserted: `_may_run`, `_may_publish`, `check` and `check_end`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tests.supervisor.ledger_programs import Answer, Leg, Programs

LIFE_S = 100.0  # a tick of the clock: no invocation survives one, and a job has to renew its lease in each


class Violation(Exception):
    """Something happened that must not."""


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


def search(world: World, *, most: int = 10**9) -> Found:
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
