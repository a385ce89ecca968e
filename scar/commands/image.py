"""`scar image …`: what an image is, what SCAR makes of it, where it goes, and what is kept of all that on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scar.commands.common import connect, read_definition, settings_of
from scar.errors import NotFoundError, ScarError, UsageError
from scar.limits import LAMBDA_TMP_MIB
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.package.credentials import Credentials, Keychain
    from scar.package.oci import Image
    from scar.package.push import PushResult
    from scar.package.reference import Reference
    from scar.plan.diff import Step
    from scar.report import Report
    from scar.settings import Settings

_ARCHITECTURE: Final = "x86_64"
_DAY_S: Final = 24 * 3600.0


def image(context: Context, args: Namespace) -> int:
    """Dispatch to one verb."""
    match args.image_verb:
        case "inspect":
            return _inspect(context, args)
        case "derive":
            return _derive(context, args)
        case "push":
            return _push(context, args)
        case "prune":
            return _prune(context, args)
        case _:
            raise UsageError("which of inspect, derive, push, prune?", fix="See: scar image --help")


# -- inspect ----------------------------------------------------------------------------------------------------


def _inspect(context: Context, args: Namespace) -> int:
    """Look at the image that is named, or at those of a file's functions. An image that Lambda refuses is an answer, not an error."""
    from scar.commands.image_view import document, lines

    if (args.image is None) == (args.conf_file is None):
        raise UsageError("name an image, or a definition file with -f", fix="For example: scar image inspect debian:12")
    if args.name is not None and args.conf_file is None:
        raise UsageError("-n chooses a function of a file, and no file is named", fix="Name it with -f.")
    functions = read_definition(context, args.conf_file, args.name) if args.conf_file else (None,)
    shown = [_look(context, args, fn) for fn in functions]
    if context.report.json:
        context.report.document({"images": [document(each) for each in shown]})
        return 0
    for number, each in enumerate(shown):
        if number:
            context.report.line()
        for line in lines(each, context.report.style.width):
            context.report.line(line)
    return 0


def _look(context: Context, args: Namespace, fn: Function | None) -> Any:
    from scar.commands.image_view import Shown, script_of
    from scar.package.inspecting_scan import Read, read_layers
    from scar.package.inspecting_source import inspect
    from scar.package.inspecting_verdict import verdict

    settings = settings_of(context, () if fn is None else (fn,))
    named, file, folder = _named(args.image) if fn is None else _container(fn)
    architecture = args.architecture or (fn.lambda_.architecture if fn else _ARCHITECTURE)
    keychain = _Keychain(context, () if fn is None else (fn,))
    with keychain.explained(named), context.report.progress("reading the image") as progress:
        found = inspect(
            named,
            file,
            architecture=architecture,
            cache=settings.cache,
            keychain=keychain,
            folder=folder,
            docker_host=settings.docker_host,
            tell=progress,
        )
        read = Read(found, None, None)
        script = _script(fn) if fn else None
        if args.scan:
            read = read_layers(
                found,
                tmp_mib=fn.lambda_.ephemeral_storage if fn else LAMBDA_TMP_MIB[1],
                script=script,
                has_script=fn is None or script is not None,
                variables=fn.lambda_.container.environment if fn else {},
                cache=settings.cache,
                tell=progress,
            )
    return Shown(
        read.found,
        verdict(read.found),
        fn.name if fn else None,
        script_of(fn.lambda_.init_script.name, script)
        if fn and fn.lambda_.init_script and script is not None
        else None,
        read.zip_why_not,
        read.missing,
        runtime=fn.lambda_.runtime if fn else "image",
    )


def _named(image: str) -> tuple[str | None, Path | None, Path]:
    """An IMAGE of the command line: what is there, or is written as a path, is a file; all else is a name."""
    path = Path(image)
    is_there = path.is_file() or (path / "index.json").is_file()
    if is_there or image.startswith(("/", "./", "../")) or image.endswith((".tar", ".tar.gz", ".tgz")):
        return None, path, Path()
    _refuse_password(image)
    return image, None, Path()


def _container(fn: Function) -> tuple[str | None, Path | None, Path]:
    container = fn.lambda_.container
    return container.image, container.image_file, fn.source.parent if fn.source else Path()


def _script(fn: Function) -> bytes | None:
    path = fn.lambda_.init_script
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ScarError(f"the init script cannot be read: {error.strerror}", where=str(path)) from error


# -- derive -----------------------------------------------------------------------------------------------------


