"""What do a script that prints much, and one that makes many files, cost the agent?

python benchmarks/outputs.py [--quick]        results go to benchmarks/results/outputs.{json,md}
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import run
from agent import BUCKET, Places, shipped
from figures import Figure, Growth, Result
from surroundings import KEYS, Size, endpoint, folder, memory_folder

RTT_MS = 20
KEY = "x-1024"
LINES = "#!/bin/sh\nseq -f 'a line of output with the number %.0f' {number}\n"
FILES = '#!/bin/sh\nseq {number} | (cd "$TMP_OUTPUT_DIR" && xargs -n 200 touch)\n'


def measure(size: Size) -> Result:
    growths: list[Growth] = []
    with folder(size) as bench, memory_folder() as memory, endpoint() as server:
        places = Places(bench, server, memory, shipped(bench))
        figures = [*_lines(places, growths), *_files(places, growths)]
    return Result(figures, growths)


def _lines(places: Places, growths: list[Growth]) -> Iterator[Figure]:
    """A whole event whose script prints; the peer is the script alone, its output thrown away."""
    seconds: dict[str, dict[float, float]] = {"SCAR's agent": {}, "the script alone": {}}
    rounds = places.bench.size.of(5, 1)
    for number in places.bench.size.sizes(1000, 10_000, 80_000, quick=(100, 1000)):
        script = places.bench.folder / "lines"
        script.write_text(LINES.format(number=number))
        with places.agent(script.read_text(), KEY) as agent:
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(agent.seconds_of(KEY))
                started = time.perf_counter()
                subprocess.run(["sh", str(script)], stdout=subprocess.DEVNULL, check=True)
                theirs.append(time.perf_counter() - started)
        mine, their = statistics.median(ours), statistics.median(theirs)
        goal = "≤ 0.3 s" if number == 80_000 else ""
        yield Figure(f"one event, its script prints {number} lines", mine, "s", "the script alone", their, goal)
        for line, value in zip(seconds.values(), (mine, their), strict=True):
            line[number] = value
    growths.append(Growth("outputs-lines", "a script that prints", "lines", "seconds", seconds))


def _files(places: Places, growths: list[Growth]) -> Iterator[Figure]:
    """One event, many empty output objects; the peer is boto3 in 16 threads, with its client at hand."""
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=16)
    s3 = boto3.client("s3", endpoint_url=places.server.url, region_name="us-east-1", config=config, **KEYS)
    seconds: dict[str, dict[float, float]] = {}
    with ThreadPoolExecutor(16) as threads:
        for delay_ms, place in ((0, ""), (RTT_MS, f", {RTT_MS} ms away")):
            for number in places.bench.size.sizes(1, 10, 100, 1000, quick=(1, 10)):
                with places.agent(FILES.format(number=number), KEY) as agent:
                    places.server.delay(delay_ms)
                    ours, theirs = [], []
                    for _ in range(places.bench.size.of(3, 1)):
                        ours.append(agent.seconds_of(KEY))
                        started = time.perf_counter()
                        list(
                            threads.map(lambda n: s3.put_object(Bucket=BUCKET, Key=f"out/{n}", Body=b""), range(number))
                        )
                        theirs.append(time.perf_counter() - started)
                    places.server.delay(0)
                mine, their = statistics.median(ours), statistics.median(theirs)
                if number in (10, 1000):
                    goal = "≤ 1.4 s" if (delay_ms, number) == (RTT_MS, 1000) else ""
                    item = f"one event, {number} output objects{place}"
                    yield Figure(item, mine, "s", "boto3, 16 threads, the puts alone", their, goal)
                for name, value in ((f"SCAR's agent{place}", mine), (f"boto3, 16 threads{place}", their)):
                    seconds.setdefault(name, {})[number] = value
    growths.append(Growth("outputs-files", "one event, many outputs", "output objects", "seconds", seconds))


if __name__ == "__main__":
    run.alone("outputs")
