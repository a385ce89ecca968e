"""What happens to a function that is changed: by hand, by another definition, and by a command that is interrupted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading

from tests.e2e.conftest import Done, Local, until

SAYS = """#!/usr/bin/env python3
import os, time
print("begun", flush=True)
time.sleep(float(os.environ["SECONDS"]))
print(os.environ["SAYS"])
"""


def at_a_terminal(local: Local, answer: str, *words: str) -> Done:
    """The command with a terminal for its input, on which somebody types one line."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "scar", "--local", *words],
            stdin=theirs, capture_output=True, text=True, cwd=local.folder, env=local.environ, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    return Done(done.returncode, done.stdout, done.stderr)


def test_what_was_changed_by_hand_is_shown_and_put_back_with_consent(local: Local) -> None:
    """CL9"""
    local.function("handled", "echo", memory=640)

    def memory() -> int:
        (size,) = (each["memory_mib"] for each in local.must("ls", "-o", "json").json if each["name"] == "handled")
        assert isinstance(size, int)
        return size

    assert [each["changed_by_hand"] for each in local.must("ls", "-o", "json").json if each["name"] == "handled"] == [
        False
    ]
    local.client("lambda").update_function_configuration(FunctionName="handled", MemorySize=128)
    assert [each["changed_by_hand"] for each in local.must("ls", "-o", "json").json if each["name"] == "handled"] == [
        True
    ]
    refused = at_a_terminal(local, "n", "init", "-f", "handled.yaml")
    assert (refused.code, memory()) == (1, 128)
    assert (
        "changed by hand since the last init, and put back now: ~ function handled  memory_mib: 128 → 640"
        in refused.err
    )
    agreed = at_a_terminal(local, "y", "init", "-f", "handled.yaml")
    assert (agreed.code, memory()) == (0, 640)
    assert local.must("plan", "-f", "handled.yaml", "-o", "json").json["steps"] == []


def test_an_interrupted_init_says_what_goes_on_and_the_same_command_finishes(local: Local) -> None:
    """CL13"""
    local.function("before", "echo")  # the agent's layer is built, and the state bucket is there
    (local.folder / "stopped.yaml").write_text((local.folder / "before.yaml").read_text().replace("before", "stopped"))
    (local.folder / "stopped.script").write_text("echo")
    process = subprocess.Popen(
        [sys.executable, "-m", "scar", "--local", "init", "-f", "stopped.yaml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=local.folder, env=local.environ,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("  +"):
            process.send_signal(signal.SIGINT)
            break
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert " steps done" in told
    assert "Finish with: scar --local init -f stopped.yaml" in told
    local.must("init", "-f", "stopped.yaml")
    assert local.must("plan", "-f", "stopped.yaml", "-o", "json").json["steps"] == []


def test_a_run_that_is_under_way_ends_as_it_began_and_the_next_one_is_new(local: Local) -> None:
    """CL22"""

    def defined(says: str, seconds: str) -> dict[str, object]:
        return {"image": "scratch", "environment": {"Variables": {"SAYS": says, "SECONDS": seconds}}}

    local.function("changing", SAYS, container=defined("old", "12"))
    logs = local.client("logs")
    began: list[Done] = []
    running = threading.Thread(target=lambda: began.append(local.scar("run", "-n", "changing")))
    running.start()
    until("the run", lambda: "begun" in str(logs.filter_log_events(logGroupName="/aws/lambda/changing")["events"]), 60)
    local.function("changing", SAYS, container=defined("new", "0"))
    assert began == []
    running.join(60)
    assert (began[0].code, began[0].out.split()) == (0, ["begun", "old"])
    assert local.must("run", "-n", "changing").out.split() == ["begun", "new"]
