"""A function in a batch mode: the agent as a real process, S3 with its state bucket, and a Batch behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faassupervisor import events
from faassupervisor.contract import Storage, Task
from faassupervisor.events import ObjectItem, Refused, Skipped
from faassupervisor.ledger import HandOver, Ledger
from faassupervisor.modes_batch import run_of
from faassupervisor.state import Entries, State
from tests.supervisor.batch_double import FakeBatch
from tests.supervisor.conftest import Agent, Bucket, Lab

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"  # what the Runtime API of the tests says that we are


@dataclass
class Handing:
    lab: Lab
    bucket: Bucket
    batch: FakeBatch

    @property
    def state(self) -> str:
        return f"s3://{self.bucket.name}/functions/f/"

    @property
    def out(self) -> tuple[Storage, ...]:
        return (Storage("s3", self.bucket.name, "out"),)

    def variables(self, **more: str) -> dict[str, str]:
        return {
            "SCAR_STATE": self.state,
            "SCAR_JOB_QUEUE": "scar-f",
            "SCAR_JOB_DEFINITION": "scar-f-0123456789abcdef",
            "AWS_ENDPOINT_URL_BATCH": self.batch.endpoint,
            **more,
        }

    def function(self, script: str, mode: str = "lambda-batch", **spec: Any) -> Path:
        return self.lab.function(script, mode=mode, outputs=self.out, **spec)

    def agent(self, function: Path, **environment: str) -> Agent:
        return self.lab.start(function, environment=self.variables(**environment))

    def job(
        self,
        function: Path,
        task: str | None = None,
        *,
        attempt: int = 1,
        job_id: str | None = None,
        **environment: str,
    ) -> Job:
        """Start the agent as Batch does: with its container's credentials and, as a job definition may, keys that must not count."""
        process = subprocess.Popen(
            self.lab.command(function),
            env=self.job_environment(task, attempt=attempt, job_id=job_id, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.lab.stack.callback(_kill, process)
        return Job(process)

    def job_environment(
        self, task: str | None = None, *, attempt: int = 1, job_id: str | None = None, **more: str
    ) -> dict[str, str]:
        """What Batch and the job definition give to a job's container; what is empty is not there."""
        given = self.lab.environment(
            AWS_BATCH_JOB_ID=job_id or self.batch.jobs[0]["jobId"],
            AWS_BATCH_JOB_ATTEMPT=str(attempt),
            AWS_BATCH_JQ_NAME="scar-f",
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{self.batch.endpoint}/credentials",
            SCAR_STATE=self.state,
            SCAR_TASK=self.batch.task if task is None else task,
            **more,
        )
        return {name: value for name, value in given.items() if value}

    def handed_over(self, script: str, event: dict[str, Any] | None = None, **spec: Any) -> Path:
        """A function one of whose records Lambda has just handed over: the entry is written and the job is submitted, as the agent does it."""
        payload = event or {"Records": [self.bucket.put("in/a", b"hello")]}
        (item,) = events.parse(json.dumps(payload).encode())
        assert not isinstance(item, Skipped | Refused)
        ledger = Ledger(Entries(State(self.bucket.client, self.state)), "f")
        run = run_of("f", item, "r-1", 0)
        key = item.key if isinstance(item, ObjectItem) else None
        step = ledger.claim(run, owner="r-1", request_id="r-1", lease_s=60, key=key, mode="batch")
        assert isinstance(step, HandOver)
        task = Task("f", "r-1", run, step.claim.epoch, event=item.event.decode())
        variable = {"name": "SCAR_TASK", "value": task.to_json().decode()}
        name = step.claim.delegating()
        answer = self.batch.answer("submitjob", {"jobName": name, "containerOverrides": {"environment": [variable]}})
        step.claim.delegated(answer["jobId"])
        return self.function(script, "batch", **spec)

    def entry(self) -> dict[str, Any]:
        """The only entry of the ledger."""
        (key,) = self.bucket.keys("functions/f/ledger/")
        found: dict[str, Any] = json.loads(self.bucket.get(key))
        return found

    def outputs(self) -> list[str]:
        return self.bucket.keys("out/")


@dataclass
class Job:
    process: subprocess.Popen[bytes]
    log: str = ""

    def says(self, text: str) -> None:
        """Wait until its log holds a text."""
        assert self.process.stdout is not None
        end = time.monotonic() + 20
        while text not in self.log:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            self.log += chunk.decode()
            assert chunk and time.monotonic() < end, self.log

    def end(self) -> int:
        """Its exit code."""
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            self.log += pipe.read().decode()
        return self.process.wait(20)

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.log.splitlines()[-1])
        return found

    def facts(self, fact: str) -> list[dict[str, Any]]:
        return facts(self.log, fact)


def facts(log: str, fact: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]
    return [line for line in lines if line["fact"] == fact]


def says(agent: Agent, text: str, times: int = 1) -> None:
    """Wait until an agent's log holds a text so often: an answer comes another way, and may be here first."""
    end = time.monotonic() + 10
    while agent.log.count(text) < times:
        assert time.monotonic() < end, agent.log
        time.sleep(0.01)


def told_by(agent: Agent, fact: str, times: int = 1) -> list[dict[str, Any]]:
    """The lines of an agent that tell a fact, so many at least."""
    says(agent, f'"fact": "{fact}"', times)
    return facts(agent.log, fact)


def failed_for_good(
    payload: object, request_id: str, answer: dict[str, Any] | None = None, arn: str = f"{ARN}:$LATEST"
) -> dict[str, Any]:
    """What Lambda sends to an on-failure destination (lambda/latest/dg/invocation-async-retain-records)."""
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "requestContext": {
            "requestId": request_id, "functionArn": arn, "condition": "RetriesExhausted", "approximateInvokeCount": 3,
        },
        "requestPayload": payload,
    }  # fmt: skip
    if answer is not None:
        document["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
        document["responsePayload"] = answer
    return document


TIMED_OUT = {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: r-1 Error: Task timed out after 3.00 seconds"}


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Of every process of this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def handing(lab: Lab, bucket: Bucket) -> Iterator[Handing]:
    with FakeBatch() as batch:
        yield Handing(lab, bucket, batch)
