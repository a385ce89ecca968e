"""LO1, LO3: kill -9 of the local AWS, or the power fails, at any of its changes: what was acknowledged is there, whole, and nothing is half there."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import crash_story
from tests.chaos.choice import Choice
from tests.chaos.crash_states import Powerless, copied
from tests.chaos.crash_story import ERRORS, Facts, Step, after, heard, seen, steps, wrong
from tests.chaos.local_forks import ENVIRON, Forks, listens, until
from tests.support.system_calls import Call, Decision, Kill, Traced


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as made:
        yield made


@pytest.fixture(scope="module")
def prepared(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with all that the story needs, its daemon ended."""
    folder = tmp_path_factory.mktemp("prepared") / "state"
    forks.start(folder)
    crash_story.prepare(forks.clients)
    assert forks.stop() == 0
    return folder


class Telling:
    """A daemon under our eyes, from its start on, and the story told to it as far as it lives."""

    def __init__(self, forks: Forks, prepared: Path, folder: Path, choice: Choice) -> None:
        self.folder = copied(prepared, folder / "state")
        self.steps = steps(choice.random("story"))
        self.done = 0  # steps that were acknowledged
        self.calls: list[Call] = []  # those that change something which outlives the daemon, and its answers
        self._forks = forks

    @property
    def held(self) -> tuple[list[Step], list[Step]]:
        """What is acknowledged, and that with what may be."""
        return self.steps[: self.done], self.steps[: self.done + 1]

    def tell(
        self,
        decide: Callable[[Call], Decision] = lambda _: None,
        saw: Callable[[Call], None] = lambda _: None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Each call that can matter after a kill goes by `decide` first, `saw` is told of all; `between` two steps nothing is under way."""
        self._forks.kill()

        def each(call: Call) -> Decision:
            saw(call)
            if not self._matters(call):
                return None
            self.calls.append(call)
            return decide(call)

        port = str(self._forks.clients.port)
        command = [sys.executable, "-m", "scar.local.daemon", "--state", str(self.folder), "--port", port]
        with (
            (self.folder.parent / "said").open("wb") as said,
            Traced(command, env=ENVIRON, stdout=said, stderr=said) as daemon,
        ):
            daemon.watch(each)
            process = daemon.process
            until("the daemon", lambda: listens(self.folder, process.pid) or process.poll() is not None)
            try:
                for step in self.steps:
                    step.ask(self._forks.clients)
                    self.done += 1
                    between()
                marks = {step.heard for step in self.steps if step.heard}
                until("every event", lambda: heard(self._forks.clients) == marks)
            except ERRORS:
                assert daemon.killed is not None, (self.folder.parent / "said").read_text()

    def _matters(self, call: Call) -> bool:
        if call.name in ("sendto", "sendmsg"):
            return call.target.startswith("socket:")
        if call.name == "mkdir" and Path(call.target).exists():
            return False
        return f"{self.folder}/" in call.target


def check(forks: Forks, moment: Moment, kept: Callable[[Facts], Facts] = dict) -> None:
    """The daemon that starts there has what it must have, and the events that were accepted arrive."""
    certain, possible = kept(after(moment.certain)), kept(after(moment.possible))
    due = {step.heard for step in moment.certain if step.heard}
    try:
        forks.start(moment.folder)
        assert wrong(kept(seen(forks.clients)), certain, possible) == {}
        until(f"the events {due}", lambda: due <= heard(forks.clients))
    except (AssertionError, *ERRORS) as error:
        done = moment.certain[-1].name if moment.certain else "nothing"
        raise AssertionError(f"it ended before {moment.what}, after {done!r}: {error}") from error
    forks.kill()
    shutil.rmtree(moment.folder)


CALLS = 440  # that matter, about: the story is the same each time, what runs beside it is not


@dataclass(frozen=True)
class Moment:
    """A state folder as it was, and how far the story had come."""

    folder: Path
    what: str
    certain: list[Step]
    possible: list[Step]


@dataclass(frozen=True)
class Told:
    """One telling of the whole story: what was done, where each step ended, and folders to start the next daemon on."""

    telling: Telling
    ends: list[int]
    killed: list[Moment]
    without_power: list[Moment]


@pytest.fixture(scope="module")
def told(forks: Forks, prepared: Path, tmp_path_factory: pytest.TempPathFactory, choice: Choice) -> Told:
    base = tmp_path_factory.mktemp("told")
    telling = Telling(forks, prepared, base, choice)
    powerless = Powerless(telling.folder)
    kills = set(choice.of("local kills", range(1, CALLS + 1), 5))
    cuts = set(choice.of("power cuts", range(1, len(telling.steps) + 1), 3))
    told = Told(telling, [], [], [])

    def look(call: Call) -> Decision:
        number = len(telling.calls)
        if number in kills or (choice.whole and number > CALLS):
            told.killed.append(Moment(copied(telling.folder, base / f"call-{number}"), str(call), *telling.held))
        return None

    def between() -> None:
        told.ends.append(len(telling.calls))
        if telling.done in cuts:
            certain, _ = telling.held
            folder = powerless.materialise(base / f"step-{telling.done}")
            told.without_power.append(Moment(folder, f"step {telling.done}", certain, certain))

    telling.tell(look, powerless.saw, between)
    assert telling.done == len(telling.steps)
    assert len(told.killed) >= len(kills) * 0.7, f"only {len(telling.calls)} calls were made"
    assert len(told.without_power) == len(cuts)
    return told


def test_wherever_it_is_killed_what_was_acknowledged_is_there_and_nothing_is_half_there(
    told: Told, forks: Forks
) -> None:
    """LO1: the folder as it is before each call that changes it, or answers, is one that the next daemon goes on with."""
    for moment in told.killed:
        check(forks, moment)


def test_a_daemon_that_is_killed_in_the_middle_of_a_call_is_gone_on_with(
    forks: Forks, prepared: Path, tmp_path: Path, choice: Choice
) -> None:
    """LO1: the same with kill -9 itself: what the daemon had started is gone too, and the next one needs nobody's help."""
    for number in choice.of("local real kills", range(7, CALLS, 11), 2):
        (tmp_path / f"kill-{number}").mkdir()
        telling = Telling(forks, prepared, tmp_path / f"kill-{number}", choice)
        telling.tell(lambda _, at=number, of=telling: Kill() if len(of.calls) == at else None)
        what = f"call {telling.calls[-1]}, {number} of those that matter"
        check(forks, Moment(telling.folder, what, *telling.held))


def test_when_the_power_fails_what_was_acknowledged_is_on_the_disk(told: Told, forks: Forks) -> None:
    """LO3: after each request only that is left which was brought to the disk, and it is enough."""
    for moment in told.without_power:
        check(forks, moment, kept=without_log_lines)


def without_log_lines(facts: Facts) -> Facts:
    """They reach the disk once a second."""
    return {fact: value for fact, value in facts.items() if fact[0] not in ("line", "log stream", "log group")}


def test_an_upload_is_on_the_disk_before_its_name_its_name_before_its_record_and_that_before_the_answer(
    told: Told,
) -> None:
    """LO3: data, folder, record, answer; each is brought to the disk before the next is begun."""
    telling = told.telling
    for step, first, last in zip(telling.steps, [0, *told.ends], told.ends, strict=False):
        if step.name not in ("put small", "put large", "overwrite"):
            continue
        calls = [(call.name, str(call.target)) for call in telling.calls[first:last]]
        made = next(target for name, target in calls if name == "openat" and "/objects/" in target)
        journal = next(target for name, target in calls if name == "write" and target.endswith(".journal"))
        order = [
            calls.index(("write", made)),
            calls.index(("fsync", made)),
            calls.index(("fsync", str(Path(made).parent))),
            calls.index(("write", journal)),
            calls.index(("fdatasync", journal)),
            max(index for index, (name, _) in enumerate(calls) if name == "sendto"),
        ]
        assert order == sorted(order), calls
