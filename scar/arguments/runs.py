"""The words about runs and jobs: start one, look at it, wait for it, end it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from scar.arguments.parser import Command, Verbs, common, duration, one_function

_STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")


def add(words: Verbs) -> None:
    run = words.add(
        "run",
        "run a function now and wait for it",
        "scar run -n cow\nscar run -n cow -s script.sh -o output.txt\nscar run -n cow --wait\n"
        "scar run -n cow -ib my-bucket/in --yes\nscar run -n cow --object s3://my-bucket/in/a.png",
        _run,
        common(output_file=True),
    )
    _which(run)
    run.add_argument("-s", "--run-script", type=Path, metavar="FILE", help="run this script instead of the function's")
    run.add_argument("-a", "--asynchronous", action="store_true", help="do not wait; the request id is printed")
    run.add_argument(
        "-ib",
        "--input-bucket",
        metavar="BUCKET[/FOLDER]",
        help="run once for each object that is there already, as if it had just been uploaded",
    )
    run.add_argument(
        "--object",
        dest="objects",
        action="append",
        metavar="s3://BUCKET/KEY",
        help="run for this object; may be given several times",
    )
    run.add_argument(
        "--inputs",
        action="store_true",
        help="run for every object in the definition's inputs (with -f)",
    )
    run.add_argument(
        "--jobs",
        type=_runs_at_once,
        default=8,
        metavar="N",
        help="how many runs for objects at the same time (default: 8)",
    )
    run.add_argument("--dry-run", action="store_true", help="only tell what would be run for")
    run.add_argument("-y", "--yes", action="store_true", help="do not ask before running for many objects")
    run.add_argument("-e", "--event", type=Path, metavar="FILE", help="JSON document to send as the event")
    run.add_argument("--json-data", metavar="JSON", help="the same, written here")
    run.add_argument(
        "--wait",
        action="store_true",
        help="wait for the Batch jobs that take the run over too, show what they write, and end with the script's own exit code",
    )
    run.add_argument(
        "--no-spill",
        action="store_true",
        help="refuse what is too large for the invocation, instead of sending it through the state bucket",
    )
    run.add_argument("c_args", nargs=argparse.REMAINDER, metavar="ARG", help="arguments for the image's own command")

    log = words.add(
        "log",
        "show what a function's runs wrote, in Lambda and in Batch",
        "scar log -n cow\nscar log -n cow --since 2h --follow\nscar log -n cow -ri 1f2e3d4c-0000-4000-8000-000000000000\n"
        "scar log 1f2e3d4c-0000-4000-8000-000000000001 --node 2",
        _log,
        aliases=("logs",),
    )
    log.add_argument(
        "id", nargs="?", metavar="ID", help="one job, whatever function it is of; with -n or -f same as -ri ID"
    )
    one_function(log, required=False)
    log.add_argument(
        "-ri",
        "--request-id",
        metavar="ID",
        help="one run only, with the jobs it was handed over to; or one job, by its id",
    )
    log.add_argument(
        "--node",
        type=_node,
        metavar="INDEX|all",
        help="what this node of a multi-node job wrote, or all its nodes; without it, a job's log is its main node's, and a function's is "
        "everything that its runs wrote, on every node",
    )
    log.add_argument("-ls", "--log-stream-name", metavar="STREAM", help="one log stream only")
    _since(log, "nothing older than this")
    log.add_argument("--until", metavar="10m|2h|3d|ISO", help="nothing newer than this")
    log.add_argument(
        "--search", type=_phrase, metavar="TEXT", help="only lines that hold this text, capitals as written"
    )
    log.add_argument(
        "--follow",
        action="store_true",
        help="go on showing what comes; with -ri until the run has ended, and with its exit code",
    )

    jobs = words.add(
        "jobs",
        "list Batch jobs, newest first, or tell everything about one",
        "scar jobs\nscar jobs -n cow --status RUNNABLE --status RUNNING\nscar jobs 1f2e3d4c-0000-4000-8000-000000000000\n"
        "scar jobs 1f2e3d4c-0000-4000-8000-000000000000#2",
        _jobs,
    )
    jobs.add_argument("id", nargs="?", metavar="ID", help="one job with all its nodes; or one node of it, ID#INDEX")
    one_function(jobs, required=False)
    jobs.add_argument(
        "--status",
        action="append",
        type=str.upper,
        choices=_STATUSES,
        metavar="STATUS",
        help=f"only jobs in this status; may be given several times: {', '.join(_STATUSES)}",
    )
    _since(jobs, "only jobs submitted since then")

    wait = words.add(
        "wait",
        "wait until jobs have ended, and end with the exit code of the first that failed",
        "scar wait 1f2e3d4c-0000-4000-8000-000000000000 --timeout 2h\nscar wait -n cow 1f2e3d4c-0000-4000-8000-000000000001",
        _wait,
    )
    wait.add_argument("ids", nargs="+", metavar="ID", help="a job's id; with -n or -f also the request id of a run")
    one_function(wait, required=False)
    wait.add_argument(
        "--timeout",
        type=duration,
        metavar="30s|10m|2h|3d",
        help="give up after this long, with exit code 124 (default: never)",
    )

    cancel = words.add(
        "cancel",
        "take jobs that have not started out of the queue",
        "scar cancel 1f2e3d4c-0000-4000-8000-000000000000",
        _cancel,
    )
    _to_end(cancel)
    terminate = words.add(
        "terminate",
        "end jobs, running or not; nothing of theirs is published",
        "scar terminate 1f2e3d4c-0000-4000-8000-000000000000 --reason 'wrong input'",
        _terminate,
    )
    _to_end(terminate)


def _since(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--since", metavar="10m|2h|3d|ISO", help=help_)


def _to_end(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="a job's id")
    parser.add_argument("--reason", type=_reason, metavar="TEXT", help="why, as Batch is to remember it")


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--name", help="the function's name, or with -f which function of the file")
    parser.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the definition file of the function")


def _runs_at_once(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 500")
    return int(text)


def _phrase(text: str) -> str:
    if not 0 < len(text) <= 1000 or not text.isprintable():  # botocore logs:FilterPattern takes 1024
        raise argparse.ArgumentTypeError("a text to search for has between 1 and 1000 characters, on one line")
    return text


def _node(text: str) -> int | str:
    if text == "all":
        return text
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a node's index, such as 0, nor all")
    return int(text)


def _reason(text: str) -> str:
    if not 0 < len(text) <= 1024:  # botocore batch:TerminateJobRequest.reason
        raise argparse.ArgumentTypeError("a reason has between 1 and 1024 characters")
    return text


def _run() -> Command:
    from scar.commands.run import run

    return run


def _log() -> Command:
    from scar.commands.log import log

    return log


def _jobs() -> Command:
    from scar.commands.jobs import jobs

    return jobs


def _wait() -> Command:
    from scar.commands.wait import wait

    return wait


def _cancel() -> Command:
    from scar.commands.end_jobs import cancel

    return cancel


def _terminate() -> Command:
    from scar.commands.end_jobs import terminate

    return terminate
