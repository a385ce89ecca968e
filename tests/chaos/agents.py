"""Agents under our eyes: real processes that die, or are refused something, at exactly one of their system calls."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from faassupervisor import events
from faassupervisor.events import ObjectItem
from faassupervisor.modes_batch import run_of
from tests.supervisor.conftest import Agent, Bucket, Lab
from tests.supervisor.runtime_api import RuntimeApiServer
from tests.support.system_calls import Call, Traced, kill_at

PATIENCE_S = 90.0  # for whatever ends by itself: the machine may be busy
HOUR_S = 3600


class Watched:
    """A traced agent, started and asking for its first event; `agent` is it as other tests know it. Its clock goes `ahead_s` of ours."""

    def __init__(self, agent: Agent, traced: Traced, ahead_s: int) -> None:
        self.agent, self.traced, self.ahead_s = agent, traced, ahead_s

    def answers(self, event: object, request_id: str, *, timeout_s: float = 60) -> Any:
        """The document that it answers with. An agent that fails the event fails the test."""
        answer = self.agent.invoke(event, timeout_s=timeout_s + self.ahead_s, request_id=request_id)
        assert answer.error_type is None, f"{answer.body!r}: {self.agent.log}"
        return answer.document

    def dies_at(self, number: int, event: object, request_id: str, *, timeout_s: float = 60) -> Call | None:
        """Kill it at this call of its work on an event. None when the event had fewer: then it is killed after its answer."""
        self.traced.watch(kill_at(number))
        pending = self.agent.api.post(event, timeout_s=timeout_s + self.ahead_s, request_id=request_id)
        end = time.monotonic() + PATIENCE_S
        while self.traced.killed is None and pending.answered.empty():
            assert time.monotonic() < end, f"call {number}: neither killed nor answered: {self.agent.log}"
            time.sleep(0.002)
        self.traced.kill()
        self.traced.process.wait()
        return self.traced.killed


@contextmanager
def watched(
    lab: Lab,
    function: Path,
    environment: Mapping[str, str] | None = None,
    *,
    ahead_s: int = 0,
    before: Sequence[str] = (),
) -> Iterator[Watched]:
    """A traced agent under a Runtime API of its own, as long as the block runs. `before` is a command that executes the agent's.

    `ahead_s` says how far the clock goes ahead that `environment` gives it (`Wall`).
    """
    with RuntimeApiServer() as api:
        variables = lab.environment(
            AWS_LAMBDA_RUNTIME_API=api.address, _HANDLER="h", LAMBDA_TASK_ROOT="/var/task", **(environment or {})
        )
        command = [*before, *lab.command(function)]
        traced = Traced(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        agent = Agent(api, traced.process, lab.temporary)
        reader = threading.Thread(target=agent.listen)
        reader.start()
        try:
            with traced:
                api.wait_until_asked(PATIENCE_S)
                yield Watched(agent, traced, ahead_s)
        finally:
            reader.join(PATIENCE_S)


def turns(calls: Sequence[Call]) -> list[int]:
    """The numbers of the calls at which something else begins: of a body that goes out in a hundred pieces, the first and the last."""
    kinds = [(call.name, call.target) for call in calls]
    last = len(kinds) - 1
    return [
        index + 1
        for index, kind in enumerate(kinds)
        if index in (0, last) or kind != kinds[index - 1] or kind != kinds[index + 1]
    ]


def versioned(bucket: Bucket) -> None:
    """Every write to it is kept from now on: how often an output was published can be counted."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})


def published(bucket: Bucket, prefix: str) -> dict[str, list[bytes]]:
    """Every content that any key ever had, by the key's last part."""
    found: dict[str, list[bytes]] = {}
    pages = bucket.client.get_paginator("list_object_versions").paginate(Bucket=bucket.name, Prefix=prefix)
    for version in (version for page in pages for version in page.get("Versions", ())):
        named = {"Bucket": bucket.name, "Key": version["Key"], "VersionId": version["VersionId"]}
        found.setdefault(version["Key"].removeprefix(prefix), []).append(
            bucket.client.get_object(**named)["Body"].read()
        )
    return found


def entries(bucket: Bucket, payload: object) -> list[dict[str, Any]]:
    """Every state that the ledger's entry of an event's only record was ever in, newest first."""
    (item,) = events.parse(json.dumps(payload).encode())
    assert isinstance(item, ObjectItem)
    versions = published(bucket, f"functions/f/ledger/{run_of('f', item, '', 0)}")
    found = [json.loads(body) for body in versions.get("", [])]
    return sorted(found, key=lambda entry: entry["updated"], reverse=True)


def unfinished(bucket: Bucket) -> list[str]:
    """Keys of multipart uploads that nobody has ended."""
    answer = bucket.client.list_multipart_uploads(Bucket=bucket.name)
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def running_in(folder: Path) -> list[str]:
    """Processes that stand in a folder or below it."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink().is_relative_to(folder):
                found.append(process.name)
    return found


def told(calls: Sequence[Call]) -> str:
    return "\n".join(map(str, calls))
