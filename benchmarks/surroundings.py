"""Where items run: a folder of their own, a local AWS, a fast S3 endpoint, all gone afterwards; and how long and how large they may be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Cost, cost, in_turns, median

SCAR = (sys.executable, "-m", "scar")
AWS = (sys.executable, "-m", "awscli")
KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}


def program(name: str) -> str | None:
    """A program of this Python's environment, or of the machine."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


@dataclass(frozen=True)
class Size:
    """How much is done. `--quick` shows that an item works and says nothing about speed."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def sizes(self, *full: int, quick: tuple[int, ...]) -> tuple[int, ...]:
        return quick if self.quick else full


class Bench:
    """A folder, and the environment of what runs in it; after `up` with a local AWS."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SCAR_"))}
        self.environ = {
            **kept,
            "HOME": str(folder),
            "SCAR_LOCAL_STATE": str(folder / "state"),
            "SCAR_CACHE": str(folder / "cache"),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",  # the name that awscli 1 knows
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def cost(self, *argv: str, environ: Mapping[str, str] | None = None) -> Cost:
        return cost(*argv, environ={**self.environ, **(environ or {})}, cwd=self.folder)

    def median(self, argv: tuple[str, ...] | list[str], rounds: int = 7) -> Cost:
        return median([self.cost(*argv) for _ in range(rounds)])

    def in_turns(self, runs: Mapping[str, tuple[str, ...]], rounds: int) -> dict[str, list[Cost]]:
        """Commands that take turns; one of each goes first, untold, so that all find the machine's caches warm."""
        named = {name: lambda argv=argv: self.cost(*argv) for name, argv in runs.items()}
        for run in named.values():
            run()
        return in_turns(named, rounds)

    def scar(self, *words: str) -> str:
        done = subprocess.run(
            [*SCAR, "--local", *words], env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"scar {' '.join(words)}: {done.stderr}"
        return done.stdout

    def up(self) -> None:
        self.scar("local", "up")
        self.environ["AWS_ENDPOINT_URL"] = self.status()["endpoint"]["url"]

    def down(self) -> None:
        subprocess.run([*SCAR, "local", "down"], env=self.environ, check=False, capture_output=True)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.scar("local", "status", "-o", "json"))
        return status

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(service, endpoint_url=self.environ["AWS_ENDPOINT_URL"], region_name="us-east-1", **KEYS)

    def daemon_rss_mib(self) -> float:
        return float(self.status()["resident_mib"])


@contextmanager
def folder(size: Size) -> Iterator[Bench]:
    """A bench without a local AWS."""
    place = Path(tempfile.mkdtemp(prefix="scar-bench-"))
    try:
        yield Bench(place, size)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def local_aws(size: Size | None = None) -> Iterator[Bench]:
    """A folder with a local AWS in it, both gone afterwards."""
    with folder(size or Size()) as bench:
        try:
            bench.up()
            yield bench
        finally:
            bench.down()


@dataclass(frozen=True)
class Endpoint:
    """The suite's own S3 server; its objects lie in memory."""

    url: str
    folder: Path

    def delay(self, ms: float) -> None:
        self._ask(f"delay?ms={ms}")

    def reset(self) -> None:
        self._ask("reset")

    def counts(self) -> dict[str, int]:
        return self._ask("counts")

    def requests(self) -> int:
        return sum(number for kind, number in self.counts().items() if kind.isupper())

    def _ask(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/-/{what}", timeout=30) as answer:
            found: dict[str, int] = json.loads(answer.read())
        return found


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one, so that no disk is measured."""
    shared = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="scar-bench-", dir=shared if os.access(shared, os.W_OK) else None))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def endpoint(processes: int = 2) -> Iterator[Endpoint]:
    with memory_folder() as place:
        argv = [
            sys.executable,
            str(Path(__file__).with_name("s3_endpoint.py")),
            str(place),
            "--processes",
            str(processes),
        ]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        server = subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin is not None and server.stdout is not None
        try:
            yield Endpoint(f"http://127.0.0.1:{int(server.stdout.readline())}", place)
        finally:
            server.stdin.close()
            server.stdout.close()
            server.wait(30)


@contextmanager
def distant(url: str, rtt_ms: float) -> Iterator[str]:
    """The same server behind a proxy that lets everything wait."""
    program_ = str(Path(__file__).with_name("delay.py"))
    argv = [sys.executable, program_, url.rpartition(":")[2], str(rtt_ms)]
    proxy = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert proxy.stdin is not None
    assert proxy.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
    finally:
        proxy.stdin.close()
        proxy.stdout.close()
        proxy.wait(30)
