"""`scar init`, `scar plan`: what is wanted against what is there, function by function.

Each function is planned and applied on its own, in the order of the file: when one cannot be finished, those before it stand, and the same
command goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scar.commands.code import made
from scar.commands.common import connect
from scar.commands.given import functions_of
from scar.commands.node_places import looked_at
from scar.commands.sites import sites_of
from scar.commands.steps import Teller, be_patient, command, head

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.design.sizes import Size
    from scar.fdl.model import Function
    from scar.plan.diff import Plan
    from scar.plan.resource import Id
    from scar.report import Report
    from scar.settings import Settings

CHANGES_EXIT_CODE = 20  # of `plan --detailed-exitcode`, when there is something to do
# Kinds of which one and the same may be several functions': a user's bucket, and what stands under a label of Batch
_COMMON = frozenset({"bucket", "compute environment", "job queue", "instance profile", "role"})


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is to be done for one function, how much fits on the way of its events, and what its owner should know before."""

    name: str
    plan: Plan
    sizes: tuple[Size, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**self.plan.to_json(), **({"warnings": list(self.warnings)} if self.warnings else {})}


def init(context: Context, args: Namespace) -> int:
    """Make the functions of a file, or bring them up to date: only what differs is touched."""
    from scar.plan.apply import apply

    functions = functions_of(context, args)
    aws, settings = connect(context, functions)
    be_patient(aws, args)
    told: list[dict[str, Any]] = []
    # The local AWS has no way out of a subnet, nor the lack of one: what is true of AWS only is for `plan` to tell.
    warned = not settings.local.value
    for each in _plans(context.report, aws, settings, functions, warned=warned):
        head(context.report, each.name, each.plan)
        if each.plan:
            apply(aws, each.plan, Teller(context.report), again=f"Finish with: {command(context, 'init', args)}")
        told.append({"function": each.name, **each.to_json()})
    if context.report.json:
        context.report.document({"functions": told})
    return 0


def plan(context: Context, args: Namespace) -> int:
    """Show what `init` would do; nothing is changed."""
    functions = functions_of(context, args)
    aws, settings = connect(context, functions)
    be_patient(aws, args)
    plans = list(_plans(context.report, aws, settings, functions, warned=True))
    if context.report.json:
        steps = [{"function": each.name, **step.to_json()} for each in plans for step in each.plan.steps]
        document = {"account": aws.account, "region": aws.region, "steps": steps}
        sized = {"sizes": [_sizes_document(each) for each in plans]} if args.sizes else {}
        warnings = [{"function": each.name, "what": what} for each in plans for what in each.warnings]
        context.report.document({**document, **sized, **({"warnings": warnings} if warnings else {})})
    else:
        for each in plans:
            head(context.report, each.name, each.plan)
            for step in each.plan.steps:
                context.report.line(f"  {step}")
            if args.sizes:
                _show_sizes(context.report, each)
    changes = any(each.plan for each in plans)
    return CHANGES_EXIT_CODE if changes and args.detailed_exitcode else 0


def _show_sizes(report: Report, planned: _Planned) -> None:
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
    report.line(
        "In bytes. Kept: for what AWS adds. Taken: with an event of nothing. By reference: through SCAR's own private bucket."
    )
    report.line()


def _sizes_document(planned: _Planned) -> dict[str, Any]:
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


def _plans(
    report: Report, aws: Aws, settings: Settings, functions: Sequence[Function], *, warned: bool
) -> Iterator[_Planned]:
    """The plan of each function, made when it is asked for: after the one before it was applied.

    Where all of them stand is found out first: when there is no place for one, nothing is done for any.
    """
    from scar.design import design
    from scar.design.sizes import sizes
    from scar.plan.diff import Plan, diff
    from scar.plan.observe import observe
    from scar.plan.owned import strays

    made_before: set[Id] = set()
    sites = sites_of(aws, functions)
    warnings = looked_at(aws, sites, warned=warned)
    for fn, site in sites:
        mine = warnings.get(fn.name, ())
        for warning in mine:
            report.complain(f"warning: {fn.name}: {warning}")
        desired = design(fn, site, made(report, settings, aws, fn))
        actual = observe(aws, [*desired, *strays(aws, fn.name, desired)])
        full = diff(desired, actual)
        # What two functions share is shown where it is made, and not again. It goes with the last of them, so each is to leave it.
        steps = tuple(step for step in full.steps if step.verb != "create" or step.id not in made_before)
        made_before |= {step.id for step in steps if step.verb == "create" and step.id.kind in _COMMON}
        yield _Planned(fn.name, Plan(steps, full.unchanged), sizes(fn, desired), mine)