def _derive(context: Context, args: Namespace) -> int:
    """Make the images; with --to, write one down."""
    from scar.package.writing import parse_target, write_image

    target = None if args.to is None else parse_target(args.to)
    functions = read_definition(context, args.conf_file, args.name)
    if target is not None:
        _only_one(functions, args.conf_file)
    told = []
    for fn in functions:
        derived = _derived(context, fn, _Keychain(context, (fn,)))
        if fn.lambda_.runtime != "image":
            context.report.say(
                f"{fn.name}: `runtime: {fn.lambda_.runtime}` sends a zip to Lambda; this is what it would run as an image."
            )
        if target is not None:
            with context.report.progress(f"writing {target}") as progress:
                write_image(derived, target, name=_local_name(fn), tell=progress)
        told.append(_derived_document(fn, derived, None if target is None else str(target)))
    if context.report.json:
        context.report.document({"images": told})
        return 0
    for number, item in enumerate(told):
        if number:
            context.report.line()
        _show_derived(context.report, item)
    return 0


def _derived(context: Context, fn: Function, keychain: _Keychain) -> Image:
    from scar.package import function_image

    settings = settings_of(context, (fn,))
    preparing = context.report.progress(f"preparing the image of {fn.name}")
    with keychain.explained(fn.lambda_.container.image), preparing as progress:
        return function_image(
            fn, cache=settings.cache, tell=progress, keychain=keychain, docker_host=settings.docker_host
        )


def _derived_document(fn: Function, derived: Image, target: str | None) -> dict[str, Any]:
    """The last two layers are SCAR's; all below them are the user's own."""
    layers = [layer.blob.descriptor for layer in derived.layers]
    fresh = {"agent": layers[-2], "function": layers[-1], "configuration": derived.config.descriptor}
    return {
        "function": fn.name,
        "digest": derived.digest,
        "media_type": derived.media_type,
        "size_bytes": derived.size,
        "layers": len(layers),
        "new": {what: {"digest": each.digest, "size_bytes": each.size} for what, each in fresh.items()},
        "written": target,
    }


def _show_derived(report: Report, item: dict[str, Any]) -> None:
    new = ", ".join(f"{what} {size(part['size_bytes'])}" for what, part in item["new"].items())
    report.line(f"of      function {item['function']}")
    report.line(f"digest  {item['digest']}")
    report.line(f"size    {size(item['size_bytes'])} in {plural(item['layers'], 'layer')}")
    report.line(f"new     {new}")
    if item["written"]:
        report.line(f"written {item['written']}")


def _local_name(fn: Function) -> str:
    """What `docker load` calls it."""
    from scar.aws import names

    return f"{names.repository(fn.name)}:latest"


def _only_one(functions: Sequence[Function], path: Path) -> None:
    if len(functions) > 1:
        names = ", ".join(fn.name for fn in functions)
        raise UsageError(
            f"--to takes one image, and {path} defines several functions", fix=f"Name one with -n: {names}."
        )


# -- push -------------------------------------------------------------------------------------------------------


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


def _push(context: Context, args: Namespace) -> int:
    """Derive and push. What the images are then called goes to standard output, one a line; all else to standard error."""
    target = None if args.to is None else _target(args.to)
    functions = read_definition(context, args.conf_file, args.name)
    if target is not None:
        _only_one(functions, args.conf_file)
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
    from scar.package.reference import parse

    _refuse_password(text)
    target = parse(text.removeprefix("docker://"))
    if target.is_pinned:
        raise UsageError(
            "an image is pushed by a tag; its digest follows from what is in it",
            where=text,
            fix="Write registry/name:tag.",
        )
    return target


def _push_to(context: Context, fn: Function, target: Reference) -> _Sent:
    from scar.package.inspecting_source import registry_of
    from scar.package.push import push

    keychain = _Keychain(context, (fn,))
    derived = _derived(context, fn, keychain)
    registry = registry_of(target.host, keychain)
    reference = f"{target.host}/{target.repository}@{derived.digest}"
    if _is_there(registry, target, derived.digest):
        return _Sent(fn.name, reference, derived, None)
    with context.report.progress(f"pushing to {target}") as progress:
        result = push(derived, registry, target.repository, tag=target.tag_or_digest, tell=progress)
    return _Sent(fn.name, reference, derived, result)


def _is_there(registry: Any, target: Reference, digest: str) -> bool:
    """Whether the tag names this very image. A registry that will not say is asked again by the push itself."""
    try:
        found: str = registry.manifest(target.repository, target.tag_or_digest).digest
    except ScarError:
        return False
    return found == digest


def _push_to_ecr(context: Context, aws: Aws, fn: Function) -> _Sent:
    """Through plan and apply, as `init` does it, but for the repository and the image only."""
    from scar.design import Site, design
    from scar.plan.apply import apply
    from scar.plan.diff import diff
    from scar.plan.observe import observe

    derived = _derived(context, fn, _Keychain(context, (fn,), aws))
    publishing = _Publishing(derived, context.report)
    site = Site.of(aws)
    desired = [each for each in design(fn, site, publishing) if each.id.kind in {"repository", "image"}]
    plan = diff(desired, observe(aws, desired))
    if plan:
        apply(aws, plan, _Told(context.report))
    repository = next(each.id.name for each in desired if each.id.kind == "repository")
    made = any(step.verb == "create" and step.id.kind == "repository" for step in plan.steps)
    result = publishing.results[0] if publishing.results else None
    return _Sent(fn.name, f"{site.registry}/{repository}@{derived.digest}", derived, result, made)


