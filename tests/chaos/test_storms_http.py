"""Requests of a thousand callers at once to one function behind HTTP: each gets an answer, and the local AWS stays what it was."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.chaos.choice import Choice
from tests.chaos.storming import Deployed
from tests.e2e.conftest import until

SCRIPT = """#!/usr/bin/env python3
import os, shutil
shutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"] + "/out")
"""
BODY = b"whose body is this: %d\n"
PATIENCE_S = 300
MORE_MIB = 150  # that the daemon may take while it answers: some bodies and threads, not a process for each


@pytest.fixture
def echo(deployed: Deployed) -> Iterator[str]:
    local = deployed.storm.local
    (local.folder / "echo.py").write_text(SCRIPT)
    body = {
        "lambda": {
            "name": "echo",
            "memory": 128,
            "timeout": 60,
            "init_script": "echo.py",
            "container": {"image": "scratch"},
        },
        "function_url": {"auth": "none"},
    }
    (local.folder / "echo.yaml").write_text(json.dumps({"functions": {"aws": [body]}}))
    made = local.must("init", "-f", "echo.yaml", "-o", "json").json
    yield made["functions"][0]["endpoints"][0]["url"]
    local.must("rm", "-n", "echo")


async def ask(url: str, number: int, gate: asyncio.Event, answers: Counter[int], wrong: list[bytes]) -> None:
    """One caller with a connection of its own, who sends when all are connected."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    body = BODY % number
    await gate.wait()
    head = f"POST {place.path or '/'} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    got = await reader.read()
    writer.close()
    status = int(got.split(b" ", 2)[1]) if got else 0
    answers[status] += 1
    if status == 200 and got.partition(b"\r\n\r\n")[2] != body:
        wrong.append(got)


async def all_at_once(url: str, count: int) -> tuple[Counter[int], list[bytes]]:
    answers: Counter[int] = Counter()
    wrong: list[bytes] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(ask(url, number, gate, answers, wrong)) for number in range(count)]
    await asyncio.sleep(0.5)
    gate.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    return answers, wrong


def peak_mib(daemon: int) -> int:
    status = Path(f"/proc/{daemon}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def test_a_thousand_callers_at_once_are_all_answered_each_with_its_own(
    deployed: Deployed, echo: str, choice: Choice
) -> None:
    """AP8: with the caller's own bytes, or with 429 as Lambda says that there is no room; none hangs, and memory is bounded."""
    local = deployed.storm.local
    count = 1000 if choice.whole else 16
    daemon = local.daemon_pid()
    before = peak_mib(daemon)
    answers, wrong = asyncio.run(all_at_once(echo, count))
    assert wrong == []
    assert sum(answers.values()) == count
    assert answers.keys() <= {200, 429}, answers
    assert answers[200] > 0
    assert peak_mib(daemon) < before + MORE_MIB
    until("nothing runs", local.quiet, 60)
