"""`scar ls`: the functions of the region, or the objects of a bucket."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect
from scar.commands.completion import keep_names
from scar.commands.times import age, iso
from scar.errors import DeniedError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.aws.endpoints import Endpoint
    from scar.aws.last_runs import LastRun
    from scar.cli import Context
    from scar.plan.listing import Deployed

_COLUMNS = ("name", "mode", "image", "input", "output", "endpoint")
_MORE = ("memory", "timeout", "last")


def ls(context: Context, args: Namespace) -> int:
    """A table of functions found by tag; calls grow with pages, not with functions. With `-v` also how the last run of each ended."""
    if args.bucket:
        from scar.commands.transfer import list_objects

        return list_objects(context, args.bucket)
    if args.conf_file is not None:
        from scar.commands import oscar

        return oscar.ls(context, args)
    from scar.plan.listing import functions

    aws, settings = connect(context)
    found = sorted(functions(aws), key=lambda fn: fn.name)
    keep_names(settings.cache, [fn.name for fn in found])
    ways = _endpoints(context, aws) if found else {}
    last = _last(aws, found) if args.verbose else None
    if context.report.json:
        context.report.document([_document(fn, ways.get(fn.name, ()), last) for fn in found])
        return 0
    rows = [_row(fn, ways.get(fn.name, ()), last) for fn in found]
    shown = [column for column in _COLUMNS if column == "name" or any(row.get(column) for row in rows)]
    context.report.table(
        rows,
        [*shown, *(_MORE if args.verbose else ())],
        empty="No function was made by SCAR here. Make one: scar init -f function.yaml",
        whole=("name",),
    )
    if changed := [fn.name for fn in found if fn.changed_by_hand]:
        context.report.say(f"Changed by hand since the last init: {', '.join(changed)}. See how: scar plan -f FILE")
    return 0


def _endpoints(context: Context, aws: Aws) -> Mapping[str, tuple[Endpoint, ...]]:
    """Who may list functions need not be allowed to look at their endpoints."""
    from scar.aws.endpoints import endpoints

    try:
        return endpoints(aws)
    except DeniedError as error:
        context.report.complain(f"endpoints are not shown: {error.what}")
        return {}


def _last(aws: Aws, found: list[Deployed]) -> Mapping[str, LastRun]:
    from scar.aws.last_runs import last_runs

    return last_runs(aws, [fn.name for fn in found])


def _document(fn: Deployed, ways: tuple[Endpoint, ...], last: Mapping[str, LastRun] | None) -> dict[str, Any]:
    document = dataclasses.asdict(fn)
    document["endpoints"] = [{"kind": way.kind, "url": way.url, "auth": way.auth} for way in ways]
    if last is not None:
        run = last.get(fn.name)
        document["last"] = run and {
            "request_id": run.request_id,
            "result": run.result,
            "time": iso(run.time_ms),
        }
    return document


def _row(fn: Deployed, ways: tuple[Endpoint, ...], last: Mapping[str, LastRun] | None) -> dict[str, object]:
    run = last.get(fn.name) if last is not None else None
    return {
        "name": fn.name,
        "memory": fn.memory_mib,
        "timeout": fn.timeout_s,
        "mode": fn.mode,
        "image": fn.image,
        "input": fn.inputs,
        "output": fn.outputs,
        "endpoint": [f"{way.url} ({way.auth})" for way in ways],
        "last": f"{run.result}, {age(run.time_ms, time.time())} ago" if run else None,
    }
