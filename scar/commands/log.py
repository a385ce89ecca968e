"""`scar log`: what a function's runs wrote."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scar.commands.common import connect, one_name
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def log(context: Context, args: Namespace) -> int:
    """Print the log, oldest line first; with JSON one document holding a list of lines."""
    from scar.aws.logs import lines, of_request

    since_ms = since(args.since, time.time()) if args.since else None
    name, functions = one_name(context, args.name, args.conf_file)
    aws, _ = connect(context, functions)
    found = lines(aws, name, stream=args.log_stream_name, since_ms=since_ms)
    if args.request_id:
        found = of_request(found, args.request_id)
    shown = 0
    document: list[dict[str, object]] = []
    for line in found:
        shown += 1
        when = (
            datetime.fromtimestamp(line.time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        if context.report.json:
            document.append({"time": when, "stream": line.stream, "message": line.message})
        else:
            context.report.line(f"{context.report.faint(when)} {line.message}")
    if args.request_id and not shown:
        raise NotFoundError(f"the log of {name!r} has no run {args.request_id}", fix=f"See all: scar log -n {name}")
    if context.report.json:
        context.report.document(document)
    elif not shown:
        context.report.say(f"{name} has not run yet.")
    return 0


def since(text: str, now_s: float) -> int:
    """`10m`, `2h`, `3d` before now, or an ISO 8601 time (UTC unless it says otherwise), as milliseconds since 1970."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return int((now_s - int(match[1]) * _UNITS[match[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since {text!r} is no time", fix="Write 10m, 2h, 3d or 2026-01-31T12:00.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
