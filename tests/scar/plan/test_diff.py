"""Desired against actual: which steps, in which order, and how they read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from scar.aws.clients import Aws
from scar.plan.diff import diff, ordered
from scar.plan.resource import Id


@dataclass(frozen=True)
class Thing:
    """A resource of nothing: `after` names what it needs."""

    name: str
    size: int = 1
    text: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()

    @property
    def id(self) -> Id:
        return Id("thing", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return tuple(Id("thing", name) for name in self.after)

    def read(self, aws: Aws) -> Thing | None:
        return self

    def create(self, aws: Aws) -> None: ...

    def update(self, aws: Aws, actual: Thing) -> None: ...

    def delete(self, aws: Aws) -> None: ...


def _actual(*things: Thing) -> dict[Id, Any]:
    return {thing.id: thing for thing in things}


def test_equal_resources_need_nothing() -> None:
    plan = diff([Thing("a")], _actual(Thing("a")))
    assert not plan
    assert str(plan) == "nothing to do"
    assert plan.unchanged == (Thing("a"),)


def test_steps_read_as_what_will_happen() -> None:
    plan = diff([Thing("a"), Thing("b", size=2, text="x")], _actual(Thing("b"), Thing("c")))
    assert str(plan).splitlines() == ["+ thing a", "~ thing b  size: 1 → 2, text: none → x", "- thing c"]


def test_creations_come_after_what_they_need_and_deletions_before() -> None:
    chain = [Thing("c", after=("b",)), Thing("b", after=("a",)), Thing("a")]
    assert [step.id.name for step in diff(chain, {}).steps] == ["a", "b", "c"]
    assert [step.id.name for step in diff([], _actual(*chain)).steps] == ["c", "b", "a"]


def test_a_need_that_is_not_in_the_plan_is_taken_as_met() -> None:
    assert [item.id.name for item in ordered([Thing("b", after=("elsewhere",))])] == ["b"]


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        ordered([Thing("a", after=("b",)), Thing("b", after=("a",))])


def test_a_plan_never_shows_the_values_of_pairs() -> None:
    old = Thing("a", pairs=(("GONE", "secret"), ("SAME", "secret"), ("TOKEN", "secret")))
    new = Thing("a", pairs=(("NEW", "secret"), ("SAME", "secret"), ("TOKEN", "other secret")))
    plan = diff([new], _actual(old))
    assert str(plan) == "~ thing a  pairs: -GONE +NEW ~TOKEN"
    assert "secret" not in str(plan.to_json())


def test_a_long_text_is_only_said_to_have_changed() -> None:
    assert str(diff([Thing("a", text="x" * 100)], _actual(Thing("a")))) == "~ thing a  text: changed"


def test_a_plan_as_json() -> None:
    plan = diff([Thing("a", size=2), Thing("b"), Thing("c")], _actual(Thing("a"), Thing("c"), Thing("d")))
    assert plan.to_json() == {
        "steps": [
            {
                "verb": "update",
                "kind": "thing",
                "name": "a",
                "changes": [{"field": "size", "text": "1 → 2", "old": 1, "new": 2}],
            },
            {"verb": "create", "kind": "thing", "name": "b"},
            {"verb": "delete", "kind": "thing", "name": "d"},
        ],
        "unchanged": [{"kind": "thing", "name": "c"}],
    }


@dataclass(frozen=True)
class Kinded(Thing):
    """The same, of a kind that AWS has."""

    kind: str = "job queue"

    @property
    def id(self) -> Id:
        return Id(self.kind, self.name)


def test_what_takes_the_place_of_another_says_of_which_and_why() -> None:
    new, old = Kinded("scar-cow-fargate"), Kinded("scar-cow")
    plan = diff([new], {old.id: old})
    assert str(plan).splitlines() == [
        "+ job queue scar-cow-fargate  (replaces scar-cow: a queue goes with its compute environment)",
        "- job queue scar-cow",
    ]
    assert plan.to_json()["steps"][0]["replaces"].startswith("scar-cow: ")
    assert "replaces" not in str(diff([new, old], {}))


def test_a_policy_that_changes_names_its_statements() -> None:
    def policy(*statements: tuple[str, str]) -> str:
        return json.dumps({"Statement": [{"Sid": name, "Action": action} for name, action in statements]})

    old, new = policy(("Logs", "a"), ("Reads", "b")), policy(("Reads", "c"), ("Writes", "d"))
    (step,) = diff([Thing("a", text=new)], _actual(Thing("a", text=old))).steps
    assert str(step) == "~ thing a  text: -Logs +Writes ~Reads"
