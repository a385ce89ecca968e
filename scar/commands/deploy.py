"""`scar init`, `scar plan`: what is wanted against what is there, function by function.

All functions are planned before anything is done, so what cannot be is refused while the account is as it was. Then each is applied on its own,
in the order of the file: when one cannot be finished, those before it stand, and the same command goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scar.commands import endpoints, oscar
from scar.commands.code import made
from scar.commands.common import connect
from scar.commands.given import definition_of
from scar.commands.loops import refuse_loops
from scar.commands.node_places import looked_at
from scar.commands.preheat import preheat
from scar.commands.showing import Planned, document, show
from scar.commands.sites import sites_of
from scar.commands.steps import be_patient, carry_out, command, head, where
from scar.errors import DeniedError, ScarError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.plan.resource import Id
    from scar.report import Report
    from scar.settings import Settings

CHANGES_EXIT_CODE = 20  # of `plan --detailed-exitcode`, when there is something to do
# Kinds of which one and the same may be several functions': a user's bucket, and what stands under a label of Batch
_COMMON = frozenset({"bucket", "compute environment", "job queue", "instance profile", "role"})


def init(context: Context, args: Namespace) -> int:
    """Make the functions of a file, or bring them up to date: only what differs is touched."""
    from scar.plan.granted import aloud
    from scar.plan.settled import settle

    definition = definition_of(context, args)
    functions, services = definition.functions, oscar.planned(context, definition.services)
    if not functions:
        oscar.only(context, services, change=True)
        return 0
    aws, settings = connect(context, functions)
    be_patient(aws, args)
    where(context.report, aws)
    told: list[dict[str, Any]] = []
    # The local AWS has no way out of a subnet, nor the lack of one: what is true of AWS only is for `plan` to tell.
    plans = _planned(context.report, aws, settings, functions, warned=not settings.local.value)
    _ask_about_hands(context, args, plans)
    for each in plans:
        head(context.report, each.name, each.plan)
        for notice in aloud(each.plan) if each.plan else ():
            context.report.complain(f"{each.name}: {notice}")
        if each.plan:
            carry_out(context.report, aws, each.plan, again=f"Finish with: {command(context, 'init', args)}")
        try:
            settle(aws, each.name, each.desired, each.settled)
        except DeniedError as error:  # all is made; what is missing tells changes by hand from edits
            context.report.complain(f"warning: {error}")
        told.append({"function": each.name, **each.to_json()})
    done = oscar.carry_out(context.report, services)
    preheat(context, aws, functions, {each.name for each in plans if each.plan})
    ways = endpoints.show(context, aws, functions)
    told = [{**one, **ways.get(one["function"], {})} for one in told]
    if context.report.json:
        context.report.document({"functions": told, **({"services": done} if done else {})})
    return 0


def plan(context: Context, args: Namespace) -> int:
    """Show what `init` would do; nothing is changed."""
    definition = definition_of(context, args)
    functions, services = definition.functions, oscar.planned(context, definition.services)
    if not functions:
        return CHANGES_EXIT_CODE if oscar.only(context, services, change=False) and args.detailed_exitcode else 0
    aws, settings = connect(context, functions)
    be_patient(aws, args)
    plans = _planned(context.report, aws, settings, functions, warned=True)
    if context.report.json:
        of_services = {"services": [each.to_json() for each in services]} if services else {}
        context.report.document({**document(aws.account, aws.region, plans, sizes=args.sizes), **of_services})
    else:
        where(context.report, aws)
        for each in plans:
            show(context.report, each, verbose=context.report.style.verbosity > 0, sizes=args.sizes)
        oscar.show(context.report, services)
    changes = any(each.plan for each in plans) or any(services)
    return CHANGES_EXIT_CODE if changes and args.detailed_exitcode else 0


def _ask_about_hands(context: Context, args: Namespace, plans: Sequence[Planned]) -> None:
    """What was changed by hand is put back with consent: a person is asked; where nobody can be, running the command is the consent."""
    steps = [(each.name, step) for each in plans for step in each.by_hand]
    if not steps:
        return
    for name, step in steps:
        context.report.complain(f"warning: {name}: changed by hand since the last init, and put back now: {step}")
    if context.report.style.may_ask and not args.yes and not context.report.confirm("Put it back?", refusal=""):
        raise ScarError(
            "nothing was changed", fix="Take over into the definition what is to stay, or say --yes to put it back."
        )


def _planned(
    report: Report, aws: Aws, settings: Settings, functions: Sequence[Function], *, warned: bool
) -> tuple[Planned, ...]:
    """The plans of all functions, in the order in which they can be applied. Raises ScarError for what must not be."""
    from scar.plan.rivals import order

    refuse_loops(aws, functions)
    plans = {each.name: each for each in _plans(report, aws, settings, functions, warned=warned)}
    return tuple(plans[name] for name in order(aws, [(each.name, each.plan) for each in plans.values()]))


def _plans(
    report: Report, aws: Aws, settings: Settings, functions: Sequence[Function], *, warned: bool
) -> Iterator[Planned]:
    """Where all of them stand is found out first: when there is no place for one, no plan is made."""
    from scar.design import design
    from scar.design.sizes import sizes
    from scar.plan.diff import Plan, diff
    from scar.plan.observe import observe
    from scar.plan.owned import strays
    from scar.plan.settled import note_of, told

    made_before: set[Id] = set()
    sites = sites_of(aws, functions)
    warnings = looked_at(aws, sites, warned=warned)
    for fn, site in sites:
        mine = warnings.get(fn.name, ())
        for warning in mine:
            report.complain(f"warning: {fn.name}: {warning}")
        desired = design(fn, site, made(report, settings, aws, fn))
        report.draw(f"looking at what there is of {fn.name} …")
        actual = observe(aws, [*desired, *strays(aws, fn.name, desired)])
        report.draw("")
        full = told(diff(desired, actual), actual)
        # What two functions share is shown where it is made, and not again. It goes with the last of them, so each is to leave it.
        steps = tuple(step for step in full.steps if step.verb != "create" or step.id not in made_before)
        made_before |= {step.id for step in steps if step.verb == "create" and step.id.kind in _COMMON}
        yield Planned(fn.name, Plan(steps, full.unchanged), sizes(fn, desired), mine, desired, note_of(actual))
