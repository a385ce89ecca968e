"""`scar validate`, `scar schema`, `scar config`: definition files without an account."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from scar.arguments.defining import given
from scar.commands.common import configurations, settings_of, warnings_of
from scar.commands.given import defined
from scar.errors import FdlError, NotFoundError, Problem, UsageError

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
    """Every setting and every default of a function, and who says so; of one KEY, or of one section."""
    effective = _effective(context)
    keys = list(effective) if args.key is None else _asked(args.key, list(effective))
    rows = [{"key": key, "value": effective[key][0], "origin": effective[key][1]} for key in keys]
    if context.report.json:
        context.report.document(rows[0] if args.key is not None and len(rows) == 1 else rows)
    elif args.key is not None and len(rows) == 1:
        value = "-" if rows[0]["value"] in (None, "", ()) else rows[0]["value"]
        context.report.line(f"{rows[0]['key']}: {value}  ({rows[0]['origin']})")
    else:
        context.report.table(rows, ("key", "value", "origin"), empty="there are no settings")
    return 0


def _effective(context: Context) -> dict[str, tuple[object, str]]:
    """Key → value and origin: the settings of this command, then what a function is when its definition does not say."""
    from scar.fdl.configuration import defaults, said
    from scar.settings import explained

    configured = configurations()
    for warning in warnings_of(configured):
        context.report.complain(f"warning: {warning}")
    settings = settings_of(context)
    found: dict[str, tuple[object, str]] = {
        name: (origin.value, origin.source) for name, origin in explained(settings, os.environ)
    }
    if settings.profile.value is None and os.environ.get("AWS_PROFILE"):
        found["profile"] = (os.environ["AWS_PROFILE"], "AWS_PROFILE")
    if settings.region.value is None:
        found["region"] = _of_boto(settings.profile.value)
    found |= {key: (value, "default") for key, value in defaults()}
    for each in reversed(configured):
        found |= said(each)
    return found


def _of_boto(profile: str | None) -> tuple[object, str]:
    """The region that AWS's own configuration files say, which every AWS tool falls back on."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    session = get_session()
    if profile is not None:
        session.set_config_variable("profile", profile)
    try:
        region = session.get_config_variable("region")
    except BotoCoreError:  # no such profile: the command that needs it says so
        region = None
    return (region, "AWS configuration file") if region else (None, "default")


def _asked(asked: str, keys: list[str]) -> list[str]:
    """The key that was asked for, or those of the section that was, or those whose last word it is; `aws.` may be left out."""
    ways: tuple[Callable[[str], bool], ...] = (
        lambda key: asked in {key, key.removeprefix("aws.")},
        lambda key: key.startswith((f"{asked}.", f"aws.{asked}.")),
        lambda key: key.endswith(f".{asked}"),
    )
    for fits in ways:
        if found := [key for key in keys if fits(key)]:
            return found
    raise _no_such_key(asked, keys)


def _no_such_key(asked: str, keys: list[str]) -> NotFoundError:
    import difflib

    short = [key.removeprefix("aws.") for key in keys]
    guesses = difflib.get_close_matches(asked.removeprefix("aws."), short, 1)
    fix = f"Did you mean {guesses[0]}?" if guesses else "See all: scar config"
    return NotFoundError(f"there is no setting called {asked!r}", fix=fix)
