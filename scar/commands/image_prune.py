"""`scar image prune`: what is kept of images on this machine, and how much of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from scar.commands.common import settings_of
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.package.pruning import Kept, Pruned
    from scar.settings import Settings

_DAY_S: Final = 24 * 3600.0


def prune_cache(context: Context, args: Namespace) -> int:
    """Remove what was not used for the longest. It can all be made or fetched again."""
    from scar.package.pruning import prune

    settings = settings_of(context)
    done = prune(settings.cache, max_bytes=0 if args.all else args.max_size, dry_run=args.dry_run)
    if settings.local.value:
        context.report.say("What the local AWS has unpacked is its own, and goes with all else in it: scar local reset")
    gone = "would go" if args.dry_run else "removed"

    def row(item: Kept, fate: str) -> dict[str, Any]:
        return {
            "what": item.what,
            "name": item.path.name[:19],
            "size": size(item.size_bytes),
            "last used": _ago(time.time() - item.used_at),
            "": fate,
        }

    if context.report.json:
        context.report.document(_prune_document(settings, done, dry_run=args.dry_run))
        return 0
    rows = [row(item, "in use" if item.in_use else "kept") for item in done.kept]
    rows += [row(item, gone) for item in done.removed]
    columns = ("what", "name", "size", "last used", "")
    context.report.table(rows, columns, empty=f"Nothing is kept of images in {settings.cache}.")
    if not rows:
        return 0
    verb = "would free" if args.dry_run else "freed"
    context.report.say(f"{verb} {size(done.freed_bytes)}; {size(done.kept_bytes)} stay in {settings.cache}")
    return 0


def _prune_document(settings: Settings, done: Pruned, *, dry_run: bool) -> dict[str, Any]:
    def told(item: Kept) -> dict[str, Any]:
        return {
            "what": item.what,
            "path": str(item.path),
            "size_bytes": item.size_bytes,
            "used_at": item.used_at,
            "in_use": item.in_use,
        }

    return {
        "cache": str(settings.cache),
        "dry_run": dry_run,
        "removed": [told(item) for item in done.removed],
        "kept": [told(item) for item in done.kept],
        "freed_bytes": done.freed_bytes,
        "kept_bytes": done.kept_bytes,
    }


def _ago(seconds: float) -> str:
    if seconds < 60:
        return "just now"
    for unit, unit_s in (("day", _DAY_S), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= unit_s:
            return f"{plural(int(seconds // unit_s), unit)} ago"
    return "just now"
