"""First figures: how fast is SCAR, side by side with its peers, as ratios of one run.

    python benchmarks/run.py [ITEM …]        results go to benchmarks/results/latest.json and to the terminal

Everything happens on this machine against a local AWS of its own in a temporary folder; every loop is bounded.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from figures import MIB, ROOT, Figure, as_documents, table, write


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_mib: float


class Bench:
    """A local AWS for the time of the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **os.environ,
            "SCAR_LOCAL_STATE": str(folder / "state"),
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def cost(self, *argv: str) -> Cost:
        """Wall-clock seconds and peak memory of one process, which must succeed."""
        started = time.perf_counter()
        process = subprocess.Popen(
            argv, env=self.environ, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{argv}: {error.decode(errors='replace')}"
        return Cost(time.perf_counter() - started, usage.ru_maxrss / 1024)

    def median(self, argv: Sequence[str], repeat: int = 7) -> Cost:
        costs = [self.cost(*argv) for _ in range(repeat)]
        return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.peak_mib for c in costs))

    def scar(self, *words: str) -> str:
        done = subprocess.run(
            [*SCAR, "--local", *words], env=self.environ, cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    def up(self) -> None:
        self.scar("local", "up")
        url = json.loads(self.scar("local", "status", "-o", "json"))["endpoint"]["url"]
        self.environ["AWS_ENDPOINT_URL"] = url

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def daemon_rss_mib(self) -> float:
        status = json.loads(self.scar("local", "status", "-o", "json"))
        return float(status["resident_mib"])


SCAR = [sys.executable, "-m", "scar"]
AWS = [sys.executable, "-m", "awscli"]


def start_up(bench: Bench) -> list[Figure]:
    """Whole processes, from fork to exit."""
    aws, help_ = bench.median([*AWS, "--version"]), bench.median([*SCAR, "--help"])
    ls, s3_ls = bench.median([*SCAR, "--local", "ls"]), bench.median([*AWS, "s3", "ls"])
    return [
        Figure("scar --help", help_.seconds, "s", "aws --version", aws.seconds, "≤ 0.25"),
        Figure("scar --help, memory", help_.peak_mib, "MiB", "aws --version", aws.peak_mib),
        Figure("scar ls", ls.seconds, "s", "aws s3 ls", s3_ls.seconds, "≤ 0.6"),
        Figure("scar ls, memory", ls.peak_mib, "MiB", "aws s3 ls", s3_ls.peak_mib),
    ]


def deploy(bench: Bench, name: str, script: str, **more: Any) -> str:
    (bench.folder / f"{name}.script").write_text(script)
    body = {
        "name": name,
        "memory": 512,
        "timeout": 120,
        "init_script": f"{name}.script",
        "container": {"image": "scratch"},
        "input": [{"path": f"bench-{name}/in"}],
        "output": [{"path": f"bench-{name}/out"}],
        **more,
    }
    (bench.folder / f"{name}.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    bench.scar("init", "-f", f"{name}.yaml")
    return f"bench-{name}"


COPY = '#!/usr/bin/env python3\nimport os, shutil\nshutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])\n'


def put_to_output(bench: Bench) -> list[Figure]:
    """From the start of PutObject to the moment the output object can be read; the script is a Python process that copies."""
    bucket, s3 = deploy(bench, "latency", COPY), bench.client("s3")

    def once(n: int) -> float:
        started = time.perf_counter()
        s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=b"x" * 1024)
        while not s3.list_objects_v2(Bucket=bucket, Prefix=f"out/{n}").get("KeyCount"):
            time.sleep(0.002)
        return time.perf_counter() - started

    first = once(0)
    cold = []
    for n in range(1, 6):
        deploy(bench, "latency", COPY, memory=512 + n)  # another configuration needs another sandbox
        cold.append(once(1000 + n))
    warm = [once(n) for n in range(1, 21)]
    started = time.perf_counter()
    for n in range(100, 300):
        s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=b"x" * 1024)
    while len(s3.list_objects_v2(Bucket=bucket, Prefix="out/").get("Contents", ())) < 226:
        time.sleep(0.02)
    sustained = 200 / (time.perf_counter() - started)
    return [
        Figure("PUT → output object, first (the image is unpacked)", first, "s"),
        Figure("PUT → output object, cold", statistics.median(cold), "s", goal="≤ 1 s"),
        Figure("PUT → output object, warm", statistics.median(warm), "s", goal="≤ 0.3 s"),
        Figure("events sustained", sustained, "1/s", goal="≥ 20"),
        Figure("local AWS, memory after 226 events", bench.daemon_rss_mib(), "MiB"),
    ]


def agent_per_event(bench: Bench) -> list[Figure]:
    """The agent's own time for one event (get, run `true`, put) against a bare boto3 get + put of the same 1 KiB object."""
    s3 = bench.client("s3")
    bucket = "bench-agent"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="in/x", Body=b"x" * 1024)
    work = bench.folder / "agent"
    figures = _agent_loop(bench, work, bucket)
    bare = []
    for n in range(200):
        started = time.perf_counter()
        body = s3.get_object(Bucket=bucket, Key="in/x")["Body"].read()
        s3.put_object(Bucket=bucket, Key=f"bare/{n}", Body=body)
        bare.append(time.perf_counter() - started)
    theirs = statistics.median(bare[10:])
    return [Figure("agent, one event warm", figures, "s", "boto3 get + put", theirs, "≤ 1.5")]


