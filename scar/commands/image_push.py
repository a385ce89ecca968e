"""`scar image push`: functions' images go to their own repositories, or one to any registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, read_definition, settings_of
from scar.commands.function_image import FunctionImage
from scar.commands.image_common import LazyKeychain, derived_image, expect_only_one, refuse_password
from scar.errors import ScarError, UsageError
from scar.report import size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.package.oci import Image
    from scar.package.registry import Registry
    from scar.package.registry.push import PushResult
    from scar.package.registry.reference import Reference
    from scar.plan.diff import Step
    from scar.report import Report


@dataclass(frozen=True, slots=True)
class _Sent:
    """One image where it was to go. `result` is None when it was there before, and nothing was sent."""

    function: str
    reference: str
    image: Image
    result: PushResult | None
    repository_made: bool = False

    def document(self) -> dict[str, Any]:
        result = self.result
        return {
            "function": self.function,
            "reference": self.reference,
            "digest": self.image.digest,
            "size_bytes": self.image.size,
            "bytes_sent": result.bytes_sent if result else 0,
            "bytes_mounted": result.bytes_mounted if result else 0,
            "bytes_present": result.bytes_present if result else self.image.size,
            "repository_made": self.repository_made,
        }

    def __str__(self) -> str:
        if self.result is None:
            return f"{self.function}: nothing was sent: the image is there already"
        parts = (
            ("sent", self.result.bytes_sent),
            ("mounted from another repository", self.result.bytes_mounted),
            ("there before", self.result.bytes_present),
        )
        return f"{self.function}: " + ", ".join(f"{size(count)} {word}" for word, count in parts if count)


def push_images(context: Context, args: Namespace) -> int:
    """Derive and push. What the images are then called goes to standard output, one a line; all else to standard error."""
    target = None if args.to is None else _target(args.to)
    functions = read_definition(context, args.conf_file, args.name)
    if target is not None:
        expect_only_one(functions, args.conf_file)
        sent = [_push_to(context, functions[0], target)]
    else:
        aws, _ = connect(context, functions)
        for fn in functions:
            _refuse_without_repository(fn)
        sent = [_push_to_ecr(context, aws, fn) for fn in functions]
    for each in sent:
        context.report.say(str(each))
        if not context.report.json:
            context.report.line(each.reference)
    if context.report.json:
        context.report.document({"images": [each.document() for each in sent]})
    return 0


def _target(text: str) -> Reference:
    from scar.package.registry.reference import parse

    refuse_password(text)
    target = parse(text.removeprefix("docker://"))
    if target.is_pinned:
        raise UsageError(
            "an image is pushed by a tag; its digest follows from what is in it",
            where=text,
            fix="Write registry/name:tag.",
        )
    return target


def _push_to(context: Context, fn: Function, target: Reference) -> _Sent:
    from scar.package.inspecting.source import registry_of
    from scar.package.sightings import Sightings

    keychain = LazyKeychain(context, (fn,))
    derived = derived_image(context, fn, keychain)
    registry = registry_of(target.host, keychain)
    reference = f"{target.host}/{target.repository}@{derived.digest}"
    if _is_there(registry, target, derived.digest):
        return _Sent(fn.name, reference, derived, None)
    with context.report.progress(f"pushing to {target}") as progress:
        sightings = Sightings(settings_of(context, (fn,)).cache, registry.host)
        result = sightings.push(derived, registry, target.repository, tag=target.tag_or_digest, tell=progress)
    return _Sent(fn.name, reference, derived, result)


def _is_there(registry: Registry, target: Reference, digest: str) -> bool:
    """Whether the tag names this very image. A registry that will not say is asked again by the push itself."""
    try:
        found = registry.manifest(target.repository, target.tag_or_digest).digest
    except ScarError:
        return False
    return found == digest


def _push_to_ecr(context: Context, aws: Aws, fn: Function) -> _Sent:
    """Through plan and apply, as `init` does it, but for the repository and the image only."""
    from scar.design import Site
    from scar.design.code import design as code_of
    from scar.plan.apply import apply
    from scar.plan.diff import diff
    from scar.plan.observe import observe

    derived = derived_image(context, fn, LazyKeychain(context, (fn,), aws))
    publishing = FunctionImage(derived, context.report, settings_of(context, (fn,)).cache)
    site = Site.of(aws)
    desired = code_of(fn, site, publishing).made
    plan = diff(desired, observe(aws, desired))
    if plan:
        apply(aws, plan, _Told(context.report))
    repository = next(each.id.name for each in desired if each.id.kind == "repository")
    made = any(step.verb == "create" and step.id.kind == "repository" for step in plan.steps)
    result = publishing.results[0] if publishing.results else None
    return _Sent(fn.name, f"{site.registry}/{repository}@{derived.digest}", derived, result, made)


@dataclass(frozen=True, slots=True)
class _Told:
    """Steps are remarks: standard output is for the reference."""

    report: Report

    def started(self, step: Step) -> None:
        self.report.draw(f"  {step.verb} {step.id} …")

    def done(self, step: Step, seconds: float) -> None:
        self.report.say(f"  {step}")

    def failed(self, step: Step, error: ScarError) -> None:
        self.report.say(f"  {step}  FAILED")


def _refuse_without_repository(fn: Function) -> None:
    if not fn.lambda_.container.create_image:
        raise UsageError(
            "`create_image: false` runs the image where it is: there is nothing to push",
            where=fn.name,
            fix="Remove it, or name a place with --to.",
        )
    if fn.lambda_.runtime != "image" and fn.jobs is None:
        raise UsageError(
            f"`runtime: {fn.lambda_.runtime}` needs no repository: `scar init` sends its code as a zip",
            where=fn.name,
            fix="Name a place with --to, or remove `runtime`.",
        )
