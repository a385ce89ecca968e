"""`scar ls`: the functions of the region, or the objects of a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.commands.common import connect

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def ls(context: Context, args: Namespace) -> int:
    """A table of functions found by tag; calls grow with pages, not with functions."""
    if args.bucket:
        from scar.commands.transfer import list_objects

        return list_objects(context, args.bucket)
    from scar.plan.owned import functions

    aws, _ = connect(context)
    found = sorted(functions(aws), key=lambda fn: fn.name)
    if context.report.json:
        context.report.document(found)
        return 0
    rows = [
        {
            "name": fn.name,
            "memory": fn.memory_mib,
            "timeout": fn.timeout_s,
            "mode": fn.mode,
            "image": fn.image,
            "input": fn.inputs,
            "output": fn.outputs,
        }
        for fn in found
    ]
    context.report.table(
        rows,
        ("name", "memory", "timeout", "mode", "image", "input", "output"),
        empty="No function was made by SCAR here. Make one: scar init -f function.yaml",
    )
    return 0
