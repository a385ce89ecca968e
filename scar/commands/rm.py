"""`scar rm`: functions and what was made for them go, function by function; buckets and the files in them stay, unless their owner names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scar.commands import oscar, user_data
from scar.commands.common import connect, read_definition
from scar.commands.steps import be_patient, carry_out, command, head
from scar.errors import ConflictError, NotFoundError, ScarError
from scar.report import plural

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.plan.resource import Id, Resource


def rm(context: Context, args: Namespace) -> int:
    """Remove functions and what was made for them. Buckets and the files in them stay, unless they are named."""
    services, only_services = oscar.remove(context, args)
    if only_services:
        if context.report.json:
            context.report.document({"services": services})
        return 0
    functions = read_definition(context, args.conf_file) if args.conf_file else ()
    aws, _ = connect(context, functions)
    be_patient(aws, args)
    names = _names_to_remove(context, args, aws, functions)
    inputs = {fn.name: tuple(item.bucket for item in fn.lambda_.input) for fn in functions}
    told: list[dict[str, Any]] = []
    failed: list[ScarError] = []
    found: dict[str, Mapping[Id, Resource]] = {}
    for name in names:
        try:
            found[name] = _found(aws, args, name, inputs.get(name, ()))
        except ScarError as error:
            if len(names) == 1:
                raise
            failed.append(error)  # the others can go all the same
            context.report.complain(str(error))
    if not args.stop_jobs:
        _refuse_unfinished(context, aws, found)
    data = user_data.delete(context, aws, user_data.chosen(context, args, aws, names, functions)) if names else []
    for name, resources in found.items():
        try:
            told.append(_remove(context, args, aws, name, resources))
        except ScarError as error:
            if len(names) == 1:
                raise
            failed.append(error)
            context.report.complain(str(error))
    if args.name and not told[0]["steps"] and not data:
        raise NotFoundError(f"there is no function called {args.name!r} here", fix="See what there is: scar ls")
    if failed:
        raise ScarError(f"{len(failed)} of {len(names)} functions could not be removed", fix=failed[0].fix)
    if context.report.json:
        context.report.document(
            {"functions": told, **({"data": data} if data else {}), **({"services": services} if services else {})}
        )
    return 0


def _found(aws: Aws, args: Namespace, name: str, buckets: Sequence[str]) -> Mapping[Id, Resource]:
    from scar.plan.owned import owned, stopping

    found = owned(aws, name, buckets)
    return stopping(found) if args.stop_jobs else found


def _refuse_unfinished(context: Context, aws: Aws, found: Mapping[str, Mapping[Id, Resource]]) -> None:
    """Jobs that have not finished are a reason to refuse, of all functions, before anything of one is touched."""
    from scar.plan.owned import refuse_unfinished

    scar = "scar --local" if context.asked_local else "scar"
    refusals: list[ConflictError] = []
    for name, resources in found.items():
        try:
            refuse_unfinished(aws, name, resources, scar=scar)
        except ConflictError as refusal:
            refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise ConflictError("\n".join(refusal.what for refusal in refusals), fix=refusals[0].fix)


def _remove(context: Context, args: Namespace, aws: Aws, name: str, found: Mapping[Id, Resource]) -> dict[str, Any]:
    """Remove one function; answers what was done as a document. One that is not there is no error."""
    from scar.plan.diff import diff

    plan = diff((), found)
    if plan:
        head(context.report, name, plan)
        again = command(context, "rm", args) + (" --stop-jobs" if args.stop_jobs else "")
        carry_out(context.report, aws, plan, again=f"Finish with: {again}")
    else:
        context.report.say(f"{name}: nothing to remove")
    return {"function": name, **plan.to_json()}


def _names_to_remove(context: Context, args: Namespace, aws: Aws, functions: Sequence[Function]) -> list[str]:
    if args.name:
        return [args.name]
    if args.conf_file:
        return [fn.name for fn in functions]
    from scar.plan.listing import functions as deployed

    names = [fn.name for fn in deployed(aws)]
    if names and not args.yes:
        where = f"account {aws.account}, region {aws.region}"
        question = f"Functions of {where}: {', '.join(names)}. Remove them all?"
        if not context.report.confirm(question, refusal=f"this removes {plural(len(names), 'function')} ({where})"):
            context.report.say("Nothing was changed.")
            return []
    return names
