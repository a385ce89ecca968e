"""Making it so: the only code that changes the account.

A plan runs in two phases. First whatever is created or updated, each step once what it `needs` is done, independent steps side
by side; then whatever is deleted, in the opposite order. A step that fails stops those that need it and nothing else: `rm` takes
away all it can. But while a creation or update is outstanding nothing is deleted, for what still stands may still be in use.

Nothing is rolled back. Names are deterministic and every step may be repeated, so the same command, run again, finishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, Protocol

from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.aws.wait import SystemClock
from scar.errors import ScarError
from scar.plan.diff import Plan, Step
from scar.plan.resource import Id

THREADS: Final = 8


class Tell(Protocol):
    """Hears what happens, always on the thread that called `apply`."""

    def started(self, step: Step) -> None: ...

    def done(self, step: Step, seconds: float) -> None: ...

    def failed(self, step: Step, error: ScarError) -> None: ...


class Silent:
    """A Tell that says nothing."""

    def started(self, step: Step) -> None: ...

    def done(self, step: Step, seconds: float) -> None: ...

    def failed(self, step: Step, error: ScarError) -> None: ...


@dataclass(frozen=True, slots=True)
class Failed:
    step: Step
    error: ScarError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every step of a plan."""

    done: tuple[Step, ...] = ()
    failed: tuple[Failed, ...] = ()
    skipped: tuple[Step, ...] = ()


class ApplyError(ScarError):
    """A plan that did not get through; `outcome` has it all. Its exit code is that of the first failure."""

    def __init__(self, outcome: Outcome, again: str) -> None:
        self.outcome = outcome
        self.exit_code = outcome.failed[0].error.exit_code
        super().__init__(_story(outcome), fix=again)


def apply(
    aws: Aws,
    plan: Plan,
    tell: Tell,
    *,
    again: str = "Run the same command again: it does what is left.",
    threads: int = THREADS,
) -> Outcome:
    """Run a plan. Raises ApplyError if any step failed, after every step that could be done was done.

    `again` is the sentence that tells the user how to finish: it should hold the command.
    """
    tally = _Tally()
    _run(aws, [step for step in plan.steps if step.verb != "delete"], tell, tally, threads)
    deletions = [step for step in plan.steps if step.verb == "delete"]
    if tally.failed:
        tally.skipped += deletions
    else:
        _run(aws, deletions, tell, tally, threads)
    outcome = Outcome(tuple(tally.done), tuple(tally.failed), tuple(tally.skipped))
    if outcome.failed:
        raise ApplyError(outcome, again)
    return outcome


@dataclass
class _Tally:
    done: list[Step] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)


def _run(aws: Aws, steps: Iterable[Step], tell: Tell, tally: _Tally, threads: int) -> None:
    waiting = {step.id: step for step in steps}
    after = _order(waiting)
    stopped: set[Id] = set()  # failed or skipped: what comes after one of these is not tried
    with ThreadPoolExecutor(threads, "apply") as pool:
        running: dict[Future[float], Step] = {}
        try:
            while waiting or running:
                while held := [step for step in waiting.values() if after[step.id] & stopped]:
                    stopped |= {step.id for step in held}
                    tally.skipped += [waiting.pop(step.id) for step in held]
                busy = {step.id for step in running.values()} | set(waiting)
                for step in [step for step in waiting.values() if not after[step.id] & busy]:
                    if len(running) < threads:
                        tell.started(step)
                        running[pool.submit(_do, aws, step)] = waiting.pop(step.id)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    try:
                        seconds = future.result()
                    except ScarError as error:
                        stopped.add(step.id)
                        tally.failed.append(Failed(step, error))
                        tell.failed(step, error)
                    else:
                        tally.done.append(step)
                        tell.done(step, seconds)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(aws.clock, SystemClock):  # what is being waited for need not be: the next run sees to it
                aws.clock.interrupt()
            raise


def _order(steps: Mapping[Id, Step]) -> Mapping[Id, set[Id]]:
    """What each step comes after, among the others: what it needs; for a deletion, what needs it."""
    after: dict[Id, set[Id]] = {name: set() for name in steps}
    for step in steps.values():
        for need in step.resource.needs:
            if need in steps:
                before, then = (step.id, need) if step.verb == "delete" else (need, step.id)
                after[then].add(before)
    return after


def _do(aws: Aws, step: Step) -> float:
    started = aws.clock.monotonic()
    with mapped(f"{step.verb} {step.id}"):
        match step.verb:
            case "create":
                step.resource.create(aws)
            case "update":
                assert step.actual is not None, "an update knows what it changes"
                step.resource.update(aws, step.actual)
            case "delete":
                step.resource.delete(aws)
    return aws.clock.monotonic() - started


def _story(outcome: Outcome) -> str:
    lines = [
        str(failure.error) if failure.error.where else f"{failure.step.id}: {failure.error}"
        for failure in outcome.failed
    ]
    lines.append(f"done: {_names(outcome.done)}")
    lines.append(f"left: {_names([*(failure.step for failure in outcome.failed), *outcome.skipped])}")
    return "\n".join(lines)


def _names(steps: Iterable[Step]) -> str:
    return ", ".join(str(step.id) for step in steps) or "nothing"
