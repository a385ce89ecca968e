"""The words that define functions, make them and remove them."""

from __future__ import annotations

import argparse
from pathlib import Path

from scar.arguments import defining
from scar.arguments.defining import definition
from scar.arguments.parser import Command, Verbs, duration


def add(words: Verbs) -> None:
    init = words.add(
        "init",
        "make the functions of a definition file, or bring them up to date",
        "scar init -f function.yaml\nscar init -n cow -i debian:12 -s cow.sh -ib my-bucket/in -ob my-bucket/out",
        _init,
    )
    definition(init)
    init.add_argument("-y", "--yes", action="store_true", help="put back what was changed by hand without asking")
    _patience(init)

    plan = words.add(
        "plan",
        "show what init would change, without changing it",
        "scar plan -f function.yaml\nscar plan -f function.yaml -n cow -m 1024",
        _plan,
    )
    definition(plan)
    _patience(plan)
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 20 when there is something to change")
    plan.add_argument(
        "--sizes",
        action="store_true",
        help="show how much fits where on the way of an event, and what takes room there already",
    )

    validate = words.add(
        "validate", "check definition files; needs no network", "scar validate -f function.yaml", _validate
    )
    validate.add_argument("files", nargs="*", type=Path, metavar="FILE", help="definition files")
    validate.add_argument("-f", "--conf-file", action="append", type=Path, default=[], metavar="FILE")
    validate.add_argument("-n", "--name", help="the function's name, where no file says it")
    defining.add(validate)

    words.add("schema", "print the JSON Schema of definition files", "scar schema > scar.schema.json", _schema)

    config = words.add(
        "config",
        "show every setting and every default of a function, and where each comes from",
        "scar config\nscar config region\nscar config lambda.memory",
        _config,
    )
    config.add_argument("key", nargs="?", metavar="KEY", help="this one only, or all of a section")

    rm = words.add(
        "rm",
        "remove functions and all that was made for them; buckets and files stay",
        "scar rm -f function.yaml\nscar rm -n cow --delete-data my-bucket --force",
        _rm,
    )
    which = rm.add_mutually_exclusive_group(required=True)
    which.add_argument("-n", "--name", help="the function's name")
    which.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="all functions of this definition file")
    which.add_argument("-a", "--all", action="store_true", help="every function that SCAR made in the region")
    rm.add_argument("-y", "--yes", action="store_true", help="do not ask")
    rm.add_argument(
        "--stop-jobs",
        action="store_true",
        help="end the Batch jobs that have not finished; else they are a reason to refuse",
    )
    rm.add_argument(
        "--delete-data",
        nargs="*",
        metavar="BUCKET",
        help="delete input and output buckets, too: those that are named, or each whose name is typed when it is asked for",
    )
    rm.add_argument("--force", action="store_true", help="with --delete-data: also buckets that are not empty")
    rm.add_argument("--timeout", type=duration, dest="patience", metavar="30s|10m", help="same as --wait-timeout")
    _patience(rm)


def _patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait-timeout",
        type=duration,
        dest="patience",
        metavar="30s|10m",
        help="the longest to wait for any one thing in AWS (default: 10m)",
    )


def _init() -> Command:
    from scar.commands.deploy import init

    return init


def _plan() -> Command:
    from scar.commands.deploy import plan

    return plan


def _validate() -> Command:
    from scar.commands.define import validate

    return validate


def _config() -> Command:
    from scar.commands.define import config

    return config


def _schema() -> Command:
    from scar.commands.define import schema

    return schema


def _rm() -> Command:
    from scar.commands.rm import rm

    return rm
