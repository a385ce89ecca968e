"""What has to be done: desired against actual, as a value that can be read, printed and run.

Nothing here talks to AWS. The order of steps is for the reader; `apply` goes by `needs`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

from scar.plan.resource import Id, Resource

Verb = Literal["create", "update", "delete"]
SIGNS: Final[Mapping[Verb, str]] = {"create": "+", "update": "~", "delete": "-"}
_LONGEST_VALUE: Final = 64
# Kinds of which a new one takes the place of an old one, and why it is not changed instead
_WHY_REPLACED: Final[Mapping[str, str]] = {
    "compute environment": "AWS never turns machines into Fargate, or back",
    "job queue": "a queue goes with its compute environment",
    "job definition": "a definition never changes; jobs that wait keep theirs",
}


@runtime_checkable
class Noted(Protocol):
    """A resource that has something to say on its plan line: `made by scar; rm leaves it`."""

    @property
    def note(self) -> str: ...


@runtime_checkable
class Loud(Protocol):
    """A resource that its owner must hear of before it is made: `public: anyone on the internet can run it`. '' says nothing."""

    @property
    def aloud(self) -> str: ...


@runtime_checkable
class Shown(Protocol):
    """A field's value with a short form for the plan line; `str` is all of it."""

    @property
    def shown(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `old` and `new` are None where a value is long, structured or secret; `text` always tells."""

    field: str
    text: str
    old: str | int | None = None
    new: str | int | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `actual` is what AWS has now: always there for an update, never for a create.

    `by_hand`: it is wanted as the last `init` left it, and somebody changed or removed it since. `replaces`: what it takes the place of, and why.
    """

    verb: Verb
    resource: Resource
    actual: Resource | None = None
    by_hand: bool = False
    replaces: str = ""

    @property
    def id(self) -> Id:
        return self.resource.id

    @property
    def changes(self) -> tuple[Change, ...]:
        return _changes(self.actual, self.resource) if self.verb == "update" else ()

    def __str__(self) -> str:
        """The line the user sees: `~ function grayify  memory_mib: 512 → 1024`."""
        return "  ".join([f"{SIGNS[self.verb]} {self.id}", *self.remarks])

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of it besides: what changes, its note, and that it was changed by hand."""
        note = self.resource.note if isinstance(self.resource, Noted) else ""
        said = ", ".join(map(str, self.changes)) or (f"({note})" if note else "")
        hand = {"create": "(removed by hand)", "update": "(changed by hand)"}.get(self.verb, "") if self.by_hand else ""
        return tuple(filter(None, (said, self.replaces and f"(replaces {self.replaces})", hand)))

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"verb": self.verb, "kind": self.id.kind, "name": self.id.name}
        if self.changes:
            document["changes"] = [dataclasses.asdict(change) for change in self.changes]
        if isinstance(self.resource, Noted) and self.resource.note:
            document["note"] = self.resource.note
        if self.by_hand:
            document["by_hand"] = True
        if self.replaces:
            document["replaces"] = self.replaces
        return document


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step, creations first; empty means that AWS already has what was asked for."""

    steps: tuple[Step, ...] = ()
    unchanged: tuple[Resource, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        return "\n".join(str(step) for step in self.steps) or "nothing to do"

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [step.to_json() for step in self.steps],
            "unchanged": [{"kind": resource.id.kind, "name": resource.id.name} for resource in self.unchanged],
        }


def diff(desired: Iterable[Resource], actual: Mapping[Id, Resource]) -> Plan:
    """Create what is missing, update what differs, delete what is there and not desired."""
    wanted = ordered(desired)
    steps: list[Step] = []
    unchanged: list[Resource] = []
    for resource in wanted:
        now = actual.get(resource.id)
        if now is None:
            steps.append(Step("create", resource))
        elif now != resource:
            steps.append(Step("update", resource, now))
        else:
            unchanged.append(resource)
    names = {resource.id for resource in wanted}
    unwanted = ordered(resource for resource in actual.values() if resource.id not in names)
    steps += [Step("delete", resource, resource) for resource in reversed(unwanted)]
    return Plan(tuple(_replacing(step, steps) for step in steps), tuple(unchanged))


def _replacing(step: Step, steps: Sequence[Step]) -> Step:
    """A creation that takes the place of the one deletion of its kind says so."""
    why = _WHY_REPLACED.get(step.id.kind)
    if step.verb != "create" or why is None:
        return step
    old = [
        each.id
        for each in steps
        if each.verb == "delete" and each.id.kind.removeprefix("old ").rstrip("s") == step.id.kind
    ]
    if len(old) != 1:
        return step
    (gone,) = old
    return dataclasses.replace(step, replaces=f"{gone.name if gone.kind == step.id.kind else gone}: {why}")


def ordered(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """The same resources, each after what it needs; a need that is not among them is taken as met."""
    left = {resource.id: resource for resource in resources}
    placed: list[Resource] = []
    while left:
        ready = [resource for resource in left.values() if not any(need in left for need in resource.needs)]
        if not ready:
            raise ValueError(f"resources need each other in a circle: {', '.join(map(str, left))}")
        placed += [left.pop(resource.id) for resource in ready]
    return tuple(placed)


def _changes(old: Any, new: Any) -> tuple[Change, ...]:
    changes: list[Change] = []
    for item in dataclasses.fields(new):
        was, becomes = getattr(old, item.name), getattr(new, item.name)
        if not item.compare or was == becomes:
            continue
        changes += _changes(was, becomes) if _are_records(was, becomes) else (_change(item.name, was, becomes),)
    return tuple(changes)


def _are_records(old: object, new: object) -> bool:
    """Whether two values of a field have fields of their own, which tell more than that the whole differs."""
    return dataclasses.is_dataclass(new) and type(old) is type(new) and not isinstance(new, Shown)


def _change(name: str, old: object, new: object) -> Change:
    if isinstance(old, Shown) and isinstance(new, Shown):
        return Change(name, f"{old.shown} → {new.shown}", old=str(old), new=str(new))
    if isinstance(old, tuple) and isinstance(new, tuple):
        return Change(name, _tuple_change(old, new))
    if (was := _statements(old)) is not None and (becomes := _statements(new)) is not None:
        return Change(name, _tuple_change(was, becomes))
    if _is_plain(old) and _is_plain(new):
        return Change(name, f"{_plain(old)} → {_plain(new)}", old=old, new=new)  # type: ignore[arg-type]  # _is_plain saw to it
    return Change(name, "changed")


def _statements(value: object) -> tuple[tuple[str, str], ...] | None:
    """The statements of a policy, each with its name; None for what is no policy."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        found = json.loads(value)["Statement"]
        return tuple((str(each.get("Sid", "(no name)")), json.dumps(each, sort_keys=True)) for each in found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int) or (isinstance(value, str) and len(_plain(value)) <= _LONGEST_VALUE)


def _plain(value: object) -> str:
    """As a line shows it: an image by the beginning of its digest."""
    text = "none" if value in (None, "") else str(value)
    name, at, digest = text.partition("@sha256:")
    return digest[:12] if at and name else text


def _tuple_change(old: Sequence[Any], new: Sequence[Any]) -> str:
    """Names only: the values of an environment may be secrets."""
    was, becomes = _by_name(old), _by_name(new)
    signs = [f"-{name}" for name in was if name not in becomes]
    signs += [f"+{name}" for name in becomes if name not in was]
    signs += [f"~{name}" for name in becomes if name in was and was[name] != becomes[name]]
    return " ".join(signs) or "changed"


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    return {str(item[0]) if isinstance(item, tuple) and len(item) == 2 else str(item): item for item in items}
