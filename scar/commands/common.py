"""What several commands begin with: read the definition, settle the settings, connect."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import NotFoundError, Problem, UsageError
from scar.settings import Asked, Defined, Settings, configuration_files, settle

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.configuration import Configuration
    from scar.fdl.load import Definition
    from scar.fdl.model import Function
    from scar.fdl.places import Node


def settings_of(context: Context, functions: tuple[Function, ...] = ()) -> Settings:
    """The settings of a command. Functions of one file must agree on profile and region: one run works on one account."""
    asked = Asked(context.asked_local, context.asked_profile, context.asked_region)
    return settle(
        asked,
        os.environ,
        Defined(_agreed(functions, "boto_profile"), _agreed(functions, "region")),
        _configured(configurations()),
    )


def configurations() -> tuple[Configuration, ...]:
    """What the configuration files say that there are, the one that counts first."""
    paths = configuration_files(os.environ)
    if not paths:
        return ()
    from scar.fdl.configuration import load

    return tuple(load(path) for path in paths)


def _configured(files: tuple[Configuration, ...]) -> Defined:
    profile = next((each.profile for each in files if each.profile), None)
    region = next((each.region for each in files if each.region), None)
    said = [str(each.path) for each in files if each.profile or each.region]
    return Defined(profile, region, said[0]) if said else Defined()


def _agreed(functions: tuple[Function, ...], key: str) -> str | None:
    said = {value for fn in functions if (value := getattr(fn.lambda_, key)) is not None}
    if len(said) > 1:
        raise UsageError(
            f"the functions of the file name different values of lambda.{key}: {', '.join(sorted(said))}",
            fix="Deploy them one at a time with --name, or from a file each.",
        )
    return next(iter(said), None)


def connect(context: Context, functions: tuple[Function, ...] = ()) -> tuple[Aws, Settings]:
    from scar.session import connect as open_session

    settings = settings_of(context, functions)
    return open_session(settings, context.report), settings


def load_definition(path: Path) -> Definition:
    """The functions of a file, with what the configuration adds to them. Raises FdlError."""
    from scar.fdl.load import load

    configured = configurations()
    definition = load(path, below=lambda root: under_all(root, configured), environ=os.environ)
    return replace(definition, warnings=(*warnings_of(configured), *definition.warnings))


def under_all(root: Node | None, files: tuple[Configuration, ...]) -> Node | None:
    """A definition that falls back on the configuration files, one after the other."""
    if files:
        from scar.fdl.configuration import under

        for each in files:
            root = under(root, each)
    return root


def warnings_of(files: tuple[Configuration, ...]) -> tuple[Problem, ...]:
    return tuple(warning for each in files for warning in each.warnings)


def read_definition(context: Context, path: Path, only: str | None = None) -> tuple[Function, ...]:
    """The functions of a file, or the one called `only`. Warnings are said."""
    definition = load_definition(path)
    for warning in definition.warnings:
        context.report.complain(f"warning: {warning}")
    if only is None:
        return definition.functions
    chosen = tuple(fn for fn in definition.functions if fn.name == only)
    if not chosen:
        names = ", ".join(fn.name for fn in definition.functions)
        raise NotFoundError(f"{path} defines no function called {only!r}", fix=f"It defines: {names}.")
    return chosen


def one_name(context: Context, name: str | None, path: Path | None) -> tuple[str, tuple[Function, ...]]:
    """The function that `-n` or `-f` names; a file with several needs `-n` instead."""
    if name is not None:
        return name, ()
    assert path is not None, "argparse requires one of the two"
    functions = read_definition(context, path)
    if not functions:
        raise UsageError(
            f"{path} defines no function in AWS", fix="Name the definition file of one, or the function with -n."
        )
    if len(functions) > 1:
        names = ", ".join(fn.name for fn in functions)
        raise UsageError(f"{path} defines several functions", fix=f"Name one with -n: {names}.")
    return functions[0].name, functions
