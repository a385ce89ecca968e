"""Where does the time go, from a PUT to the output object, and when a command starts?

    python benchmarks/timeline.py [--quick]        results go to benchmarks/results/timeline.{json,md}

Seen from outside, so that nothing is slowed down by being watched: the client's clock, the kernel's word on the files of the local AWS, the times of
the agent's own log lines, and the script, which tells when it begins and ends. All clocks are this machine's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import run
from deployed import deploy, log, until
from figures import Result, Spans
from surroundings import SCAR, Bench, Size, local_aws
from watching import Change, Watch

SCRIPT = """#!/usr/bin/env python3
import time
print(f"script begins {time.time()}", flush=True)
import os, shutil
shutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])
print(f"script ends {time.time()}", flush=True)
"""
# Each step by the moment at which it is over.
STEPS = {
    "heard": "the request is sent and read",
    "on disk": "the object is written, synced, and known",
    "queued": "the event is written and synced",
    "acknowledged": "the client has its answer",
    "sandbox": "a worker takes the event; a sandbox is made",
    "started": "the agent starts and asks for work",
    "taken": "the agent reads the event",
    "staged in": "GET of the input, into a private folder",
    "script begins": "the script's process and its Python start",
    "script ends": "the script works",
    "script ended": "its process tree is gone, its output is read",
    "stored": "PUT of the output, written and synced",
    "staged out": "the agent has its answer",
    "ended": "the run is answered and logged",
}


def measure(size: Size) -> Result:
    with local_aws(size) as bench:
        bucket = deploy(bench, "timeline", SCRIPT)
        _one(bench, bucket, "in/unpacked")  # the image is there from now on
        cold = []
        for n in range(size.of(7, 1)):
            deploy(bench, "timeline", SCRIPT, memory=513 + n)  # another configuration needs another sandbox
            cold.append(_one(bench, bucket, f"in/cold-{n}"))
        warm = [_one(bench, bucket, f"in/warm-{n}") for n in range(size.of(31, 2))]
        commands = _imports(bench)
    spans = [
        Spans("timeline-cold", "cold: a new sandbox", _middle(cold)),
        Spans("timeline-warm", "warm", _middle(warm)),
    ]
    text = "\n\n".join([_steps(*(one.ends_ms for one in spans)), _groups(commands)])
    document = {"cold_ms": spans[0].ends_ms, "warm_ms": spans[1].ends_ms, "imports_ms": commands}
    return Result((), growths=spans, text=text, document=document)


def _one(bench: Bench, bucket: str, key: str) -> dict[str, float]:
    """Moments of one event in ms since its PUT was sent; steps that were not seen apart are left out."""
    s3, name = bench.client("s3"), key.partition("/")[2]
    s3.list_objects_v2(Bucket=bucket)  # the connection is there
    with Watch(bench.folder / "state") as watch:
        sent = time.time()
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 1024)
        acknowledged = time.time()
        until(lambda: s3.list_objects_v2(Bucket=bucket, Prefix=f"out/{name}").get("KeyCount"), 0.02)
        until(lambda: _gone(watch.changes))
        time.sleep(0.05)
    moments = {"acknowledged": acknowledged, **_written(watch.changes), **_said(bench, key)}
    return {step: (moments[step] - sent) * 1000 for step in STEPS if step in moments}


def _gone(changes: Sequence[Change]) -> bool:
    return any(one.what == "deleted" and one.path.startswith("functions/events/") for one in changes)


def _written(changes: Sequence[Change]) -> dict[str, float]:
    """Of the input object, its event, and the output object, in the order in which they come."""
    objects = [one for one in changes if one.path.startswith("objects/")]
    keys = [one.at_s for one in changes if one.path.startswith("s3/keys") and one.what == "modified"]
    queued = next(one.at_s for one in changes if one.what == "moved to" and one.path.endswith(".event"))
    made = [one.at_s for one in objects if one.what == "created"]
    return {"heard": made[0], "on disk": min(keys), "queued": queued, "stored": next(at for at in keys if at > queued)}


def _said(bench: Bench, key: str) -> dict[str, float]:
    """Of the run that took this key, from its log."""
    lines = until(lambda: _lines(bench, key))
    found: dict[str, float] = {}
    for line in lines:
        message = line["message"]
        if message.startswith("START"):
            found["started"] = _seconds(line["time"])
        elif message.startswith("END"):
            found["ended"] = _seconds(line["time"])
        elif message.startswith("REPORT") and "Init Duration" in message:
            found["sandbox"] = found["started"] - float(message.split("Init Duration: ")[1].split()[0]) / 1000
        elif message.startswith(("script begins", "script ends")):
            found[" ".join(message.split()[:2])] = float(message.split()[2])
        elif message.startswith("{"):
            fact = json.loads(message)
            step = {"took a record": "taken"}.get(fact["fact"], fact["fact"])
            if step in STEPS:
                found[step] = _seconds(fact["time"])
    return found


def _lines(bench: Bench, key: str) -> list[dict[str, Any]]:
    """All lines of the run, once the last of them is there."""
    lines = log(bench, "timeline")
    starts = [n for n, line in enumerate(lines) if line["message"].startswith("START")]
    for first, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        part = lines[first:end]
        if any(f'"key": "{key}"' in line["message"] for line in part):
            return part if part[-1]["message"].startswith("REPORT") else []
    return []


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _middle(events: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each moment's median, in order; a clock that tells milliseconds may be a step behind one that tells more."""
    found: dict[str, float] = {}
    last = 0.0
    for step in STEPS:
        times = [event[step] for event in events if step in event]
        if times:
            last = found[step] = max(last, statistics.median(times))
    return found


