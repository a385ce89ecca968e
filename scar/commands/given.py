"""Which functions a command is about: what the definition file says, what the flags say, and what the configuration leaves to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.commands.common import load_definition
from scar.errors import NotFoundError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.fdl.load import Definition
    from scar.fdl.model import Function


def definition_of(context: Context, args: Namespace) -> Definition:
    """What `-f` and the flags define, with `-n` the function of that name only. Warnings are said."""
    definition = load_definition(args.conf_file)
    for warning in definition.warnings:
        context.report.complain(f"warning: {warning}")
    if args.name is None:
        return definition
    from dataclasses import replace

    chosen = tuple(fn for fn in definition.functions if fn.name == args.name)
    services = tuple(service for service in definition.services if service.name == args.name)
    if not chosen and not services:
        names = ", ".join([*(fn.name for fn in definition.functions), *(each.name for each in definition.services)])
        raise NotFoundError(f"{args.conf_file} defines no function called {args.name!r}", fix=f"It defines: {names}.")
    return replace(definition, functions=chosen, services=services)


def functions_of(context: Context, args: Namespace) -> tuple[Function, ...]:
    """The functions in AWS Lambda among them."""
    return definition_of(context, args).functions
