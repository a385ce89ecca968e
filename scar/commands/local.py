"""`scar local …`: the AWS on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar.commands.common import settings_of
from scar.report import plural, size

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.local.lifecycle import Status


def local(context: Context, args: Namespace) -> int:
    """Dispatch to one verb; without a verb, tell the status."""
    match args.local_verb:
        case "up":
            return _up(context, args)
        case "down":
            return _down(context)
        case "reset":
            return _reset(context, args)
        case "logs":
            return _logs(context, args)
        case "demo":
            from scar.commands.demo import demo

            return demo(context, args)
        case _:
            return _status(context)


def _up(context: Context, args: Namespace) -> int:
    from scar.local.lifecycle import ensure_up

    settings = settings_of(context)
    endpoint = ensure_up(
        settings.local_state,
        port=args.port,
        engine=args.engine or settings.engine.value,
        iam=args.iam if args.iam is not None else settings.local_iam,
        tell=context.report.say,
    )
    if context.report.json:
        context.report.document(endpoint)
        return 0
    context.report.line(f"The local AWS listens on {endpoint.url}" + (" and enforces IAM" if endpoint.iam else ""))
    context.report.say(
        "Other tools reach it with:\n"
        f"  export AWS_ENDPOINT_URL={endpoint.url} AWS_DEFAULT_REGION=us-east-1"
        " AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local"
    )
    return 0


def _down(context: Context) -> int:
    from scar.local.lifecycle import down

    stopped = down(settings_of(context).local_state)
    _tell(context, {"stopped": stopped}, "The local AWS is stopped." if stopped else "The local AWS was not running.")
    return 0


def _reset(context: Context, args: Namespace) -> int:
    from scar.local.lifecycle import reset

    folder = settings_of(context).local_state
    if not args.yes:
        refusal = "reset forgets every bucket and function of the local AWS"
        if not context.report.confirm(f"Forget everything in {folder}?", refusal=refusal):
            context.report.say("Nothing was changed.")
            return 0
    reset(folder)
    _tell(context, {"reset": str(folder)}, f"The local AWS is empty ({folder}).")
    return 0


def _logs(context: Context, args: Namespace) -> int:
    from scar.local.lifecycle import log_lines

    lines = log_lines(settings_of(context).local_state, args.lines)
    if context.report.json:
        context.report.document(list(lines))
    for line in () if context.report.json else lines:
        context.report.line(line)
    return 0


def settled_status(folder: Path, *, wait_s: float) -> Status | None:
    """What the local AWS says of itself, after it made up its mind about containers; None when it does not run."""
    from scar.local.lifecycle import status

    deadline = time.monotonic() + wait_s
    while True:
        now = status(folder)
        if now is None or now.engine.keys() & {"name", "refused"} or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def _status(context: Context) -> int:
    folder = settings_of(context).local_state
    now = settled_status(folder, wait_s=3.0)
    if context.report.json:
        context.report.document({"running": now is not None, "state": str(folder), **(asdict(now) if now else {})})
        return 0
    if now is None:
        context.report.line(f"The local AWS is not running (its state: {folder}).")
        context.report.say("Start it with: scar local up")
        return 0
    for text in described(now):
        context.report.line(text)
    return 0


def described(now: Status) -> list[str]:
    lines = [
        f"The local AWS listens on {now.endpoint.url} (process {now.endpoint.pid}, up {_span(now.uptime_s)}).",
        f"It holds {plural(now.buckets, 'bucket')} with {plural(now.objects, 'object')}, "
        f"{size(now.state_bytes)} on disk; its memory is {now.resident_mib} MiB.",
    ]
    if now.endpoint.iam:
        lines.append(
            "It enforces IAM: every request needs known keys, and leave by a policy (`scar local up --no-iam` ends that)."
        )
    lines += [f"After a restart {service} starts empty: {why}" for service, why in now.not_kept.items()]
    if "name" in now.engine:
        lines.append(f"Containers are made by: {now.engine['name']}. What it keeps apart:")
        lines += [f"  {what:<10} {word}" for what, word in _isolation(now.engine)]
    elif "refused" in now.engine:
        lines.append(f"No container can be made here: {now.engine['refused']}")
    else:
        lines.append("How containers are made is being tried out; ask again in a moment.")
    lines += _of_batch(now.batch)
    lines += [_waiting(event) for event in now.functions.get("waiting_events", ()) if event.get("reason")]
    lines += [_failed(event) for event in now.functions.get("failed_events", ())]
    return lines


def _of_batch(batch: Mapping[str, Any]) -> list[str]:
    """One line on what Batch has, where there is anything."""
    things = ("compute environment", "job queue", "job definition")
    counts = [plural(batch.get(thing.replace(" ", "_") + "s", 0), thing) for thing in things]
    jobs = [f"{count} {status}" for status, count in sorted(batch.get("jobs", {}).items()) if count]
    if not jobs and not any(batch.values()):
        return []
    return [f"Batch has {', '.join(counts)}; jobs: {', '.join(jobs) or 'none'}."]


def _waiting(event: Mapping[str, Any]) -> str:
    """One asynchronous event that could not be run yet, and why."""
    return f"waiting event: {event['request_id']} of {event['function'].rpartition(':')[2]}: {event['reason']}"


def _failed(event: Mapping[str, object]) -> str:
    """One asynchronous event that was given up; it is told here, in the log, and to a dead-letter queue if there is one."""
    return "failed event: " + ", ".join(f"{key} {value}" for key, value in event.items() if value not in (None, ""))


def _isolation(engine: Mapping[str, object]) -> list[tuple[str, object]]:
    """The engine's own words on what it keeps apart, then why better ones were passed over."""
    words = engine.get("isolation")
    told = [(str(k), v) for k, v in words.items() if v] if isinstance(words, dict) else []
    passed = engine.get("passed_over")
    return told + ([(f"not {k}", v) for k, v in passed.items()] if isinstance(passed, dict) else [])


def _span(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _tell(context: Context, document: object, text: str) -> None:
    if context.report.json:
        context.report.document(document)
    else:
        context.report.line(text)
