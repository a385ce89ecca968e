"""`scar init`, `scar plan`: what is wanted against what is there, function by function.

Each function is planned and applied on its own, in the order of the file: when one cannot be finished, those before it stand, and the same
command goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, read_definition
from scar.commands.function_image import FunctionImage
from scar.commands.steps import Teller, command, head

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.design import Made
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


def _plans(report: Report, aws: Aws, settings: Settings, functions: Iterable[Function]) -> Iterator[tuple[str, Plan]]:
    """The plan of each function, made when it is asked for: after the one before it was applied."""
    from scar.design import Site, design
    from scar.plan.diff import Plan, diff
    from scar.plan.observe import observe
    from scar.plan.owned import strays

    shared: set[tuple[str, Id]] = set()
    for fn in functions:
        desired = design(fn, Site.of(aws), _code(report, settings, aws, fn))
        actual = observe(aws, [*desired, *strays(aws, fn.name, desired)])
        full = diff(desired, actual)
        # A bucket that two functions share is shown where it is made, and not again.
        steps = tuple(step for step in full.steps if (step.verb, step.id) not in shared)
        shared |= {(step.verb, step.id) for step in steps if step.id.kind == "bucket"}
        yield fn.name, Plan(steps, full.unchanged)


def _code(report: Report, settings: Settings, aws: Aws, fn: Function) -> Made:
    """What the definition asks for: a zip, an image that is there already, or one that is derived. Warnings are said."""
    if fn.lambda_.runtime != "image":
        return _zip(report, settings, aws, fn)
    if not fn.lambda_.container.create_image:
        from scar.package.prepared import prepared_image

        prepared = prepared_image(fn, aws)
        _warn(report, fn, prepared.warnings)
        return prepared
    return _image(report, settings, aws, fn)


def _zip(report: Report, settings: Settings, aws: Aws, fn: Function) -> Made:
    from scar.aws import names
    from scar.package.ecr import absence_explained, ecr_keychain
    from scar.package.zips.runtime import function_zip

    preparing = report.progress(f"preparing the code of {fn.name}")
    with absence_explained(aws, fn.lambda_.container.image), preparing as progress:
        made = function_zip(
            fn,
            cache=settings.cache,
            tell=progress,
            keychain=ecr_keychain(aws),
            state_bucket=names.state_bucket(aws.account, aws.region),
            prefix=names.code_prefix(aws.account, fn.name),
            loopback=settings.local.value,
            docker_host=settings.docker_host,
        )
    _warn(report, fn, made.warnings)
    return replace(made, watch=lambda: report.progress(f"uploading the code of {fn.name}"))


def _warn(report: Report, fn: Function, warnings: Iterable[str]) -> None:
    for warning in warnings:
        report.complain(f"warning: {fn.name}: {warning}")


def _image(report: Report, settings: Settings, aws: Aws, fn: Function) -> FunctionImage:
    from scar.package import function_image
    from scar.package.ecr import absence_explained, ecr_keychain

    preparing = report.progress(f"preparing the image of {fn.name}")
    with absence_explained(aws, fn.lambda_.container.image), preparing as progress:
        image = function_image(
            fn, cache=settings.cache, tell=progress, keychain=ecr_keychain(aws), docker_host=settings.docker_host
        )
        return FunctionImage(image, report, settings.cache)
