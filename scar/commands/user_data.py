"""`scar rm --delete-data`: which of a user's buckets go with the functions, and that their owner really means these."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from scar.errors import ConflictError, UsageError
from scar.report import plural

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.report import Report


def chosen(
    context: Context, args: Namespace, aws: Aws, names: Sequence[str], functions: Iterable[Function]
) -> tuple[str, ...]:
    """The buckets that are to go, sorted. Nothing is touched before all of them are known to be meant, unused by others, and empty or `--force`.

    A bucket is meant when it is named: behind the flag, or typed when it is asked for.
    """
    if args.delete_data is None:
        return ()
    from scar.aws.errors import mapped
    from scar.aws.user_data import holds_something

    mine, others = _uses(aws, frozenset(names), functions)
    named = tuple(dict.fromkeys(args.delete_data))
    for bucket in named:
        if bucket not in mine:
            known = ", ".join(sorted(mine)) or "none"
            raise UsageError(
                f"bucket {bucket} is neither an input nor an output of {', '.join(names)}",
                fix=f"Their buckets: {known}.",
            )
    with mapped("look into the buckets"):
        held = {bucket: holds_something(aws, bucket) for bucket in named or sorted(mine)}
    there = [bucket for bucket, holds in held.items() if holds is not None]
    for bucket in there if named else ():
        if users := others.get(bucket):
            raise ConflictError(
                f"bucket {bucket} is used by {', '.join(sorted(users))}, too",
                fix="Remove those first, or leave the bucket out of --delete-data.",
            )
    free = [bucket for bucket in there if bucket not in others]
    if full := [bucket for bucket in free if held[bucket] and not args.force]:
        raise ConflictError(
            f"{plural(len(full), 'bucket')} not empty: {', '.join(full)}",
            fix="Say --force to delete what is in there, too.",
        )
    return tuple(sorted(free if named else (bucket for bucket in free if _means(context, bucket))))


def delete(context: Context, aws: Aws, buckets: Sequence[str]) -> list[dict[str, object]]:
    from scar.aws.errors import mapped
    from scar.aws.user_data import delete as delete_bucket

    told: list[dict[str, object]] = []
    for bucket in buckets:
        with mapped(f"delete bucket {bucket}"):
            count = delete_bucket(aws, bucket, partial(_draw, context.report, bucket))
        text = f"- bucket {bucket}  ({plural(count, 'object')} in it)"
        if context.report.json:
            context.report.say(text)
        else:
            context.report.line(context.report.paint(text, "removed"))
        told.append({"bucket": bucket, "objects": count})
    return told


def _draw(report: Report, bucket: str, gone: int) -> None:
    report.draw(f"  {bucket}: {gone} deleted …")


def _uses(
    aws: Aws, names: frozenset[str], functions: Iterable[Function]
) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    """The buckets of the functions, by the file and by their tags; and those of others, with who uses them."""
    from scar.fdl.rules_workflow import node_of
    from scar.plan.neighbours import nodes

    deployed = nodes(aws)
    mine = [*(node_of(fn) for fn in functions if fn.name in names), *(node for node in deployed if node.name in names)]
    own = frozenset(end.bucket for node in mine for end in (*node.inputs, *node.outputs) if end.store == "s3")
    others: dict[str, set[str]] = {}
    for node in deployed:
        for end in (*node.inputs, *node.outputs) if node.name not in names else ():
            others.setdefault(end.bucket, set()).add(node.name)
    return own, {bucket: frozenset(users) for bucket, users in others.items()}


def _means(context: Context, bucket: str) -> bool:
    if not context.report.style.may_ask:
        raise UsageError(
            "--delete-data asks for the name of each bucket, and nobody can be asked here",
            fix=f"Name them behind the flag: --delete-data {bucket}",
        )
    context.report.complain(
        f"Bucket {bucket} goes with all that is in it. Type its name to delete it, or nothing to keep it:"
    )
    return sys.stdin.readline().strip() == bucket
