"""`scar local demo`: a first look. Runs ordinary commands, prints each before it runs, and shows what comes out.

Two chained functions, each in its own container, turn a photograph gray and then into letters.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scar.commands.common import settings_of
from scar.commands.local import settled_status
from scar.errors import RunFailedError, ScarError, TimedOutError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.report import Report

BUCKET, RESULT = "scar-demo", "text/cat.txt"
_WAIT_S = 60.0
_FILES = ("function.yaml", "grayify.py", "ascii.py", "cat.png")


def demo(context: Context, args: Namespace) -> int:
    """Deploy, upload, wait, look, fetch; then say what to try next. Ready to be run again and again."""
    context = replace(context, asked_local=True)
    report, start = context.report, time.monotonic()
    here = _unpack(args.path)
    report.line("A photograph goes into a bucket; one function makes it gray, the next draws it with letters.")
    report.line(f"Definition, scripts and photograph are in {here}{'/'}: change them and run the commands yourself.")
    _start_local(context)

    scar = _Typist(report)
    scar.type("init", "-f", str(here / "function.yaml"))
    asked = time.time()
    scar.type("put", "-b", f"{BUCKET}/photos", "-p", str(here / "cat.png"))
    _wait_for_result(context, asked)
    scar.type("ls")
    scar.type("ls", "-b", BUCKET)
    scar.type("log", "-n", "ascii", "--since", "1m")
    scar.type("get", "-b", f"{BUCKET}/{RESULT}", "-p", str(here), "--force")
    report.line()
    report.line(report.faint(f"$ cat {shlex.quote(str(here / RESULT))}"))
    report.line((here / RESULT).read_text())
    report.line(f"From nothing to this in {time.monotonic() - start:.0f} s. What to try next:")
    for command, why in _next(here):
        report.line(f"  {report.strong(command)}\n      {why}")
    return 0


def _next(here: Path) -> list[tuple[str, str]]:
    return [
        (f"scar --local put -b {BUCKET}/photos -p YOUR.png", "your own photograph (an 8-bit PNG)"),
        (f"scar --local get -b {BUCKET}/gray/cat.png -p {here}", "what the first function made"),
        (f"$EDITOR {here}/ascii.py && scar --local init -f {here}/function.yaml", "change a script; only that is sent"),
        (f"scar --local plan -f {here}/function.yaml", "what init would change"),
        ("scar local status", "where all this runs, and what is kept apart"),
        (f"scar --local rm -f {here}/function.yaml && scar local reset", "leave nothing behind"),
    ]


class _Typist:
    """Types commands as the user would: prints the line, then runs it through the same door."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def type(self, *words: str) -> None:
        from scar.cli import main

        self._report.line()
        self._report.line(self._report.strong(f"$ scar --local {shlex.join(words)}"))
        if code := main(["--local", *words]):
            raise RunFailedError(
                f"the demo stops here: scar {words[0]} failed with exit code {code}",
                exit_code=code,
                fix="What went wrong is said above; the local AWS's own log: scar local logs",
            )


def _start_local(context: Context) -> None:
    """Start the local AWS; where no kind of container works at all, without isolation, and say so in one line."""
    from scar.local.lifecycle import down, ensure_up

    settings = settings_of(context)
    ensure_up(settings.local_state, engine=settings.engine.value, tell=context.report.say)
    now = settled_status(settings.local_state, wait_s=_WAIT_S)
    if now is not None and "refused" in now.engine and now.engine["asked"] == "auto":
        context.report.complain(
            "No kind of container works here: the scripts run WITHOUT isolation (as with: scar local up --engine host)."
        )
        down(settings.local_state)
        ensure_up(settings.local_state, engine="host", tell=context.report.say)


def _wait_for_result(context: Context, asked: float) -> None:
    """Until the result of the photograph that was just put is there; a failed run shows up as its last log lines."""
    from scar.aws.objects import objects_below
    from scar.session import connect

    aws = connect(settings_of(context), context.report)

    def there() -> bool:
        with suppress(StopIteration):
            # S3's times are whole seconds
            return next(objects_below(aws, BUCKET, RESULT)).modified.timestamp() >= int(asked)
        return False

    _until(there, context.report)


def _until(there: Callable[[], bool], report: Report) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not there():
        if time.monotonic() > deadline:
            raise TimedOutError(
                f"s3://{BUCKET}/{RESULT} did not appear within {_WAIT_S:.0f} s",
                fix="See what the functions say: scar --local log -n grayify; scar --local log -n ascii",
            )
        report.draw("waiting for both functions …")
        time.sleep(0.1)
    report.draw("")


def _unpack(folder: Path) -> Path:
    """Copy the example to where the user can change it; files that are there stay as they are."""
    source = _example()
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)
    return folder


def _example() -> Path:
    """The example of this installation, or of this checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "examples" / "demo", package.parent / "examples" / "demo"):
        if (folder / "function.yaml").is_file():
            return folder
    raise ScarError("the demo's files are missing from this installation", fix="Install SCAR again.")
