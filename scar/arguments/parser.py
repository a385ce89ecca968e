"""What the commands' flags have in common: a parser that raises, the flags that every command has, and how a command is added.

Only argparse is imported here.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.cli import Context

# What a command answers: 0, or the exit code of the run it watched.
Command = Callable[["Context", argparse.Namespace], int]


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of leaving, so that usage errors look like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"See: {self.prog} --help")


class Verbs:
    """The words of one parser, each with its flags, its one-line help and an example."""

    def __init__(self, words: argparse._SubParsersAction[Parser], flags: Parser) -> None:
        self._words, self._flags = words, flags

    def add(
        self,
        name: str,
        help_: str,
        example: str,
        load: Callable[[], Command] | None = None,
        flags: Parser | None = None,
        *,
        aliases: Sequence[str] = (),
    ) -> Parser:
        """`load` imports the command; a word of another word has the other's."""
        sub = self._words.add_parser(
            name,
            aliases=aliases,
            parents=[flags or self._flags],
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog="Example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if load is not None:
            sub.set_defaults(load=load)
        return sub

    def group(self, name: str, help_: str, description: str, example: str, load: Callable[[], Command]) -> Verbs:
        """A word that takes words of its own; which one was said is in `<name>_verb`."""
        parser = self._words.add_parser(
            name,
            help=help_,
            description=description,
            epilog=f"Example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(load=load, **{f"{name}_verb": None})
        return Verbs(parser.add_subparsers(dest=f"{name}_verb", metavar="VERB", parser_class=Parser), self._flags)


def common(*, top: bool = False, output_file: bool = False) -> Parser:
    """Flags that may stand before or after the command: the later one is the one that counts.

    `output_file`: `-o` may also name a file for the run's output, as SCAR's users write it.
    """
    parser = Parser(add_help=False)
    # A default given twice would let the command's parser undo what was said before the command.
    silent = argparse.SUPPRESS
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--local", action="store_true", default=None if top else silent, help="use the local AWS on this machine"
    )
    group.add_argument("-pf", "--profile", default=None if top else silent, help="AWS profile")
    group.add_argument("--region", default=None if top else silent, help="AWS region")
    group.add_argument(
        "-o",
        "--output",
        *(["--output-file"] if output_file else []),
        default="table" if top else silent,
        type=str if output_file else _output,
        metavar=FORMATS_OR_FILE if output_file else FORMATS,
        help="how to answer, or where to" if output_file else "how to answer",
    )
    group.add_argument(
        "-j", "--json", action="store_const", const="json", dest="output", default=silent, help="same as -o json"
    )
    group.add_argument(
        "--query",
        default=None if top else silent,
        type=_query,
        metavar="JMESPATH",
        help="show this part of the answer only, as JSON or YAML",
    )
    group.add_argument("-q", "--quiet", action="store_true", default=False if top else silent, help="no remarks")
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=False if top else silent,
        help="tell more: every call to AWS, and what a list else leaves out",
    )
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto" if top else silent,
        metavar="auto|always|never",
        help="whether to use colour (default: on a terminal, unless NO_COLOR is set)",
    )
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "none"),
        default="auto" if top else silent,
        metavar="auto|plain|none",
        help="how to show how far something is (default: a bar on a terminal, else a line now and then)",
    )
    group.add_argument(
        "--no-input",
        action="store_true",
        default=False if top else silent,
        help="never ask; without a terminal nothing is asked anyway",
    )
    group.add_argument(
        "--debug",
        action="store_true",
        default=False if top else silent,
        help="show tracebacks, and the calls to AWS with what was sent, secrets masked",
    )
    return parser


FORMATS = "table|json|yaml|text"
FORMATS_OR_FILE = f"{FORMATS}|FILE"


def _output(text: str) -> str:
    if text not in FORMATS.split("|"):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(FORMATS.split('|'))}")
    return text


def _query(text: str) -> str:
    import jmespath

    try:
        jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JMESPath expression: {error}") from error
    return text


def definition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--conf-file", type=Path, required=True, metavar="FILE", help="the definition file")
    parser.add_argument("-n", "--name", help="only this function of the file")


def one_function(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("-n", "--name", help="the function's name")
    which.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the definition file of the function")


def duration(text: str) -> float:
    """`90`, `30s`, `10m`, `2h`, `3d` as seconds."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time, such as 30s, 10m, 2h or 3d")
    return float(int(found[1]) * _UNITS[found[2]])
