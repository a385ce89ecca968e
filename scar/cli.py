"""argv → a command → an exit code. The only place that turns errors into exit codes.

What may be typed is `scar.arguments`' business; what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn, cast

from scar.arguments import build
from scar.errors import INTERRUPTED, FdlError, RunFailedError, ScarError, ServiceError, UsageError

if TYPE_CHECKING:
    from scar.arguments import Command
    from scar.report import Format, Report


@dataclass(frozen=True, slots=True)
class Context:
    """What every command is given besides its own flags: the voice, and how to reach the account."""

    report: Report
    asked_local: bool | None
    asked_profile: str | None
    asked_region: str | None
    debug: bool = False


def main(argv: Sequence[str]) -> int:
    """Run one command line; answers the process's exit code."""
    _prepare_streams()
    opened: list[Report] = []
    door = _Door(argv, opened)
    try:
        args = build().parse_args(argv)
        if args.command is None:
            build().print_help(sys.stderr)
            return UsageError.exit_code
        return _run(args, opened)
    except ScarError as error:
        return door.complain(error, debug="--debug" in argv)
    except KeyboardInterrupt:
        _stderr("Interrupted. The same command continues where this one stopped.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`scar ls | head`). Python would complain once more when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - the door: nothing may leave without an exit code that says "failed"
        if "--debug" in argv:
            traceback.print_exc()
        return door.complain(_mapped(error), debug=False)


def _run(args: argparse.Namespace, opened: list[Report]) -> int:
    from scar.report import FORMATS, Report, style_of

    signal.signal(signal.SIGTERM, _interrupt)
    style = style_of(
        args.output if args.output in FORMATS else "table",
        quiet=args.quiet,
        out=sys.stdout,
        err=sys.stderr,
        environ=os.environ,
        colour=args.color,
        progress=args.progress,
        query=args.query,
        verbosity=2 if args.debug else int(args.verbose),
        may_ask=not args.no_input and sys.stdin is not None and sys.stdin.isatty(),
    )
    report = Report(style)
    opened.append(report)
    context = Context(report, args.local, args.profile, args.region, debug=args.debug)
    command = cast("Command", args.load())
    return command(context, args)


def _prepare_streams() -> None:
    """What the locale's letters cannot write is escaped: a locale without `→` must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _mapped(error: Exception) -> ScarError:
    """Errors of libraries, told in our words; an unforeseen one is a defect of ours and says so."""
    if type(error).__module__.startswith(("botocore", "boto3", "s3transfer", "urllib3")):
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError | BotoCoreError):
            from scar.aws.errors import told

            return told(error, "")
        return ServiceError(
            f"{type(error).__name__}: {error}", fix="Check the network, then run the same command again."
        )
    if isinstance(error, OSError):
        return ScarError(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return ScarError(
        f"{type(error).__name__}: {error}",
        fix="This is a defect of SCAR. Run again with --debug and report what it prints.",
    )


class _Door:
    """How a command that failed leaves: its error told once, for a person and, where a program listens, as the one document."""

    def __init__(self, argv: Sequence[str], opened: list[Report]) -> None:
        self._argv, self._opened = argv, opened

    def complain(self, error: ScarError, *, debug: bool) -> int:
        from scar.report import Report, printable, style_of

        if debug:
            traceback.print_exception(error)
        report = self._opened[-1] if self._opened else None
        if report is None:
            style = style_of(_wanted(self._argv), quiet=False, out=sys.stdout, err=sys.stderr, environ=os.environ)
            report = Report(style)
        if report.json and not report.spoke:
            report.failure({"error": _document(error)})
        lines = [f"  | {line}" for line in error.last_lines] if isinstance(error, RunFailedError) else []
        text = f"scar: {error}" if not isinstance(error, FdlError) else str(error)
        report.draw("")
        _stderr(printable("\n".join([report.paint_remark(text, "failed"), *lines])))
        return error.exit_code


def _document(error: ScarError) -> dict[str, object]:
    document: dict[str, object] = {"what": error.what, "exit_code": error.exit_code}
    document["exit_origin"] = "job" if isinstance(error, RunFailedError) else "tool"
    if error.where:
        document["where"] = error.where
    if error.fix:
        document["fix"] = error.fix
    if isinstance(error, FdlError):
        from dataclasses import asdict

        document["problems"] = [asdict(problem) for problem in error.problems]
    if isinstance(error, RunFailedError):
        document["last_lines"] = list(error.last_lines)
    return document


def _stderr(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _wanted(argv: Sequence[str]) -> Format:
    """How errors are to be told: known before the command line was understood."""
    found: Format = "table"
    for a, b in pairwise([*argv, ""]):
        if a == "--":
            break
        if a in {"-j", "--json", "-ojson", "--output=json"} or (a in {"-o", "--output"} and b == "json"):
            found = "json"
        elif a in {"-oyaml", "--output=yaml"} or (a in {"-o", "--output"} and b == "yaml"):
            found = "yaml"
        elif (a == "--query" or a.startswith("--query=")) and found == "table":
            found = "json"
    return found
