"""What does the agent add to an event, beside a program that only gets and puts with boto3?

    python benchmarks/agent.py [--quick]        results go to benchmarks/results/agent.{json,md}

The agent runs as it is shipped: its layer, unpacked, with its own Python. Both run against the suite's endpoint and take turns event by event.
What the agent does and the peer does not: it starts a process (`true`, or `mv`) in a folder of its own, and keeps what it makes apart.
"""

from __future__ import annotations

import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import run
from figures import MIB, Figure, Growth, Result
from runtime_api import RuntimeApi
from surroundings import Bench, Endpoint, Size, endpoint, folder, memory_folder

BUCKET = "discard"
EMPTY = "#!/bin/sh\n: >$TMP_OUTPUT_DIR/out\n"
MOVE = '#!/bin/sh\nmv "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/out"\n'
PEER = str(Path(__file__).with_name("get_and_put.py"))


class Runs(Protocol):
    """A process that takes events."""

    pid: int
    ready_s: float  # from before the process was made to the end of its first event
    first_s: float  # of that, the event

    def seconds_of(self, key: str) -> float: ...


@dataclass
class Agent:
    pid: int
    api: RuntimeApi
    ready_s: float = 0
    first_s: float = 0

    def seconds_of(self, key: str) -> float:
        record = {
            "eventSource": "aws:s3",
            "eventVersion": "2.1",
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": "bottomless"}, "object": {"key": key, "size": int(key.rpartition("-")[2])}},
        }
        return self.api.seconds_of(json.dumps({"Records": [record]}).encode())


