"""The command line: every command, its flags and its example, as an argparse parser.

Only argparse is imported here; a command is imported when it runs, so `scar --help` costs no AWS library.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scar import __version__
from scar.arguments import deploying, http, images, objects, permissions, runs, terminal, workflow
from scar.arguments.parser import Command, Parser, Verbs, common

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

    for part in (deploying, objects, runs, http, workflow, permissions, images, terminal):
        part.add(words)
    _local_verbs(words)
    return parser


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
    up.add_argument(
        "--iam",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="enforce IAM: check every request's signature and what policies allow (remembered; default: as last time)",
    )
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


def _local() -> Command:
    from scar.commands.local import local

    return local
