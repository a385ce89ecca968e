"""The command line: every command, its flags and its example, as an argparse parser.

Only argparse is imported here; a command is imported when it runs, so `scar --help` costs no AWS library.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scar import __version__
from scar.arguments import images, runs
from scar.arguments.parser import Command, Parser, Verbs, common, definition

__all__ = ["Command", "build"]


def build() -> argparse.ArgumentParser:
    parser = Parser(
        prog="scar",
        parents=[common(top=True)],
        description="Run any container image on every file that lands in a bucket.",
        epilog=(
            "Start here:\n  scar local demo                     a first look, with no AWS account\n"
            "  scar --local init -f function.yaml  the same commands, on this machine\n"
            "  scar init -f function.yaml          ... and on AWS"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"SCAR {__version__}")
    words = Verbs(parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser), common())

    init = words.add(
        "init", "make the functions of a definition file, or bring them up to date", "scar init -f function.yaml", _init
    )
    definition(init)
    _patience(init)

    plan = words.add("plan", "show what init would change, without changing it", "scar plan -f function.yaml", _plan)
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

    words.add("schema", "print the JSON Schema of definition files", "scar schema > scar.schema.json", _schema)

    words.add("config", "show every default of a function, and what scar.cfg says of it", "scar config", _config)

    ls = words.add("ls", "list the functions, or the objects of a bucket", "scar ls\nscar ls -b my-bucket/output", _ls)
    ls.add_argument("-b", "--bucket", metavar="BUCKET[/FOLDER]", help="list objects instead of functions")

    rm = words.add(
        "rm", "remove functions and all that was made for them; buckets and files stay", "scar rm -f function.yaml", _rm
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
    _patience(rm)

    put = words.add(
        "put", "upload a file or a folder; this triggers the functions", "scar put -b my-bucket/input -p a.png", _put
    )
    put.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER]")
    put.add_argument("-p", "--path", required=True, type=Path, help="a file, or a folder whose tree is kept")

    get = words.add("get", "download objects", "scar get -b my-bucket/output -p results", _get)
    get.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER|/KEY]")
    get.add_argument("-p", "--path", type=Path, default=Path(), help="folder to write to (default: here)")

    runs.add(words)
    images.add(words)
    _local_verbs(words)
    return parser


def _patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=runs.duration,
        metavar="30s|10m",
        help="the longest to wait for any one thing in AWS (default: 10m)",
    )


def _local_verbs(verbs: Verbs) -> None:
    words = verbs.group(
        "local",
        "the AWS on this machine: up, down, status, reset, logs, demo",
        "An AWS on this machine, for trying things out and for tests. Needs no account.",
        "scar local demo",
        _local,
    )

    up = words.add("up", "start the local AWS (every --local command does so by itself)", "scar local up")
    up.add_argument(
        "--engine", metavar="NAME", help="how containers are run: auto, namespaces, proot, podman, docker, host"
    )
    up.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: the last one, or a free one)")
    words.add("down", "stop the local AWS; what it holds is kept", "scar local down")
    words.add("status", "tell whether it runs, where, and how containers are kept apart", "scar local status")
    reset = words.add("reset", "stop the local AWS and forget everything it holds", "scar local reset")
    reset.add_argument("-y", "--yes", action="store_true", help="do not ask")
    logs = words.add("logs", "show the local AWS's own log", "scar local logs")
    logs.add_argument("-l", "--lines", type=int, default=50, help="how many lines (default: 50)")
    demo = words.add(
        "demo", "a first look: two chained functions turn a photograph into text, in a container", "scar local demo"
    )
    demo.add_argument("-p", "--path", type=Path, default=Path("scar-demo"), help="folder for what comes out")


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


def _ls() -> Command:
    from scar.commands.ls import ls

    return ls


def _rm() -> Command:
    from scar.commands.rm import rm

    return rm


def _put() -> Command:
    from scar.commands.transfer import put

    return put


def _get() -> Command:
    from scar.commands.transfer import get

    return get


def _local() -> Command:
    from scar.commands.local import local

    return local
