"""`scar init`, `scar plan`: what is wanted against what is there, function by function.

Each function is planned and applied on its own, in the order of the file: when one cannot be finished, those before it stand, and the same
command goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scar.commands.code import made
from scar.commands.common import connect, read_definition
from scar.commands.sites import sites_of
from scar.commands.steps import Teller, command, head

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.plan.diff import Plan
    from scar.plan.resource import Id
    from scar.report import Report
    from scar.settings import Settings

CHANGES_EXIT_CODE = 20  # of `plan --detailed-exitcode`, when there is something to do


def init(context: Context, args: Namespace) -> int:
    """Make the functions of a file, or bring them up to date: only what differs is touched."""
    from scar.plan.apply import apply

    functions = read_definition(context, args.conf_file, args.name)
    aws, settings = connect(context, functions)
    told: list[dict[str, Any]] = []
    for name, plan in _plans(context.report, aws, settings, functions):
        head(context.report, name, plan)
        if plan:
            apply(aws, plan, Teller(context.report), again=f"Finish with: {command(context, 'init', args)}")
        told.append({"function": name, **plan.to_json()})
    if context.report.json:
        context.report.document({"functions": told})
    return 0


def plan(context: Context, args: Namespace) -> int:
    """Show what `init` would do; nothing is changed."""
    functions = read_definition(context, args.conf_file, args.name)
    aws, settings = connect(context, functions)
    plans = list(_plans(context.report, aws, settings, functions))
    if context.report.json:
        steps = [{"function": name, **step.to_json()} for name, plan in plans for step in plan.steps]
        context.report.document({"account": aws.account, "region": aws.region, "steps": steps})
    else:
        for name, plan in plans:
            head(context.report, name, plan)
            for step in plan.steps:
                context.report.line(f"  {step}")
    changes = any(plan for _, plan in plans)
    return CHANGES_EXIT_CODE if changes and args.detailed_exitcode else 0


def _plans(report: Report, aws: Aws, settings: Settings, functions: Sequence[Function]) -> Iterator[tuple[str, Plan]]:
    """The plan of each function, made when it is asked for: after the one before it was applied.

    Where all of them stand is found out first: when there is no place for one, nothing is done for any.
    """
    from scar.design import design
    from scar.plan.diff import Plan, diff
    from scar.plan.observe import observe
    from scar.plan.owned import strays

    shared: set[tuple[str, Id]] = set()
    for fn, site in sites_of(aws, functions):
        desired = design(fn, site, made(report, settings, aws, fn))
        actual = observe(aws, [*desired, *strays(aws, fn.name, desired)])
        full = diff(desired, actual)
        # A bucket that two functions share is shown where it is made, and not again.
        steps = tuple(step for step in full.steps if (step.verb, step.id) not in shared)
        shared |= {(step.verb, step.id) for step in steps if step.id.kind == "bucket"}
        yield fn.name, Plan(steps, full.unchanged)
