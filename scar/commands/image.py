"""`scar image …`: what an image is, what SCAR makes of it, where it goes, and what is kept of all that on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scar.commands.common import read_definition, settings_of
from scar.commands.image_common import LazyKeychain, derived_image, expect_only_one, refuse_password
from scar.errors import ScarError, UsageError
from scar.limits import LAMBDA_TMP_MIB
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.commands.image_view import Shown
    from scar.fdl.model import Function
    from scar.package.oci import Image
    from scar.report import Report

_ARCHITECTURE: Final = "x86_64"


def image(context: Context, args: Namespace) -> int:
    """Dispatch to one verb."""
    match args.image_verb:
        case "inspect":
            return _inspect(context, args)
        case "derive":
            return _derive(context, args)
        case "push":
            from scar.commands.image_push import push_images

            return push_images(context, args)
        case "prune":
            from scar.commands.image_prune import prune_cache

            return prune_cache(context, args)
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


def _look(context: Context, args: Namespace, fn: Function | None) -> Shown:
    from scar.commands.image_view import Shown, script_of
    from scar.package.inspecting.scan import Read, read_layers
    from scar.package.inspecting.source import inspect
    from scar.package.inspecting.verdict import verdict

    settings = settings_of(context, () if fn is None else (fn,))
    named, file, folder = _named(args.image) if fn is None else _container(fn)
    architecture = args.architecture or (fn.lambda_.architecture if fn else _ARCHITECTURE)
    keychain = LazyKeychain(context, () if fn is None else (fn,))
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
    is_called_so = ":" not in image and image.endswith((".tar", ".tar.gz", ".tgz"))
    if is_there or is_called_so or image.startswith(("/", "./", "../")):
        return None, path, Path()
    refuse_password(image)
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
        expect_only_one(functions, args.conf_file)
    told = []
    for fn in functions:
        derived = derived_image(context, fn, LazyKeychain(context, (fn,)))
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