@dataclass(frozen=True)
class _Publishing:
    """A `design.FunctionImage` that keeps what became of its bytes."""

    image: Image
    report: Report
    results: list[PushResult] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return self.image.digest

    @property
    def size(self) -> int:
        return self.image.size

    def publish(self, aws: Aws, repository: str) -> None:
        from scar.package.ecr import ecr_registry, why_bytes_moved
        from scar.package.push import push

        with self.report.progress(f"pushing to {repository}") as progress:
            result = push(self.image, ecr_registry(aws), repository, tag=None, tell=progress)
        self.results.append(result)
        if advice := why_bytes_moved(aws, self.image, repository, result):
            self.report.say(advice)


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
    if fn.lambda_.runtime != "image":
        raise UsageError(
            f"`runtime: {fn.lambda_.runtime}` needs no repository: `scar init` sends its code as a zip",
            where=fn.name,
            fix="Name a place with --to, or remove `runtime`.",
        )


# -- prune ------------------------------------------------------------------------------------------------------


def _prune(context: Context, args: Namespace) -> int:
    """Remove what was not used for the longest. It can all be made or fetched again."""
    from scar.package.pruning import Kept, prune

    settings = settings_of(context)
    done = prune(settings.cache, max_bytes=0 if args.all else args.max_size, dry_run=args.dry_run)
    if settings.local.value:
        context.report.say("What the local AWS has unpacked is its own, and goes with all else in it: scar local reset")
    gone = "would go" if args.dry_run else "removed"

    def row(item: Kept, fate: str) -> dict[str, Any]:
        return {
            "what": item.what,
            "name": item.path.name[:19],
            "size": size(item.size_bytes),
            "last used": _ago(time.time() - item.used_at),
            "": fate,
        }

    if context.report.json:
        context.report.document(_prune_document(settings, done, dry_run=args.dry_run))
        return 0
    rows = [row(item, "in use" if item.in_use else "kept") for item in done.kept]
    rows += [row(item, gone) for item in done.removed]
    columns = ("what", "name", "size", "last used", "")
    context.report.table(rows, columns, empty=f"Nothing is kept of images in {settings.cache}.")
    if not rows:
        return 0
    verb = "would free" if args.dry_run else "freed"
    context.report.say(f"{verb} {size(done.freed_bytes)}; {size(done.kept_bytes)} stay in {settings.cache}")
    return 0


def _prune_document(settings: Settings, done: Any, *, dry_run: bool) -> dict[str, Any]:
    def told(item: Any) -> dict[str, Any]:
        return {
            "what": item.what,
            "path": str(item.path),
            "size_bytes": item.size_bytes,
            "used_at": item.used_at,
            "in_use": item.in_use,
        }

    return {
        "cache": str(settings.cache),
        "dry_run": dry_run,
        "removed": [told(item) for item in done.removed],
        "kept": [told(item) for item in done.kept],
        "freed_bytes": done.freed_bytes,
        "kept_bytes": done.kept_bytes,
    }


def _ago(seconds: float) -> str:
    if seconds < 60:
        return "just now"
    for unit, unit_s in (("day", _DAY_S), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= unit_s:
            return f"{plural(int(seconds // unit_s), unit)} ago"
    return "just now"


# -- logging in -------------------------------------------------------------------------------------------------


class _Keychain:
    """What `docker login` wrote; for private ECR the account, which is reached only when such a name comes up."""

    def __init__(self, context: Context, functions: tuple[Function, ...], aws: Aws | None = None) -> None:
        self._context, self._functions, self._aws = context, functions, aws
        self._of_account: Keychain | None = None

    def __call__(self, host: str) -> Credentials | None:
        from scar.package.source import docker_login

        if "ecr" not in host:
            return docker_login()(host)
        from scar.package.ecr import ecr_host, ecr_keychain

        if ecr_host(host) is None:
            return docker_login()(host)
        if self._aws is None:
            self._aws, _ = connect(self._context, self._functions)
        self._of_account = self._of_account or ecr_keychain(self._aws)
        return self._of_account(host)

    @contextmanager
    def explained(self, image: str | None) -> Iterator[None]:
        """Of an image that the account's ECR does not have, say whether it would fetch it."""
        try:
            yield
        except NotFoundError:
            if self._aws is None:
                raise
            from scar.package.ecr import absence_explained

            with absence_explained(self._aws, image):
                raise


def _refuse_password(name: str) -> None:
    """Said without repeating it: it would be in a log."""
    if "@" in name and "@sha256:" not in name:
        raise UsageError(
            "the name of an image holds an `@` that no digest follows",
            fix="Write name@sha256:…; a user and a password belong into: docker login REGISTRY",
        )