@dataclass
class Peer:
    pid: int
    process: subprocess.Popen[str]
    ready_s: float = 0
    first_s: float = 0

    def seconds_of(self, key: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{key}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@dataclass(frozen=True)
class Places:
    bench: Bench
    server: Endpoint
    memory: Path
    words: tuple[str, ...]  # that start the agent

    @property
    def environ(self) -> dict[str, str]:
        return {**self.bench.environ, "AWS_ENDPOINT_URL": self.server.url}

    @contextmanager
    def agent(self, script: str, key: str) -> Iterator[Runs]:
        """An agent that has had its first event."""
        with ExitStack() as stack:
            place = Path(tempfile.mkdtemp(dir=self.memory))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            function = _function(place / "function", script)
            (place / "tmp").mkdir()
            api = stack.enter_context(RuntimeApi())
            argv = [*self.words, "--function", str(function), "--tmp", str(place / "tmp")]
            started = time.perf_counter()
            process = subprocess.Popen(
                argv,
                env={**self.environ, "AWS_LAMBDA_RUNTIME_API": api.address},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            agent = Agent(process.pid, api)
            agent.first_s = agent.seconds_of(key)
            agent.ready_s = time.perf_counter() - started
            yield agent

    @contextmanager
    def peer(self, key: str) -> Iterator[Runs]:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, PEER, "bottomless", BUCKET, str(self.memory)],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        peer = Peer(process.pid, process)
        try:
            peer.first_s = peer.seconds_of(key)
            peer.ready_s = time.perf_counter() - started
            yield peer
        finally:
            process.kill()
            process.communicate()


def measure(size: Size) -> Result:
    growths: list[Growth] = []
    with folder(size) as bench, memory_folder() as memory, endpoint() as server:
        places = Places(bench, server, memory, shipped(bench))
        figures = [*_cold(places), *_warm(places, growths), *_large(places, growths), *_calls(places)]
    return Result(figures, growths)


def _cold(places: Places) -> Iterator[Figure]:
    """New processes: until their first event is answered."""
    ours: list[tuple[float, float, float]] = []
    theirs: list[tuple[float, float, float]] = []
    for _ in range(places.bench.size.of(9, 1)):
        for found, start in ((ours, lambda: places.agent(EMPTY, "x-1024")), (theirs, lambda: places.peer("x-1024"))):
            with start() as one:
                found.append((one.ready_s, one.first_s, _peak_mib(one.pid)))
    peer = "boto3 get + put"
    for n, (what, unit) in enumerate(
        (("process start → first event done", "s"), ("  of it, the event", "s"), ("  memory then", "MiB"))
    ):
        mine, their = [row[n] for row in ours], [row[n] for row in theirs]
        ratios = tuple(a / b for a, b in zip(mine, their, strict=True))
        yield Figure(what, statistics.median(mine), unit, peer, statistics.median(their), "", ratios)


def _warm(places: Places, growths: list[Growth]) -> Iterator[Figure]:
    """One event after another, ours and the peer's in turn."""
    marks = places.bench.size.sizes(10, 100, 1000, 3000, quick=(5, 10))
    seconds: dict[str, list[float]] = {"SCAR's agent": [], "boto3 get + put": []}
    milliseconds: dict[str, dict[float, float]] = {name: {} for name in seconds}
    memory: dict[str, dict[float, float]] = {name: {} for name in seconds}
    with places.agent(EMPTY, "x-1024") as agent, places.peer("x-1024") as peer:
        pair = dict(zip(seconds, (agent, peer), strict=True))
        for number in range(1, marks[-1] + 1):
            for name, one in pair.items():
                seconds[name].append(one.seconds_of("x-1024"))
            if number in marks:
                for name, one in pair.items():
                    milliseconds[name][number] = statistics.median(seconds[name][-(number // 2 or 1) :]) * 1000
                    memory[name][number] = _resident_mib(one.pid)
    ours, theirs = seconds.values()
    hundreds = [slice(n, n + 100) for n in range(0, len(ours), 100)]
    ratios = tuple(statistics.median(ours[part]) / statistics.median(theirs[part]) for part in hundreds)
    middle = [statistics.median(found) for found in (ours, theirs)]
    yield Figure("one event, warm", middle[0], "s", "boto3 get + put", middle[1], "≤ 1.5", ratios)
    slow = [sorted(found)[int(len(found) * 0.95)] for found in (ours, theirs)]
    yield Figure("  95th of 100", slow[0], "s", "boto3 get + put", slow[1])
    at_end = [found[marks[-1]] for found in memory.values()]
    yield Figure(f"  memory after {marks[-1]} events", at_end[0], "MiB", "boto3 get + put", at_end[1])
    growths.append(Growth("agent-events", "one event, warm", "events so far", "milliseconds", milliseconds))
    growths.append(Growth("agent-memory", "memory of the process", "events so far", "MiB", memory))


def _large(places: Places, growths: list[Growth]) -> Iterator[Figure]:
    """Objects that are larger and larger, moved from input to output."""
    lines: dict[str, dict[float, float]] = {"SCAR's agent": {}, "boto3 get + put": {}}
    sizes = (1 << 10, MIB, 100 * MIB, 1 << 30, 5 << 30)
    for bytes_ in places.bench.size.sizes(*sizes, quick=sizes[:2]):
        if bytes_ * 3 > shutil.disk_usage(places.memory).free:
            continue  # the object is there once at a time; the rest is respect for the machine
        key, found = f"x-{bytes_}", {}
        for name, start in zip(lines, (lambda key=key: places.agent(MOVE, key), lambda key=key: places.peer(key)), strict=True):  # fmt: skip
            with start() as one:
                lines[name][bytes_ / MIB] = _peak_mib(one.pid)
                found[name] = one.first_s
        what = f"{bytes_ >> 10} KiB" if bytes_ < MIB else f"{bytes_ >> 20} MiB"
        if bytes_ > MIB:
            yield Figure(f"an object of {what}", *_two(found, "s"))
        peaks = {name: points[bytes_ / MIB] for name, points in lines.items()}
        yield Figure("  memory" if bytes_ > MIB else f"an object of {what}: memory", *_two(peaks, "MiB"))
    growths.append(Growth("agent-sizes", "peak memory for one object", "MiB of the object", "MiB", lines))


def _two(found: dict[str, float], unit: str) -> tuple[float, str, str, float]:
    ours, theirs = found.values()
    return ours, unit, "boto3 get + put", theirs


def _calls(places: Places) -> Iterator[Figure]:
    """How often S3 is asked."""
    with places.agent(EMPTY, "x-1024") as one:
        places.server.reset()
        one.seconds_of("x-1024")
        yield Figure("requests of one event", places.server.requests(), "calls")


def shipped(bench: Bench) -> tuple[str, ...]:
    """The agent's layer as a container engine would unpack it, and the words that start it."""
    from scar.package.agent import Origin, built_layer, host_architecture

    layer = built_layer(host_architecture(), Origin("running"), cache=bench.folder / "cache")
    root = bench.folder / "layer"
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer.layer.blob.open()))) as tar:
        tar.extractall(root, filter="fully_trusted")
    return tuple(word.replace("/opt/scar", f"{root}/opt/scar") for word in layer.entrypoint)


def _function(place: Path, script: str) -> Path:
    place.mkdir()
    (place / "script").write_text(script)
    (place / "script").chmod(0o755)
    storage = {"provider": "s3", "bucket": BUCKET, "folder": "out"}
    inputs = [{"provider": "s3", "bucket": "bottomless"}]
    spec = {"schema": 1, "name": "bench", "has_script": True, "outputs": [storage], "inputs": inputs}
    (place / "spec.json").write_text(json.dumps(spec))
    return place


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _peak_mib(pid: int) -> float:
    return _status(pid, "VmHWM")


def _resident_mib(pid: int) -> float:
    return _status(pid, "VmRSS")


if __name__ == "__main__":
    run.alone("agent")
