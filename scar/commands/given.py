"""Which functions a command is about: what the definition file says, what the flags say, and what the configuration leaves to both.

Flags are turned into nodes of a definition and laid over the file's, before anything is checked: one reader, the same rules, and a
problem of a flag names the flag. Precedence: flag, file, configuration, default. Lists are replaced, never joined.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar.arguments.defining import Flag, given
from scar.commands.common import configurations, under_all, warnings_of
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.fdl.load import Definition
    from scar.fdl.model import Function
    from scar.fdl.places import Node, Place, Table

_NOTHING = "scar init -n cow -i IMAGE -s cow.sh, or: scar init -f function.yaml"


def functions_of(context: Context, args: Namespace) -> tuple[Function, ...]:
    """The functions in AWS Lambda that the command is about. Warnings are said."""
    return definition_of(context, args).functions


def definition_of(context: Context, args: Namespace) -> Definition:
    """What `-f` and the flags define, with `-n` what has that name only. Warnings are said."""
    definition = defined(args.conf_file, args)
    for warning in definition.warnings:
        context.report.complain(f"warning: {warning}")
    if args.conf_file is None or args.name is None:
        return definition
    chosen = tuple(fn for fn in definition.functions if fn.name == args.name)
    services = tuple(service for service in definition.services if service.name == args.name)
    if not chosen and not services:
        names = ", ".join([*(fn.name for fn in definition.functions), *(each.name for each in definition.services)])
        raise NotFoundError(f"{args.conf_file} defines no function called {args.name!r}", fix=f"It defines: {names}.")
    return replace(definition, functions=chosen, services=services)


def defined(path: Path | None, args: Namespace, environ: Mapping[str, str] | None = None) -> Definition:
    """What a file and the flags of the command line define together; the flags alone when there is no file. Raises FdlError.

    `environ` is what `-e NAME` and `${env.NAME}` look into: the process's own, when it is not said.
    """
    from scar.fdl import load, overlay

    environ = os.environ if environ is None else environ
    configured = configurations()
    name = getattr(args, "name", None)
    flags = _flags(args, path, environ)
    if path is None:
        root = overlay.alone(overlay.laid(_named(_enough(args, flags)), flags))
        definition = load.made(under_all(root, configured) or root, "command line", Path.cwd(), environ=environ)
    else:

        def below(root: Node | None) -> Node | None:
            if flags.entries or name is not None:
                root = overlay.over(root, flags, name, _place("-n/--name"))
            return under_all(root, configured)

        definition = load.load(path, below=below, environ=environ)
        if flags.entries and not definition.functions:
            raise UsageError(
                f"{path} defines no function in AWS, and the flags say nothing of services",
                fix="Leave the flags out, or change the file.",
            )
    return replace(definition, warnings=(*warnings_of(configured), *definition.warnings))


def _enough(args: Namespace, flags: Table) -> str:
    """Without a file the flags have to name the function and its image. Answers the name."""
    if not flags.entries and args.name is None:
        raise UsageError("nothing says what the function is: neither a file nor flags", fix=f"For example: {_NOTHING}")
    if args.name is None:
        raise UsageError("the function has no name", fix="Give it one: -n NAME.")
    if args.image is None and args.image_file is None:
        raise UsageError(
            f"nothing says what function {args.name} runs",
            fix="Name an image with -i IMAGE or -if FILE, or a definition file with -f FILE.",
        )
    return str(args.name)


def _named(name: str) -> Table:
    from scar.fdl.overlay import table_of
    from scar.fdl.places import Scalar

    return table_of({"lambda.name": Scalar(name, "text", _place("-n/--name"))})


def _place(flag: str) -> Place:
    from scar.fdl.places import Place

    return Place(0, 0, f"flag {flag}")


def _flags(args: Namespace, file: Path | None, environ: Mapping[str, str]) -> Table:
    from scar.fdl.overlay import table_of

    return table_of({flag.key: _node(flag, value, file, environ) for flag, value in given(args)})


def _node(flag: Flag, value: Any, file: Path | None, environ: Mapping[str, str]) -> Node:
    from scar.fdl.document import UNSPEAKABLE, core_kind
    from scar.fdl.places import Entry, Items, Scalar, Table

    place = _place("/".join(flag.names))

    def text(said: str) -> Scalar:
        if not said.isprintable() and UNSPEAKABLE.search(said):  # bytes of the command line that are no UTF-8
            raise UsageError("what was given is not UTF-8", where=place.source, fix="Write it in UTF-8.")
        return Scalar(said, "text", place)

    match flag.kind:
        case "text":
            return text(_image(value) if flag.dest == "image" else value)
        case "number":
            kind = core_kind(value)
            return Scalar(value, kind if kind == "whole" else "text", place)
        case "truth":
            return Scalar("true", "truth", place)
        case "path":
            return text(str(_found(Path(value), file)) if value.strip() else value)
        case "list":
            return Items(tuple(text(one) for one in value), place)
        case "buckets":
            paths = ({"path": Entry(place, text(one))} for one in value)
            return Items(tuple(Table(entries, place) for entries in paths), place)
        case "variables":
            pairs = dict(_variable(flag, one, environ) for one in value)
            variables = Table({name: Entry(place, text(said)) for name, said in pairs.items()}, place)
            return Table({"Variables": Entry(place, variables)}, place)


def _variable(flag: Flag, said: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """`A=b=c` is A with the value `b=c`; `A` alone takes its value from our own environment."""
    name, found, value = said.partition("=")
    if not found:
        if name not in environ:
            raise UsageError(
                f"the environment variable {name!r} is not set",
                where=f"flag {'/'.join(flag.names)}",
                fix=f"Write {flag.names[0]} {name}=VALUE, or set it where you start SCAR.",
            )
        value = environ[name]
    return name, value


def _found(path: Path, file: Path | None) -> Path:
    """A path on the command line starts here, as everywhere; what is not here may be beside the file, where SCAR 4 looked."""
    here = path.absolute()
    if file is not None and not here.exists() and (beside := file.absolute().parent / path).exists():
        return beside
    return here


def _image(reference: str) -> str:
    """An image that is a path starts here too, and not at the definition's folder."""
    from scar.fdl.forms import image_path

    path = image_path(reference)
    if path is None or not path.strip():
        return reference
    transport, _, rest = reference.partition(":")
    return f"{transport}:{Path(path).absolute()}{rest[len(path) :]}"
