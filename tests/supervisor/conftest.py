"""The agent as a real process, a Runtime API before it and an S3 behind it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import botocore.session
import pytest
from botocore.config import Config

from faassupervisor.contract import ImageProcess, Spec, Storage
from tests.supervisor.heard import Heard
from tests.supervisor.runtime_api import Answer, RuntimeApiServer

PACKAGE = Path(__file__).parents[2] / "faas-supervisor"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "AWS_REGION": "us-east-1",
}


@dataclass
class Bucket:
    """One fresh bucket."""

    client: Any
    name: str
    endpoint: str

    def put(self, key: str, body: bytes = b"hello", **more: Any) -> dict[str, Any]:
        """Store an object; answers the event record that S3 would send for it."""
        answer = self.client.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return self.record(key, eTag=answer["ETag"].strip('"'), size=len(body), **_version(answer))

    def record(self, key: str, **of_object: Any) -> dict[str, Any]:
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-11-21T12:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": {"name": self.name},
                "object": {"key": quote_plus(key), "sequencer": "0055AED6DCD90281E5", **of_object},
            },
        }

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())


def _version(answer: Mapping[str, Any]) -> dict[str, str]:
    return {"versionId": answer["VersionId"]} if "VersionId" in answer else {}


@dataclass
class Agent(Heard):
    """A running agent."""

    api: RuntimeApiServer
    process: subprocess.Popen[bytes]
    temporary: Path
    chunks: list[bytes] = field(default_factory=list)
    heard: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: object, *, timeout_s: float = 30, request_id: str | None = None) -> Answer:
        """Send an event and wait for its answer; an agent that dies instead fails the test at once, with its log."""
        pending = self.api.post(event, timeout_s=timeout_s, request_id=request_id)
        end = time.monotonic() + timeout_s + 10
        while time.monotonic() < end:
            with suppress(queue.Empty):
                return pending.answered.get(timeout=0.25)
            assert self.process.poll() is None or not pending.answered.empty(), f"the agent ended: {self.log}"
        raise AssertionError(f"no answer in time: {self.log}")

    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith('{"time"')]

    def ends_within(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)


class Lab:
    """Makes agents for a function; ends them all."""

    def __init__(self, home: Path, endpoint: str, stack: ExitStack) -> None:
        self.home, self.endpoint, self.stack = home, endpoint, stack
        self.temporary = home / "tmp"
        self.temporary.mkdir()

    def function(self, script: str | bytes | None = None, **spec: Any) -> Path:
        """A function layer; answers its directory."""
        root = self.home / f"function-{uuid.uuid4().hex[:8]}"
        root.mkdir()
        document = Spec(name="f", has_script=script is not None, **spec)
        (root / "spec.json").write_bytes(document.to_json())
        if script is not None:
            (root / "script").write_bytes(script.encode() if isinstance(script, str) else script)
            (root / "script").chmod(0o755)
        return root

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "AWS_ENDPOINT_URL": self.endpoint,
            **CREDENTIALS,
            **more,
        }

    def command(self, function: Path) -> list[str]:
        return [sys.executable, "-B", "-m", "faassupervisor", "--function", str(function), "--tmp", str(self.temporary)]

    def agent(
        self, script: str | bytes | None = None, *, environment: Mapping[str, str] | None = None, **spec: Any
    ) -> Agent:
        """Start an agent under a Runtime API of its own."""
        return self.start(self.function(script, **spec), environment=environment)

    def start(self, function: Path, *, environment: Mapping[str, str] | None = None) -> Agent:
        api = self.stack.enter_context(RuntimeApiServer())
        process = subprocess.Popen(
            self.command(function),
            env=self.environment(
                AWS_LAMBDA_RUNTIME_API=api.address, _HANDLER="h", LAMBDA_TASK_ROOT="/var/task", **(environment or {})
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        agent = Agent(api, process, self.temporary)
        reader = threading.Thread(target=agent.listen)
        reader.start()
        self.stack.callback(_end, process, reader)
        return agent

    def run_once(self, function: Path, event: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """The other door: `--event -`."""
        return subprocess.run(
            [*self.command(function), "--event", "-"],
            env=self.environment(**environment),
            input=event if isinstance(event, bytes) else json.dumps(event).encode(),
            capture_output=True,
            timeout=30,
            check=False,
        )


def _end(process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(5)


@pytest.fixture
def lab(tmp_path: Path, s3_endpoint: str) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, s3_endpoint, stack)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    """One for all tests: a client costs more than most of them."""
    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3_endpoint,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="canary-secret",
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(s3_client: Any, s3_endpoint: str) -> Bucket:
    name = f"b-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=name)
    return Bucket(s3_client, name, s3_endpoint)


@pytest.fixture
def out(bucket: Bucket) -> tuple[Storage, ...]:
    return (Storage("s3", bucket.name, "out"),)


def has(program: str) -> bool:
    return shutil.which(program) is not None


__all__ = ["Agent", "Bucket", "ImageProcess", "Lab", "has"]
