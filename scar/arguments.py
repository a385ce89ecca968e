"""The command line: every command, its flags and its example, as an argparse parser.

Only argparse is imported here; a command is imported when it runs, so `scar --help` costs no AWS library.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scar import __version__
from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.cli import Context

# What a command answers: 0, or the exit code of the run it watched.
Command = Callable[["Context", argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of leaving, so that usage errors look like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"See: {self.prog} --help")


def build() -> argparse.ArgumentParser:
    common = _common()
    parser = _Parser(
        prog="scar",
        parents=[_common(top=True)],
        description="Run any container image on every file that lands in a bucket.",
        epilog=(
            "Start here:\n  scar local demo                     a first look, with no AWS account\n"
            "  scar --local init -f function.yaml  the same commands, on this machine\n"
            "  scar init -f function.yaml          ... and on AWS"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"SCAR {__version__}")
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def verb(
        name: str, load: Callable[[], Command], help_: str, example: str, flags: _Parser = common
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = verbs.add_parser(
            name,
            parents=[flags],
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog="Example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(load=load)
        return sub

    init = verb(
        "init", _init, "make the functions of a definition file, or bring them up to date", "scar init -f function.yaml"
    )
    _definition(init)

    plan = verb("plan", _plan, "show what init would change, without changing it", "scar plan -f function.yaml")
    _definition(plan)
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 20 when there is something to change")

    validate = verb("validate", _validate, "check definition files; needs no network", "scar validate -f function.yaml")
    validate.add_argument("files", nargs="*", type=Path, metavar="FILE", help="definition files")
    validate.add_argument("-f", "--conf-file", action="append", type=Path, default=[], metavar="FILE")

    verb("schema", _schema, "print the JSON Schema of definition files", "scar schema > scar.schema.json")

    ls = verb("ls", _ls, "list the functions, or the objects of a bucket", "scar ls\nscar ls -b my-bucket/output")
    ls.add_argument("-b", "--bucket", metavar="BUCKET[/FOLDER]", help="list objects instead of functions")

    rm = verb(
        "rm", _rm, "remove functions and all that was made for them; buckets and files stay", "scar rm -f function.yaml"
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

    put = verb(
        "put", _put, "upload a file or a folder; this triggers the functions", "scar put -b my-bucket/input -p a.png"
    )
    put.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER]")
    put.add_argument("-p", "--path", required=True, type=Path, help="a file, or a folder whose tree is kept")

    get = verb("get", _get, "download objects", "scar get -b my-bucket/output -p results")
    get.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER|/KEY]")
    get.add_argument("-p", "--path", type=Path, default=Path(), help="folder to write to (default: here)")

    run = verb(
        "run",
        _run_function,
        "run a function now and wait for it",
        "scar run -n cow\nscar run -n cow -s script.sh -o output.txt",
        _common(output_file=True),
    )
    _one_function(run)
    run.add_argument("-s", "--run-script", type=Path, metavar="FILE", help="run this script instead of the function's")
    run.add_argument("-a", "--asynchronous", action="store_true", help="do not wait; the request id is printed")
    run.add_argument("-e", "--event", type=Path, metavar="FILE", help="JSON document to send as the event")
    run.add_argument("c_args", nargs=argparse.REMAINDER, metavar="ARG", help="arguments for the image's own command")

    log = verb("log", _log, "show what a function's runs wrote", "scar log -n cow")
    _one_function(log)
    log.add_argument("-ri", "--request-id", metavar="ID", help="one run only")
    log.add_argument("-ls", "--log-stream-name", metavar="STREAM", help="one log stream only")
    log.add_argument("--since", metavar="10m|2h|3d|ISO", help="nothing older than this")

    _image_verbs(verbs, common)
    _local_verbs(verbs, common)
    return parser


def _common(*, top: bool = False, output_file: bool = False) -> _Parser:
    """Flags that may stand before or after the command: the later one is the one that counts.

    `output_file`: `-o` may also name a file for the run's output, as SCAR's users write it.
    """
    parser = _Parser(add_help=False)
    # A default given twice would let the command's parser undo what was said before the command.
    silent = argparse.SUPPRESS
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--local", action="store_true", default=None if top else silent, help="use the local AWS on this machine"
    )
    group.add_argument("-pf", "--profile", default=None if top else silent, help="AWS profile")
    group.add_argument("--region", default=None if top else silent, help="AWS region")
    if output_file:
        group.add_argument(
            "-o",
            "--output",
            "--output-file",
            default=silent,
            metavar="table|json|FILE",
            help="how to answer, or where to",
        )
    else:
        group.add_argument(
            "-o",
            "--output",
            default="table" if top else silent,
            type=_output,
            metavar="table|json",
            help="how to answer",
        )
    group.add_argument(
        "-j", "--json", action="store_const", const="json", dest="output", default=silent, help="same as -o json"
    )
    group.add_argument("-q", "--quiet", action="store_true", default=False if top else silent, help="no remarks")
    group.add_argument("--debug", action="store_true", default=False if top else silent, help="show tracebacks")
    return parser


def _output(text: str) -> str:
    if text not in {"table", "json"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither table nor json")
    return text


def _definition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--conf-file", type=Path, required=True, metavar="FILE", help="the definition file")
    parser.add_argument("-n", "--name", help="only this function of the file")


def _one_function(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-n", "--name", help="the function's name")
    which.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the definition file of the function")


def _image_verbs(verbs: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    image = verbs.add_parser(
        "image",
        help="container images: inspect, derive, push, prune",
        description="Container images: what is in one, what SCAR makes of it, and what is kept of them on this machine.",
        epilog="Example:\n  scar image inspect debian:12",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    image.set_defaults(load=_image, image_verb=None)
    doing = image.add_subparsers(dest="image_verb", metavar="VERB", parser_class=_Parser)

    def verb(name: str, help_: str, example: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = doing.add_parser(
            name,
            parents=[common],
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog="Example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return sub

    inspect = verb(
        "inspect",
        "tell what an image is, what will run, and whether Lambda takes it; needs no account",
        "scar image inspect debian:12\nscar image inspect -f function.yaml --scan",
    )
    inspect.add_argument(
        "image", nargs="?", metavar="IMAGE", help="as `container.image` has it, or the path of an archive or a layout"
    )
    inspect.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the images of this definition file")
    inspect.add_argument("-n", "--name", help="only this function of the file")
    inspect.add_argument(
        "--architecture", type=_architecture, metavar="x86_64|arm64", help="for which processor (default: x86_64)"
    )
    inspect.add_argument(
        "--scan", action="store_true", help="read every layer too: unpacked size, and whether a zip runtime can run it"
    )

    derive = verb(
        "derive",
        "make the images of functions, and send nothing; needs no account",
        "scar image derive -f function.yaml\nscar image derive -f function.yaml --to function.tar",
    )
    _definition(derive)
    derive.add_argument(
        "--to",
        metavar="FILE.tar|DIR/|docker-archive:FILE",
        help="write the image: an OCI archive, an OCI layout, or what `docker load` takes",
    )

    push = verb(
        "push",
        "push the images of functions to their repositories, or one to any registry; prints what they are then called",
        "scar image push -f function.yaml\nscar image push -f function.yaml --to registry.example/team/cow:1",
    )
    _definition(push)
    push.add_argument("--to", metavar="REFERENCE", help="another place than the function's own repository in ECR")

    prune = verb(
        "prune",
        "remove what SCAR keeps of images on this machine; what is in use stays",
        "scar image prune --dry-run\nscar image prune --max-size 500MB",
    )
    bound = prune.add_mutually_exclusive_group()
    bound.add_argument(
        "--max-size",
        type=_bytes,
        default=2_000_000_000,
        metavar="SIZE",
        help="keep the most recently used, up to this size (default: 2GB)",
    )
    bound.add_argument("-a", "--all", action="store_true", help="keep nothing")
    prune.add_argument("--dry-run", action="store_true", help="only tell what would be removed")


def _architecture(text: str) -> str:
    names = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
    if text.lower() not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is neither x86_64 nor arm64")
    return names[text.lower()]


def _bytes(text: str) -> int:
    """`500MB`, `1.5 GiB`, `4096`."""
    number = text.rstrip("BbiIkKMmGgTt ")
    unit = text[len(number) :].strip().upper().removesuffix("B")
    power = " KMGT".find(unit.removesuffix("I") or " ")
    base = 1024 if unit.endswith("I") else 1000
    if not number.replace(".", "", 1).isdecimal() or not number.isascii() or power < 0 or unit == "I":
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 500MB or 2GiB")
    return int(float(number) * base**power)


def _local_verbs(verbs: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    local = verbs.add_parser(
        "local",
        help="the AWS on this machine: up, down, status, reset, logs, demo",
        description="An AWS on this machine, for trying things out and for tests. Needs no account.",
        epilog="Example:\n  scar local demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    local.set_defaults(load=_local, local_verb=None)
    doing = local.add_subparsers(dest="local_verb", metavar="VERB", parser_class=_Parser)

    def verb(name: str, help_: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = doing.add_parser(
            name, parents=[common], help=help_, description=help_[0].upper() + help_[1:] + ".", epilog=f"Example:\n  scar local {name}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        return sub

    up = verb("up", "start the local AWS (every --local command does so by itself)")
    up.add_argument(
        "--engine", metavar="NAME", help="how containers are run: auto, namespaces, proot, podman, docker, host"
    )
    up.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: the last one, or a free one)")
    verb("down", "stop the local AWS; what it holds is kept")
    verb("status", "tell whether it runs, where, and how containers are kept apart")
    reset = verb("reset", "stop the local AWS and forget everything it holds")
    reset.add_argument("-y", "--yes", action="store_true", help="do not ask")
    logs = verb("logs", "show the local AWS's own log")
    logs.add_argument("-l", "--lines", type=int, default=50, help="how many lines (default: 50)")
    demo = verb("demo", "a first look: two chained functions turn a photograph into text, in a container")
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


def _run_function() -> Command:
    from scar.commands.run import run

    return run


def _log() -> Command:
    from scar.commands.log import log

    return log


def _image() -> Command:
    from scar.commands.image import image

    return image


def _local() -> Command:
    from scar.commands.local import local

    return local
