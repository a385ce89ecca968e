"""`scar validate`, `scar schema`, `scar config`: definition files without an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.arguments.defining import given
from scar.commands.common import configuration
from scar.commands.given import defined
from scar.errors import FdlError, Problem, UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from scar.cli import Context


def validate(context: Context, args: Namespace) -> int:
    """Check every file named; all problems of all files are told at once."""
    files: list[Path | None] = [*args.conf_file, *args.files]
    if not files:
        if args.name is None and not given(args):
            raise UsageError("no definition file was named", fix="For example: scar validate -f function.yaml")
        files = [None]
    problems: list[Problem] = []
    checked: list[dict[str, object]] = []
    for path in files:
        try:
            definition = defined(path, args)
        except FdlError as error:
            problems.extend(error.problems)
            continue
        for warning in definition.warnings:
            context.report.complain(f"warning: {warning}")
        names = [*(fn.name for fn in definition.functions), *(service.name for service in definition.services)]
        checked.append({"file": "command line" if path is None else str(path), "functions": names})
    if problems:
        raise FdlError(problems)
    if context.report.json:
        context.report.document({"valid": checked})
    else:
        for item in checked:
            listed = item["functions"]
            assert isinstance(listed, list)
            context.report.line(f"{item['file']}: valid, defines {', '.join(listed)}")
    return 0


def schema(context: Context, args: Namespace) -> int:
    """Print the JSON Schema, for editors."""
    from scar.fdl.schema import json_schema

    context.report.document(json_schema())
    return 0


def config(context: Context, args: Namespace) -> int:
    """Every default of a function, and who says so: `scar.cfg`, or nobody."""
    from scar.fdl.configuration import defaults, said

    configured = configuration()
    for warning in configured.warnings if configured else ():
        context.report.complain(f"warning: {warning}")
    values = said(configured)
    rows = []
    for key, default in {**dict(defaults()), **dict.fromkeys(values)}.items():
        value, origin = values.get(key, (default, "default"))
        rows.append({"key": key, "value": value, "origin": origin})
    if context.report.json:
        context.report.document(rows)
    else:
        context.report.table(rows, ("key", "value", "origin"), empty="there are no defaults")
    return 0
