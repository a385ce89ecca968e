"""The product as its user has it: the `scar` command in a process of its own, a local AWS of its own, real containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'faas-supervisor'}"


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """One a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Local:
    """One local AWS and a folder to work in."""

    folder: Path
    state: Path
    engine: str = "auto"
    home: Path | None = None

    @property
    def environ(self) -> dict[str, str]:
        keep = {
            key: os.environ[key]
            for key in ("PATH", "HOME", "XDG_CACHE_HOME", "SCAR_CACHE", "TMPDIR")
            if key in os.environ
        }
        if self.home is not None:
            keep["HOME"] = str(self.home)
            keep.setdefault("SCAR_CACHE", str(self.folder / "cache"))
        return keep | {"PYTHONPATH": PYTHONPATH, "SCAR_LOCAL_STATE": str(self.state), "SCAR_ENGINE": self.engine}

    def scar(self, *words: str, timeout_s: float = 120) -> Done:
        """`scar --local WORDS`."""
        done = subprocess.run(
            [sys.executable, "-m", "scar", "--local", *words],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environ,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str, timeout_s: float = 120) -> Done:
        """The same, and it has to succeed."""
        done = self.scar(*words, timeout_s=timeout_s)
        assert done.code == 0, f"scar {' '.join(words)} → {done.code}\n{done.out}\n{done.err}"
        return done

    @property
    def status(self) -> Any:
        return self.must("local", "status", "-o", "json").json

    @property
    def url(self) -> str:
        url: str = self.status["endpoint"]["url"]
        return url

    @property
    def aws_environ(self) -> dict[str, str]:
        """What any other AWS tool needs."""
        return {
            **self.environ,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def function(self, name: str, script: str, **more: Any) -> str:
        """Write a definition of one function with `image: scratch` and make it; answers its bucket's name."""
        bucket = f"bucket-{name}"
        (self.folder / f"{name}.script").write_text(script)
        body = {
            "name": name,
            "memory": 512,
            "timeout": 60,
            "init_script": f"{name}.script",
            "container": {"image": "scratch"},
            "input": [{"path": f"{bucket}/in"}],
            "output": [{"path": f"{bucket}/out"}],
            **more,
        }
        document = {"functions": {"aws": [{"lambda": body}]}}
        (self.folder / f"{name}.yaml").write_text(json.dumps(document))  # JSON is YAML
        self.must("init", "-f", f"{name}.yaml")
        return bucket

    def keys(self, bucket: str, folder: str = "") -> list[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def log(self, name: str) -> list[str]:
        return [line["message"] for line in self.must("log", "-n", name, "-o", "json").documents]

    def runs(self, name: str) -> int:
        """How many invocations were started."""
        return sum(line.startswith("START RequestId:") for line in self.log(name))

    def daemon_pid(self) -> int:
        pid: int = self.status["endpoint"]["pid"]
        return pid


def until(what: str, check: Callable[[], object], within_s: float = 30) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"waited {within_s} s for: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def shared_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One local AWS for all tests that use names of their own."""
    base = tmp_path_factory.mktemp("local-aws")
    (base / "work").mkdir()
    local = Local(base / "work", base / "state")
    yield local
    local.scar("local", "down")


@pytest.fixture
def local(shared_local: Local) -> Local:
    return shared_local


@pytest.fixture
def own_local(tmp_path: Path) -> Iterator[Local]:
    """A local AWS of the test's own, for tests that kill it."""
    (tmp_path / "work").mkdir()
    local = Local(tmp_path / "work", tmp_path / "state")
    yield local
    local.scar("local", "down")
