"""How a plan is shown: as lines that fit the terminal, and as a document for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from scar.commands.steps import head
from scar.plan.diff import Verb
from scar.report import plural

if TYPE_CHECKING:
    from scar.design.sizes import Size
    from scar.plan.diff import Plan, Step
    from scar.plan.resource import Resource
    from scar.report import Report

COLOURS: Final[Mapping[Verb, str]] = {"create": "added", "update": "changed", "delete": "removed"}


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done for one function, how much fits on the way of its events, and what its owner should know before.

    `desired` is all that is to be there, and `settled` what the last `init` noted of it.
    """

    name: str
    plan: Plan
    sizes: tuple[Size, ...]
    warnings: tuple[str, ...] = ()
    desired: tuple[Resource, ...] = ()
    settled: str = ""

    @property
    def by_hand(self) -> tuple[Step, ...]:
        return tuple(step for step in self.plan.steps if step.by_hand)

    def to_json(self) -> dict[str, Any]:
        return {**self.plan.to_json(), **({"warnings": list(self.warnings)} if self.warnings else {})}


def show(report: Report, planned: Planned, *, verbose: bool, sizes: bool) -> None:
    """Everything about one function."""
    from scar.plan.granted import aloud, grants

    head(report, planned.name, planned.plan)
    for step in planned.plan.steps:
        tell(report, step)
    for who, granted in groupby(grants(planned.plan), lambda grant: grant.who):
        _lines(report, f"{who} may:", "  ")
        for grant in granted:
            _lines(report, grant.what, "    ")
    for notice in aloud(planned.plan):
        _lines(report, notice, "  ! ")
    unchanged = planned.plan.unchanged
    if unchanged and verbose:
        report.line("  as it is:")
        for resource in unchanged:
            _lines(report, str(resource.id), "    = ")
    elif unchanged and planned.plan:
        report.line(
            f"  {plural(len(unchanged), 'thing')} as {'it is' if len(unchanged) == 1 else 'they are'} (-v lists them)"
        )
    if sizes:
        _show_sizes(report, planned)
    elif planned.plan:
        _lines(report, _tightest(planned.sizes), "  ")


def tell(report: Report, step: Step, after: str = "") -> None:
    """One step, on as many lines as it takes."""
    text = "  ".join([str(step), *([after] if after else [])])
    lines = _wrapped(text, "  ", report.style.width)
    report.line(report.paint(lines[0], COLOURS[step.verb]))
    for line in lines[1:]:
        report.line(line)


def document(account: str, region: str, plans: Sequence[Planned], *, sizes: bool) -> dict[str, Any]:
    """What `plan -o json` prints."""
    from scar.plan.granted import aloud, grants

    found: dict[str, Any] = {
        "account": account,
        "region": region,
        "steps": [{"function": each.name, **step.to_json()} for each in plans for step in each.plan.steps],
        "unchanged": [
            {"function": each.name, "kind": resource.id.kind, "name": resource.id.name}
            for each in plans
            for resource in each.plan.unchanged
        ],
        "permissions": [
            {
                "function": each.name,
                "who": grant.who,
                "name": grant.name,
                "actions": grant.actions,
                "resources": grant.resources,
            }
            for each in plans
            for grant in grants(each.plan)
        ],
        "public": [{"function": each.name, "what": what} for each in plans for what in aloud(each.plan)],
    }
    if sizes:
        found["sizes"] = [_sizes_document(each) for each in plans]
    if warnings := [{"function": each.name, "what": what} for each in plans for what in each.warnings]:
        found["warnings"] = warnings
    return found


def _lines(report: Report, text: str, indent: str) -> None:
    for line in _wrapped(text, indent, report.style.width):
        report.line(line)


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    """Broken between words only: names are there to be copied."""
    return textwrap.wrap(
        text,
        max(width, len(indent) + 20),
        initial_indent=indent,
        subsequent_indent=" " * (len(indent) + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tightest(sizes: Iterable[Size]) -> str:
    """Of what is taken before any event comes, where least is left."""
    taken = [size for size in sizes if size.taken is not None]
    if not taken:
        return "every hop has all its room (--sizes shows them)"
    size = min(taken, key=lambda size: size.left / size.hop.room)
    return f"tightest hop: {size.hop.name}, {size.left} of {size.hop.room} {size.hop.unit} left (--sizes shows all)"


def _show_sizes(report: Report, planned: Planned) -> None:
    rows = [
        {
            "hop": size.hop.name + ("" if size.hop.unit == "bytes" else f" ({size.hop.unit})"),
            "limit": size.hop.limit,
            "kept": size.hop.margin or "",
            "taken": "" if size.taken is None else size.taken,
            "left": size.left,
            "larger": size.larger,
        }
        for size in planned.sizes
    ]
    report.line()
    report.table(rows, tuple(rows[0]), empty="")
    report.line("In bytes. Kept: for what AWS adds. Taken: with an event of nothing.")
    report.line("By reference: through SCAR's own private bucket.")
    report.line()


def _sizes_document(planned: Planned) -> dict[str, Any]:
    found = [
        {
            "hop": size.hop.name,
            "what": size.hop.what.rstrip(","),
            "unit": size.hop.unit,
            "limit": size.hop.limit,
            "kept": size.hop.margin,
            "taken": size.taken,
            "left": size.left,
            "larger": size.larger,
            "source": size.hop.source,
        }
        for size in planned.sizes
    ]
    return {"function": planned.name, "hops": found}