def _agent_loop(bench: Bench, work: Path, bucket: str) -> float:
    """Feed the agent 200 events through a Runtime API of our own and time each, less what the script itself takes."""
    from benchmarks.runtime_api import RuntimeApi  # the folder above is on sys.path

    function = work / "function"
    function.mkdir(parents=True)
    (function / "script").write_text("#!/bin/sh\n: > $TMP_OUTPUT_DIR/y\n")
    (function / "script").chmod(0o755)
    storage = {"provider": "s3", "bucket": bucket}
    spec = {
        "schema": 1,
        "name": "bench",
        "has_script": True,
        "outputs": [storage | {"folder": "out"}],
        "inputs": [storage],
    }
    (function / "spec.json").write_text(json.dumps(spec))
    object_ = {"key": "in/x", "size": 1024}
    record = {"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00.000Z",
              "s3": {"bucket": {"name": bucket}, "object": object_}}  # fmt: skip
    with RuntimeApi([json.dumps({"Records": [record]}).encode()] * 200) as api:
        environ = {**bench.environ, "AWS_LAMBDA_RUNTIME_API": api.address, "PYTHONPATH": f"{ROOT / 'faas-supervisor'}"}
        (work / "tmp").mkdir()  # its own, as in a sandbox
        argv = [sys.executable, "-m", "faassupervisor", "--function", str(function), "--tmp", str(work / "tmp")]
        process = subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seconds = api.seconds_per_event(timeout_s=120)
        finally:
            process.kill()
            process.wait()
    return statistics.median(seconds[10:])


def one_gib(bench: Bench) -> list[Figure]:
    """A 1 GiB object: memory of `scar put` and `scar get` against the AWS CLI, and of the agent and the local AWS that run it."""
    big = bench.folder / "big.bin"
    with big.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 * MIB))
    bucket = deploy(bench, "gib", COPY, ephemeral_storage=4096, memory=3072, timeout=300)
    theirs = bench.cost(*AWS, "s3", "cp", "big.bin", f"s3://{bucket}/peer/big.bin", "--quiet")
    ours = bench.cost(*SCAR, "--local", "put", "-b", f"{bucket}/peer2", "-p", "big.bin")
    get_theirs = bench.cost(*AWS, "s3", "cp", f"s3://{bucket}/peer/big.bin", "fetched-by-aws.bin", "--quiet")
    get_ours = bench.cost(*SCAR, "--local", "get", "-b", f"{bucket}/peer2/big.bin", "-p", "fetched")
    s3 = bench.client("s3")
    started = time.perf_counter()
    s3.copy_object(Bucket=bucket, Key="in/big.bin", CopySource={"Bucket": bucket, "Key": "peer2/big.bin"})
    while not s3.list_objects_v2(Bucket=bucket, Prefix="out/big.bin").get("KeyCount"):
        assert time.perf_counter() - started < 300, bench.scar("log", "-n", "gib")
        time.sleep(0.1)
    whole = time.perf_counter() - started
    used = float(_report(bench, "gib").split("Max Memory Used: ")[1].split()[0])
    return [
        Figure("scar put 1 GiB", ours.seconds, "s", "aws s3 cp", theirs.seconds),
        Figure("scar put 1 GiB, memory", ours.peak_mib, "MiB", "aws s3 cp", theirs.peak_mib, "≤ 120 MiB"),
        Figure("scar get 1 GiB", get_ours.seconds, "s", "aws s3 cp", get_theirs.seconds),
        Figure("scar get 1 GiB, memory", get_ours.peak_mib, "MiB", "aws s3 cp", get_theirs.peak_mib, "≤ 120 MiB"),
        Figure("1 GiB object: event → output", whole, "s"),
        Figure("1 GiB object: memory of the sandbox", used, "MiB"),
        Figure("1 GiB object: memory of the local AWS", bench.daemon_rss_mib(), "MiB"),
    ]


def _log(bench: Bench, name: str) -> list[str]:
    return [line["message"] for line in json.loads(bench.scar("log", "-n", name, "-o", "json"))]


def _report(bench: Bench, name: str) -> str:
    """The REPORT line of the last run, which is written after its output was."""
    for _ in range(100):
        reports = [line for line in _log(bench, name) if line.startswith("REPORT")]
        if reports:
            return reports[-1]
        time.sleep(0.1)
    raise AssertionError(f"{name} told no REPORT")


ITEMS: dict[str, Callable[[Bench], list[Figure]]] = {
    "start-up": start_up,
    "latency": put_to_output,
    "agent": agent_per_event,
    "1-gib": one_gib,
}


@contextmanager
def local_aws() -> Iterator[Bench]:
    """A folder with a local AWS in it, both gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="scar-bench-"))
    bench = Bench(folder)
    try:
        bench.up()
        yield bench
    finally:
        subprocess.run([*SCAR, "local", "down"], env=bench.environ, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def tell(name: str, figures: Sequence[Figure], **more: Any) -> None:
    """The table on the terminal and among the results."""
    print(table(figures))
    write(name, table(figures), {**more, "figures": as_documents(figures)})


def main() -> None:
    chosen = sys.argv[1:] or list(ITEMS)
    with local_aws() as bench:
        figures = [figure for name in chosen for figure in ITEMS[name](bench)]
    tell("latest", figures, own_peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
