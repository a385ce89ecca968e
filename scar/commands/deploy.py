"""`scar init`, `scar plan`, `scar rm`: what is wanted against what is there, function by function.

Each function is planned and applied on its own, in the order of the file: when one cannot be finished, those before it stand, and the same
command goes on where this one stopped.
"""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, read_definition
from scar.commands.function_image import FunctionImage
from scar.errors import NotFoundError, ScarError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.design import Made
    from scar.fdl.model import Function
    from scar.plan.diff import Plan, Step
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
        _head(context.report, name, plan)
        if plan:
            apply(aws, plan, Teller(context.report), again=f"Finish with: {_command(context, 'init', args)}")
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
            _head(context.report, name, plan)
            for step in plan.steps:
                context.report.line(f"  {step}")
    changes = any(plan for _, plan in plans)
    return CHANGES_EXIT_CODE if changes and args.detailed_exitcode else 0


def rm(context: Context, args: Namespace) -> int:
    """Remove functions and what was made for them. Buckets and the files in them stay."""
    functions = read_definition(context, args.conf_file) if args.conf_file else ()
    aws, _ = connect(context, functions)
    names = _names_to_remove(context, args, aws, functions)
    inputs = {fn.name: tuple(item.bucket for item in fn.lambda_.input) for fn in functions}
    told: list[dict[str, Any]] = []
    failed: list[ScarError] = []
    for name in names:
        try:
            told.append(_remove(context, aws, name, inputs.get(name, ()), again=_command(context, "rm", args)))
        except ScarError as error:
            if len(names) == 1:
                raise
            failed.append(error)  # the others can go all the same
            context.report.complain(str(error))
    if args.name and not told[0]["steps"]:
        raise NotFoundError(f"there is no function called {args.name!r} here", fix="See what there is: scar ls")
    if failed:
        raise ScarError(f"{len(failed)} of {len(names)} functions could not be removed", fix=failed[0].fix)
    if context.report.json:
        context.report.document({"functions": told})
    return 0


def _remove(context: Context, aws: Aws, name: str, buckets: Sequence[str], *, again: str) -> dict[str, Any]:
    """Remove one function; answers what was done as a document. One that is not there is no error."""
    from scar.plan.apply import apply
    from scar.plan.diff import diff
    from scar.plan.owned import owned

    plan = diff((), owned(aws, name, buckets))
    if plan:
        _head(context.report, name, plan)
        apply(aws, plan, Teller(context.report), again=f"Finish with: {again}")
    else:
        context.report.say(f"{name}: nothing to remove")
    return {"function": name, **plan.to_json()}


def _names_to_remove(context: Context, args: Namespace, aws: Aws, functions: Sequence[Function]) -> list[str]:
    if args.name:
        return [args.name]
    if args.conf_file:
        return [fn.name for fn in functions]
    from scar.plan.owned import functions as deployed

    names = [fn.name for fn in deployed(aws)]
    if names and not args.yes:
        where = f"account {aws.account}, region {aws.region}"
        if not sys.stdin.isatty():
            raise UsageError(f"this removes {len(names)} functions ({where})", fix="Say --yes to do it.")
        context.report.say(f"Functions of {where}: {', '.join(names)}")
        if input("Remove them all? [y/N] ").strip().lower() not in {"y", "yes"}:
            context.report.say("Nothing was changed.")
            return []
    return names


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


class Teller:
    """Says each step of a plan when it is done, with its seconds when there were any to speak of."""

    SLOW_S = 1.0

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._running: list[Step] = []

    def started(self, step: Step) -> None:
        with self._lock:
            self._running.append(step)
            self._report.draw(f"  {step.verb} {step.id} …")

    def done(self, step: Step, seconds: float) -> None:
        took = f"  ({seconds:.1f} s)" if seconds >= self.SLOW_S else ""
        self._finish(step, f"  {step}{took}")

    def failed(self, step: Step, error: ScarError) -> None:
        self._finish(step, f"  {step}  FAILED")

    def _finish(self, step: Step, text: str) -> None:
        with self._lock:
            self._running.remove(step)
            if self._report.json:
                self._report.say(text)
            else:
                self._report.line(text)
            if self._running:
                self._report.draw(f"  {self._running[0].verb} {self._running[0].id} …")


def _head(report: Report, name: str, plan: Plan) -> None:
    """One line for each function: what is about to happen, or that nothing is."""
    text = f"{name}: {_summary(plan)}"
    if report.json:
        report.say(text)
    else:
        report.line(text)


def _summary(plan: Plan) -> str:
    if not plan:
        return "unchanged"
    count = {verb: sum(step.verb == verb for step in plan.steps) for verb in ("create", "update", "delete")}
    words: Mapping[str, str] = {"create": "to create", "update": "to change", "delete": "to delete"}
    return ", ".join(f"{count[verb]} {word}" for verb, word in words.items() if count[verb])


def _command(context: Context, verb: str, args: Namespace) -> str:
    """The command as it was typed, for the sentence that tells how to finish."""
    words = ["scar", *(["--local"] if context.asked_local else []), verb]
    if args.conf_file:
        words += ["-f", str(args.conf_file)]
    if args.name:
        words += ["-n", args.name]
    return shlex.join(words)
