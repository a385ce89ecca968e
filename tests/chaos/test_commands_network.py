"""A network that swallows packets: no refusal, no answer, nothing. A command says so in bounded time, and what it was doing is done by the next one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scar.errors import ServiceError
from tests.chaos.choice import Choice

ROOT = Path(__file__).parents[2]
BOUND_S = 15  # scar/aws/clients.py: three attempts to connect and two pauses
STARTING_S = 45  # of a command on a machine that is busy with something else
COMMANDS = {
    "ls": ["ls"],
    "init": ["init", "-f", "it.yaml"],
    "rm": ["rm", "-n", "it"],
    "run": ["run", "-n", "it"],
    "log": ["log", "-n", "it"],
    "put": ["put", "-b", "bucket/in", "-p", "it.yaml"],
    "get": ["get", "-b", "bucket/in", "-p", "to"],
}


@pytest.fixture(scope="module")
def swallowed() -> Iterator[str]:
    """An address of this machine that answers no packet: who listens there takes no connection, and has as many waiting as may wait."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        time.sleep(0.1)
        one_more = stack.enter_context(socket.socket())
        one_more.settimeout(0.5)
        with pytest.raises(TimeoutError):
            one_more.connect(address)
        yield f"http://127.0.0.1:{address[1]}"


def test_a_command_that_gets_no_answer_at_all_ends_soon_and_says_what_to_look_at(
    swallowed: str, tmp_path: Path, choice: Choice
) -> None:
    """CL16: each in a process of its own, all at once; exit code, two lines, no more than the documented bound."""
    (tmp_path / "it.yaml").write_text(
        "functions: {aws: [{lambda: {name: it, container: {image: scratch}, init_script: it.sh}}]}\n"
    )
    (tmp_path / "it.sh").write_text("#!/bin/sh\n")
    keep = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'faas-supervisor'}"}
    environ = {
        **keep,
        "AWS_ENDPOINT_URL": swallowed,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    chosen = choice.of("swallowed", COMMANDS, 3)
    began_s = time.monotonic()
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "scar", *COMMANDS[name]],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in chosen
    }
    for name, process in started.items():
        out, err = process.communicate(timeout=BOUND_S + STARTING_S)
        assert time.monotonic() - began_s < BOUND_S + STARTING_S, name
        told = err.strip().splitlines()
        assert process.returncode == ServiceError.exit_code, (name, err)
        assert out == "", name
        assert swallowed.removeprefix("http://") in told[-2], (name, err)
        assert "Check the network" in told[-1], (name, err)
        assert "Traceback" not in err, (name, err)
