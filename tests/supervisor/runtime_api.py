"""Lambda's Runtime API as a small server for tests: events go in by `invoke`, answers come out of it."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.support.loopback import Handler, Loopback

PREFIX = "/2018-06-01/runtime"


@dataclass
class Answer:
    """What the agent posted for one event; `error_type` is None for a response."""

    body: bytes
    error_type: str | None

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class _Pending:
    request_id: str
    payload: bytes
    deadline_ms: int
    answered: queue.Queue[Answer] = field(default_factory=queue.Queue)


class RuntimeApiServer(Loopback):
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs."""

    def __init__(self) -> None:
        self.init_errors: queue.Queue[Answer] = queue.Queue()
        self._waiting: queue.Queue[_Pending] = queue.Queue()
        self._open: dict[str, _Pending] = {}
        self._asked = threading.Event()

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    def __exit__(self, *_: object) -> None:
        self._waiting.put(_Pending("", b"", 0))  # frees a handler that waits
        super().__exit__()

    def wait_until_asked(self, timeout_s: float = 20) -> None:
        """Until the agent has asked for its first event."""
        assert self._asked.wait(timeout_s), "the agent never asked for an event"

    def post(self, event: object, *, timeout_s: float = 30, request_id: str | None = None) -> _Pending:
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        pending = _Pending(request_id or str(uuid.uuid4()), payload, int((time.time() + timeout_s) * 1000))
        self._open[pending.request_id] = pending
        self._waiting.put(pending)
        return pending


class _Handler(Handler):
    def do_GET(self) -> None:
        api = self.owner
        if self.path != f"{PREFIX}/invocation/next":
            return self.send(404)
        api._asked.set()
        pending = api._waiting.get()
        return self.send(
            200,
            pending.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": pending.request_id,
                "Lambda-Runtime-Deadline-Ms": str(pending.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
            },
        )

    def do_POST(self) -> None:
        api = self.owner
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # the agent died over it
            return
        error_type = self.headers.get("Lambda-Runtime-Function-Error-Type")
        self.send(202, b"{}")
        if self.path == f"{PREFIX}/init/error":
            api.init_errors.put(Answer(body, error_type))
            return
        request_id, kind = self.path.removeprefix(f"{PREFIX}/invocation/").split("/")
        assert kind in {"response", "error"} and (kind == "error") == (error_type is not None)
        api._open.pop(request_id).answered.put(Answer(body, error_type))
