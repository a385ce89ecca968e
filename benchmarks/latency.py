"""How long does the local AWS take from a PUT to the output object, how many events does it manage, and what do they leave in it?

python benchmarks/latency.py [--quick]        results go to benchmarks/results/latency.{json,md}
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import run
from deployed import COPY, COPY_IN_PYTHON, deploy, shell_image, until
from figures import Figure, Growth, Result
from surroundings import Bench, Size, local_aws

BODY = b"x" * 1024


def measure(size: Size) -> Result:
    with local_aws(size) as bench:
        return Result([*one_by_one(bench), *sustained(bench), *after_many(bench, (growths := []))], growths)


def one_by_one(bench: Bench) -> Iterator[Figure]:
    """From the start of PutObject to the moment the output object can be read; the script is a Python process that copies."""
    bucket, s3 = deploy(bench, "latency", COPY_IN_PYTHON), bench.client("s3")

    def once(n: int) -> float:
        started = time.perf_counter()
        s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=BODY)
        until(lambda: s3.list_objects_v2(Bucket=bucket, Prefix=f"out/{n}").get("KeyCount"), 0.002)
        return time.perf_counter() - started

    yield Figure("PUT → output object, first (the image is unpacked)", once(0), "s")
    cold = []
    for n in range(1, bench.size.of(8, 2)):
        deploy(bench, "latency", COPY_IN_PYTHON, memory=512 + n)  # another configuration needs another sandbox
        cold.append(once(1000 + n))
    yield Figure("PUT → output object, cold", statistics.median(cold), "s", goal="≤ 1 s")
    yield Figure("  slowest", max(cold), "s")
    warm = sorted(once(n) for n in range(2000, 2000 + bench.size.of(100, 5)))
    yield Figure("PUT → output object, warm", statistics.median(warm), "s", goal="≤ 0.3 s")
    yield Figure("  95th of 100", warm[int(len(warm) * 0.95)], "s")


def sustained(bench: Bench) -> Iterator[Figure]:
    """As fast as one client puts them, until the last output is there."""
    number, s3 = bench.size.of(400, 10), bench.client("s3")
    shell = {"container": shell_image(bench)}
    for what, script, more in (("a Python process each", COPY_IN_PYTHON, {}), ("a shell each", COPY, shell)):
        bucket = deploy(bench, f"load{len(more)}", script, **more)
        s3.put_object(Bucket=bucket, Key="in/first", Body=BODY)
        until(lambda bucket=bucket: _outputs(s3, bucket) == 1)
        started = time.perf_counter()
        for n in range(number):
            s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=BODY)
        until(lambda bucket=bucket: _outputs(s3, bucket) == number + 1, 0.02)
        rate = number / (time.perf_counter() - started)
        yield Figure(f"events sustained, {what}", rate, "1/s", goal="≥ 20")


def after_many(bench: Bench, growths: list[Growth]) -> Iterator[Figure]:
    """Memory, descriptors and threads of the local AWS after more and more events of one function; one input and one output object each."""
    bucket, s3 = deploy(bench, "many", COPY, container=shell_image(bench)), bench.client("s3")
    pid = bench.status()["endpoint"]["pid"]
    memory: dict[float, float] = {}
    done = 0
    with ThreadPoolExecutor(4) as threads:
        for number in bench.size.sizes(10, 100, 1000, 10_000, quick=(10, 20)):
            keys = [f"in/{n:06d}" for n in range(done, number)]
            list(threads.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=BODY), keys))
            until(lambda number=number: _outputs(s3, bucket) == number, 0.05 if number < 1000 else 0.5)
            done = number
            memory[number] = bench.daemon_rss_mib()
            yield Figure(f"local AWS after {number} events: memory", memory[number], "MiB")
            yield Figure("  descriptors", _entries(f"/proc/{pid}/fd"), "descriptors")
            yield Figure("  threads", _entries(f"/proc/{pid}/task"), "threads")
    growths.append(Growth("latency-memory", "memory of the local AWS", "events", "MiB", {"SCAR's local AWS": memory}))


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _outputs(s3: Any, bucket: str) -> int:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="out/")
    return sum(page.get("KeyCount", 0) for page in pages)


if __name__ == "__main__":
    run.alone("latency")
