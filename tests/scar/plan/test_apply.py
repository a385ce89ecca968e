"""Running a plan: order, side by side, and what happens when a step fails."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scar.aws.clients import Access, Aws
from scar.aws.wait import SystemClock, until
from scar.errors import ConflictError, DeniedError, ScarError
from scar.plan.apply import ApplyError, Silent, apply
from scar.plan.diff import Plan, Step, diff
from scar.plan.resource import Id
from tests.support.account import FakeClock, Killed


@dataclass
class Log:
    """What was called, in order; `failing` raises."""

    calls: list[str] = field(default_factory=list)
    failing: dict[str, BaseException] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, verb: str, name: str) -> None:
        with self._lock:
            self.calls.append(f"{verb} {name}")
        if name in self.failing:
            raise self.failing[name]


@dataclass(frozen=True)
class Thing:
    name: str
    log: Log = field(compare=False, repr=False)
    after: tuple[str, ...] = ()
    size: int = 1

    @property
    def id(self) -> Id:
        return Id("thing", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return tuple(Id("thing", name) for name in self.after)

    def read(self, aws: Aws) -> Thing | None:
        return self

    def create(self, aws: Aws) -> None:
        self.log.note("create", self.name)

    def update(self, aws: Aws, actual: Thing) -> None:
        self.log.note("update", self.name)

    def delete(self, aws: Aws) -> None:
        self.log.note("delete", self.name)


@dataclass
class Heard:
    said: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def started(self, step: Step) -> None:
        self._note(f"started {step}")

    def done(self, step: Step, seconds: float) -> None:
        self._note(f"done {step}")

    def failed(self, step: Step, error: ScarError) -> None:
        self._note(f"failed {step}")

    def _note(self, text: str) -> None:
        self.said.append(text)
        self.threads.add(threading.get_ident())


@pytest.fixture
def aws() -> Aws:
    return Aws(Access("eu-west-1", access_key="testing", secret_key="testing"), FakeClock())


def _all(*things: Thing) -> dict[Id, Any]:
    return {thing.id: thing for thing in things}


def _tree(log: Log) -> list[Thing]:
    """root ← left, right; tip needs both."""
    return [
        Thing("tip", log, after=("left", "right")),
        Thing("left", log, after=("root",)),
        Thing("right", log, after=("root",)),
        Thing("root", log),
        Thing("alone", log),
    ]


def test_steps_run_after_what_they_need(aws: Aws) -> None:
    log = Log()
    outcome = apply(aws, diff(_tree(log), {}), Silent())
    at = {call: place for place, call in enumerate(log.calls)}
    assert at["create root"] < min(at["create left"], at["create right"])
    assert at["create tip"] > max(at["create left"], at["create right"])
    assert len(outcome.done) == 5


def test_deletions_run_the_other_way_round(aws: Aws) -> None:
    log = Log()
    apply(aws, diff([], _all(*_tree(log))), Silent(), threads=1)
    at = {call: place for place, call in enumerate(log.calls)}
    assert at["delete tip"] < min(at["delete left"], at["delete right"]) < at["delete root"]


def test_independent_steps_run_side_by_side(aws: Aws) -> None:
    together = threading.Barrier(2, timeout=5)

    @dataclass(frozen=True)
    class Meeting(Thing):
        def create(self, aws: Aws) -> None:
            together.wait()

    log = Log()
    apply(aws, diff([Meeting("a", log), Meeting("b", log)], {}), Silent())


def test_a_failure_stops_what_needs_it_and_nothing_else(aws: Aws) -> None:
    log = Log(failing={"left": DeniedError("no", fix="Ask.")})
    heard = Heard()
    with pytest.raises(ApplyError) as caught:
        apply(aws, diff(_tree(log), {}), heard, again="Finish with: scar init -f x.yaml")
    outcome = caught.value.outcome
    assert {step.id.name for step in outcome.done} == {"root", "right", "alone"}
    assert [failure.step.id.name for failure in outcome.failed] == ["left"]
    assert [step.id.name for step in outcome.skipped] == ["tip"]
    assert caught.value.exit_code == DeniedError.exit_code
    text = str(caught.value)
    assert "left: thing left, thing tip" in text
    assert text.endswith("Finish with: scar init -f x.yaml")
    assert heard.threads == {threading.get_ident()}
    assert "failed + thing left" in heard.said


def test_a_failure_deep_down_skips_the_whole_chain(aws: Aws) -> None:
    log = Log(failing={"a": ConflictError("no")})
    chain = [
        Thing("a", log),
        Thing("b", log, after=("a",)),
        Thing("c", log, after=("b",)),
        Thing("d", log, after=("c",)),
    ]
    with pytest.raises(ApplyError) as caught:
        apply(aws, diff(chain, {}), Silent())
    assert [step.id.name for step in caught.value.outcome.skipped] == ["b", "c", "d"]
    assert log.calls == ["create a"]


def test_nothing_is_deleted_while_something_is_left_to_make(aws: Aws) -> None:
    log = Log(failing={"new": ConflictError("no")})
    with pytest.raises(ApplyError) as caught:
        apply(aws, diff([Thing("new", log)], _all(Thing("old", log))), Silent())
    assert log.calls == ["create new"]
    assert [step.id.name for step in caught.value.outcome.skipped] == ["old"]


def test_deletions_that_do_not_hang_together_all_happen_but_the_failed_one(aws: Aws) -> None:
    log = Log(failing={"b": DeniedError("no")})
    with pytest.raises(ApplyError) as caught:
        apply(aws, diff([], _all(*(Thing(name, log) for name in "abc"))), Silent())
    assert {step.id.name for step in caught.value.outcome.done} == {"a", "c"}


def test_aws_errors_become_ours(aws: Aws) -> None:
    refusal = ClientError({"Error": {"Code": "AccessDenied", "Message": "nope"}}, "CreateRole")
    log = Log(failing={"a": refusal})
    with pytest.raises(ApplyError) as caught:
        apply(aws, diff([Thing("a", log)], {}), Silent())
    (failure,) = caught.value.outcome.failed
    assert isinstance(failure.error, DeniedError)
    assert failure.error.where == "create thing a"
    assert failure.error.__cause__ is refusal


def test_what_is_not_an_error_of_ours_gets_through_at_once(aws: Aws) -> None:
    log = Log(failing={"a": Killed()})
    with pytest.raises(Killed):
        apply(aws, diff([Thing("a", log), Thing("b", log, after=("a",))], {}), Silent())
    assert log.calls == ["create a"]


def test_an_interrupted_run_does_not_sit_out_the_waits_of_its_steps() -> None:
    aws = Aws(Access("eu-west-1", access_key="testing", secret_key="testing"), SystemClock())
    waiting = threading.Event()

    @dataclass(frozen=True)
    class Slow(Thing):
        def create(self, aws: Aws) -> None:
            waiting.set()
            until(lambda: None, deadline_s=300, what="ever", clock=aws.clock)

    @dataclass(frozen=True)
    class Interrupting(Thing):
        def create(self, aws: Aws) -> None:
            assert waiting.wait(5)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        apply(aws, diff([Slow("a", Log()), Interrupting("b", Log())], {}), Silent())
    assert time.monotonic() - started < 10


def test_an_update_is_given_what_is_there(aws: Aws) -> None:
    log = Log()
    apply(aws, diff([Thing("a", log, size=2)], _all(Thing("a", log))), Silent())
    assert log.calls == ["update a"]


def test_an_empty_plan_does_nothing(aws: Aws) -> None:
    assert apply(aws, Plan(), Silent()).done == ()
