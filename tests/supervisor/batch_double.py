"""A Batch with two operations, for the agent's side of a hand-over: what was submitted, and answers that break as a test wants.

It also serves a container's credentials, so that an agent in a job finds its role as in ECS.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.loopback import Handler, Loopback

ROLE_KEY = "ASIAJOBROLEEXAMPLE00"


@dataclass
class Fault:
    """Refuse with `status` and `code`; or `lose` or `cut` the answer of what was done; or answer as if nothing had been submitted (`stale`).
    `before` and `after` are called around what is done."""

    status: int | None = None
    code: str = "ServerException"
    message: str = "as the test wants"
    lose: bool = False
    cut: bool = False
    stale: bool = False
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


@dataclass
class FakeBatch(Loopback):
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs. `calls` are the operations in order; `faults` break the
    next calls of an operation, one each."""

    calls: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    credentials_asked: int = 0
    credentials_last_s: float = 3600.0

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    @property
    def task(self) -> str:
        """SCAR_TASK of the only job."""
        (job,) = self.jobs
        (variable,) = job["containerOverrides"]["environment"]
        assert variable["name"] == "SCAR_TASK"
        return str(variable["value"])

    def count(self, operation: str) -> int:
        return self.calls.count(operation)

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        if operation == "submitjob":
            job = {**body, "jobId": str(uuid.uuid4()), "createdAt": int(time.time() * 1000)}
            self.jobs.append(job)
            return {"jobId": job["jobId"], "jobName": job["jobName"]}
        (wanted,) = body["filters"]
        assert wanted["name"] == "JOB_NAME"
        (name,) = wanted["values"]
        found = [job for job in self.jobs if job["jobName"].lower() == name.lower()]  # Batch compares without case
        return {"jobSummaryList": [{key: job[key] for key in ("jobId", "jobName", "createdAt")} for job in found]}


class _Handler(Handler):
    def setup(self) -> None:
        super().setup()
        self.owner.connections += 1

    def do_GET(self) -> None:
        batch = self.owner
        batch.credentials_asked += 1
        over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + batch.credentials_last_s))
        self._send(200, {"AccessKeyId": ROLE_KEY, "SecretAccessKey": "role-secret", "Token": "t", "Expiration": over})

    def do_POST(self) -> None:
        batch = self.owner
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # whoever asked died over it
            self.close_connection = True
            return
        operation = self.path.removeprefix("/v1/")
        batch.calls.append(operation)
        batch.bodies.append(body)
        waiting = batch.faults.get(operation, [])
        fault = waiting.pop(0) if waiting else Fault()
        fault.before()
        if fault.status:
            self._send(fault.status, {"message": fault.message}, {"x-amzn-ErrorType": fault.code})
            return
        answer = {"jobSummaryList": []} if fault.stale else batch.answer(operation, json.loads(body))
        fault.after()
        if fault.lose:
            self.close_connection = True
            return
        if fault.cut:
            self.close_connection = True
            self._send(200, answer, {"Connection": "close"}, cut=True)
            return
        self._send(200, answer)

    def _send(
        self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        body = json.dumps(document).encode()
        self.send_response_only(status)
        for name, value in {
            **(headers or {}),
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