def _steps(cold: Mapping[str, float], warm: Mapping[str, float]) -> str:
    from tabulate import tabulate

    rows = []
    for step, what in STEPS.items():
        took = [_took(ends, step) for ends in (cold, warm)]
        rows.append((what, *("" if one is None else f"{one:.1f}" for one in took), f"{warm.get(step, 0):.1f}"))
    rows.append(("all", f"{max(cold.values()):.1f}", f"{max(warm.values()):.1f}", ""))
    headers = ("step", "cold, ms", "warm, ms", "warm, since the PUT, ms")
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _took(ends: Mapping[str, float], step: str) -> float | None:
    if step not in ends:
        return None
    names = list(ends)
    place = names.index(step)
    return ends[step] - (ends[names[place - 1]] if place else 0)


def _imports(bench: Bench) -> dict[str, dict[str, float]]:
    """What a command imports, in ms of its own time by package, as Python tells it (-X importtime)."""
    commands = {"scar --help": ("--help",), "scar ls": ("--local", "ls")}
    return {name: _grouped(bench, words) for name, words in commands.items()}


def _grouped(bench: Bench, words: Sequence[str]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.size.of(7, 1)):
        groups: dict[str, float] = defaultdict(float)
        argv = [SCAR[0], "-X", "importtime", *SCAR[1:], *words]
        said = subprocess.run(
            argv, env=bench.environ, cwd=bench.folder, capture_output=True, text=True, check=True
        ).stderr
        for line in said.splitlines():
            own, _, name = line.removeprefix("import time:").replace("|", " ", 1).strip().partition(" ")
            if own.isdigit():
                package = name.rpartition("|")[2].strip().partition(".")[0]
                groups[package if package in _TOLD else "Python's own"] += int(own) / 1000
        for package, ms in groups.items():
            found[package].append(ms)
    return {name: statistics.median(times) for name, times in sorted(found.items(), key=lambda one: -max(one[1]))}


_TOLD = ("scar", "botocore", "boto3", "urllib3", "dateutil", "jmespath", "yaml", "tabulate", "faassupervisor", "s3transfer", "certifi", "requests")  # fmt: skip


def _groups(commands: Mapping[str, Mapping[str, float]]) -> str:
    from tabulate import tabulate

    packages = list(dict.fromkeys(name for groups in commands.values() for name in groups))
    rows = [
        (name, *(f"{groups[name]:.1f}" if name in groups else "" for groups in commands.values())) for name in packages
    ]
    rows.append(("all", *(f"{sum(groups.values()):.1f}" for groups in commands.values())))
    headers = ("imports of", *(f"{name}, ms" for name in commands))
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    run.alone("timeline")
