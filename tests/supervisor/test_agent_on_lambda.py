"""The agent under the Runtime API: every record, every failure, and one invocation after another."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faassupervisor.contract import Failure, Reply, Run, Storage
from faassupervisor.reply import fitted


def direct(script):
    return {"script": base64.b64encode(script.encode()).decode()}


def test_an_object_is_staged_in_processed_and_its_output_published(lab, bucket, out):
    agent = lab.agent('tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/result.txt"; echo done', outputs=out)
    answer = agent.invoke({"Records": [bucket.put("in/a.txt", b"hello")]}, request_id="r-1")
    assert answer.error_type is None
    assert answer.document["request_id"] == "r-1"
    run = answer.document["runs"][0]
    assert (run["key"], run["exit_code"], run["output"]) == ("in/a.txt", 0, "done\n")
    assert run["outputs"] == [f"s3://{bucket.name}/out/result.txt"]
    assert bucket.get("out/result.txt") == b"HELLO"
    assert list(agent.temporary.iterdir()) == []


def test_every_record_is_processed_in_a_place_of_its_own(lab, bucket, out):
    """EV3, KEY6."""
    agent = lab.agent(
        'ls "$TMP_INPUT_DIR" "$TMP_OUTPUT_DIR"; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/$(cat "$INPUT_FILE_PATH")"',
        outputs=out,
    )
    records = [bucket.put("x/a", b"first"), bucket.put("y/a", b"second"), bucket.put("z/b", b"third")]
    answer = agent.invoke({"Records": records})
    assert answer.error_type is None
    assert [run["key"] for run in answer.document["runs"]] == ["x/a", "y/a", "z/b"]
    assert bucket.keys("out/") == ["out/first", "out/second", "out/third"]


def test_a_bad_record_neither_stops_the_good_ones_nor_is_forgotten(lab, bucket, out):
    """EV4."""
    agent = lab.agent('grep -q bad "$INPUT_FILE_PATH" && exit 7; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"', outputs=out)
    records = [
        bucket.put("in/1"),
        {**bucket.put("in/2"), "eventVersion": "3.0"},
        bucket.put("in/3", b"bad"),
        bucket.record("in/gone"),
        bucket.put("in/5"),
    ]
    answer = agent.invoke({"Records": records})
    assert answer.error_type == "BadEvent"
    assert answer.document["errorMessage"] == "event: eventVersion '3.0' is not 2.x (3 of 5 records failed)"
    assert [(run["key"], run["exit_code"]) for run in answer.document["runs"]] == [
        ("in/1", 0), (None, 1), ("in/3", 7), ("in/gone", 1), ("in/5", 0),
    ]  # fmt: skip
    assert bucket.keys("out/") == ["out/1", "out/5"]


def test_records_that_create_nothing_start_nothing_and_succeed(lab, bucket):
    """EV7, KEY4."""
    agent = lab.agent("echo started")
    removed = {**bucket.record("in/a"), "eventName": "ObjectRemoved:Delete"}
    answer = agent.invoke({"Records": [removed, bucket.put("in/folder/", b"")]})
    assert answer.error_type is None
    assert answer.document["runs"] == []
    assert answer.document["skipped"] == ["'ObjectRemoved:Delete' creates no object", "'in/folder/' is a folder marker"]
    assert "started" not in agent.log


@pytest.mark.parametrize("event", [b"{", b"hello", b"\xff", b"[" * 20000])
def test_what_is_no_event_is_refused(lab, event):
    """EV14."""
    answer = lab.agent("echo started").invoke(event)
    assert answer.error_type == "BadEvent"
    assert answer.document["errorType"] == "BadEvent"


def test_any_other_json_is_the_input_file_byte_for_byte(lab):
    """EV15."""
    event = b'{"user":  "data"}\n'
    answer = lab.agent('cat "$INPUT_FILE_PATH"; basename "$INPUT_FILE_PATH"').invoke(event)
    assert answer.document["runs"][0]["output"].encode() == event + b"event.json\n"


@pytest.mark.parametrize("mode", ["batch", "lambda-batch"])
def test_a_mode_without_what_it_needs_fails_clearly_and_starts_nothing(lab, mode):
    agent = lab.agent("echo started", mode=mode)
    answer = agent.invoke({})
    assert (answer.error_type, answer.document["errorMessage"]) == (
        "AgentFailed",
        "this function was deployed without SCAR_STATE: run `scar init` again",
    )
    assert "started" not in agent.log


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda root: (root / "spec.json").unlink(), "spec.json"),
        (lambda root: (root / "spec.json").write_text("{"), "not JSON"),
        (lambda root: (root / "spec.json").write_text('{"schema": 99, "name": "f"}'), "newer"),
        (lambda root: (root / "script").unlink(), "has_script"),
    ],
)
def test_a_function_that_cannot_be_served_is_an_init_error_and_ends_the_agent(lab, break_it, reason):
    function = lab.function("true")
    break_it(function)
    agent = lab.start(function)
    error = agent.api.init_errors.get(timeout=20)
    assert error.error_type == "AgentFailed"
    assert reason in error.document["errorMessage"]
    assert agent.ends_within(5) == 1


def test_a_storage_that_the_agent_does_not_know_is_an_init_error(lab):
    agent = lab.agent("true", outputs=(Storage("webdav.x", "b"),))
    assert "'webdav.x'" in agent.api.init_errors.get(timeout=20).document["errorMessage"]


SNAPSHOT = f"""#!{sys.executable}
import json, os, subprocess
umask = os.umask(0); os.umask(umask)
files = {{name: os.readlink(f"/proc/self/fd/{{name}}").split(":")[0] for name in os.listdir("/proc/self/fd") if int(name) < 3}}
children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getppid())], capture_output=True, text=True).stdout.split()
here = os.path.dirname(os.environ["TMP_INPUT_DIR"])
known = dict(os.environ)
for name in ("REQUEST_ID", "AWS_LAMBDA_REQUEST_ID", "EVENT", "TMP_INPUT_DIR", "TMP_OUTPUT_DIR", "SCAR_EVENT_FILE", "PWD", "OLDPWD"):
    known.pop(name, None)
print(json.dumps([known, umask, files, len(children), sorted(os.listdir(os.path.dirname(here))) == [os.path.basename(here)], os.listdir(here)]))
"""

DIRTY = """
umask 077; cd /; ulimit -n 100
export LEAK=1; echo leak > "$(dirname "$TMP_INPUT_DIR")/../leak-$$"; mkdir -p "$(dirname "$TMP_INPUT_DIR")/../d/e/f"
chmod 0 "$(dirname "$TMP_INPUT_DIR")/../d"
sleep 100 &
setsid sleep 100 &
chmod 0 "$TMP_OUTPUT_DIR"; exit $(($$ % 3))
"""


def test_nothing_of_one_invocation_reaches_the_next_in_a_hundred(lab):
    """LO13"""
    agent = lab.agent(SNAPSHOT)

    def snapshot():
        answer = agent.invoke({})
        assert answer.error_type is None, answer.body
        return json.loads(answer.document["runs"][0]["output"])

    def of_the_agent():
        status = Path(f"/proc/{agent.process.pid}/status").read_text()
        threads = next(line for line in status.splitlines() if line.startswith("Threads"))
        return threads, len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir())) if os.geteuid() == 0 else None

    snapshot()
    before, agent_before = snapshot(), of_the_agent()
    for _ in range(48):
        agent.invoke(direct(DIRTY))
        assert list(agent.temporary.iterdir()) == []
        agent.invoke({"script": "", "secret": "of one caller"})
    assert snapshot() == before
    assert of_the_agent() == agent_before
    assert before[4] is True


def test_one_callers_event_is_not_in_the_next_ones_environment(lab):
    agent = lab.agent('env; ls -R "$(dirname "$TMP_INPUT_DIR")/.."')
    agent.invoke({"user": "alice-canary"})
    assert "alice-canary" not in agent.invoke({}).document["runs"][0]["output"]


def test_a_killed_predecessors_files_are_gone_when_the_next_event_comes(lab):
    stale = lab.temporary / "scar-run-00000000deadbeef"
    (stale / "in").mkdir(parents=True)
    (stale / "in" / "half").write_text("half")
    answer = lab.agent('ls "$(dirname "$TMP_INPUT_DIR")/.."').invoke({})
    assert len(answer.document["runs"][0]["output"].split()) == 1
    assert not stale.exists()


def test_the_log_is_one_json_line_for_each_fact_and_holds_neither_payload_nor_credential(lab, bucket, out):
    """EV17."""
    agent = lab.agent('echo x > "$TMP_OUTPUT_DIR/a"', outputs=out, log_level="DEBUG")
    agent.invoke({"Records": [bucket.put("in/\x1b]0;evil\x07\u202e\x7f")]}, request_id="r-7")
    agent.invoke({"token": "canary-payload"})
    for fact in agent.facts():
        assert {"time", "level", "request_id", "fact"} <= fact.keys()
    assert [fact["fact"] for fact in agent.facts() if fact["request_id"] == "r-7"] == [
        "took a record",
        "staged in",
        "script ended",
        "staged out",
    ]
    assert "canary" not in agent.log
    assert all(character == "\n" or " " <= character <= "~" for character in agent.log)


def test_the_log_level_hides_what_is_below_it(lab, bucket):
    agent = lab.agent("echo user line", log_level="ERROR")
    agent.invoke({"Records": [bucket.put("in/a")]})
    # But for what `scar` looks for in every log.
    assert [fact["fact"] for fact in agent.facts()] == ["took a record"]
    assert agent.log.splitlines()[1:] == ["user line"]


def test_a_reply_that_would_not_fit_is_shortened(lab):
    answer = lab.agent("head -c 3000000 /dev/zero").invoke({})
    assert answer.error_type is None
    assert len(answer.body) < 6 * 1024 * 1024


def test_any_answer_is_made_to_fit():
    run = Run("k", 0, tuple(f"s3://bucket/{number}/{'x' * 1000}" for number in range(3000)), "\0" * 262_144)
    for answer in (Reply("r", (run,) * 3), Failure("ScriptFailed", "m", 3, ("\0" * 262_144,), (run,) * 3, "r")):
        text = fitted(answer)
        assert len(text) < 6 * 1024 * 1024
        assert type(answer).from_json(text).request_id == "r"
    short = Reply("r", (Run("k", 0, ("s3://b/k",), "x"),))
    assert fitted(short) == short.to_json()


def test_sigterm_while_waiting_ends_the_agent_with_success(lab):
    agent = lab.agent("true")
    agent.api.wait_until_asked()
    agent.process.terminate()
    assert agent.ends_within(3) == 0


def test_once_from_standard_input_gives_one_document_and_the_scripts_exit_code(lab, bucket, out):
    function = lab.function(
        'echo told; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"; exit "$(cat "$INPUT_FILE_PATH")"', outputs=out
    )
    good = lab.run_once(function, {"Records": [bucket.put("in/good", b"0")]})
    assert (good.returncode, Reply.from_json(good.stdout).runs[0].outputs) == (0, (f"s3://{bucket.name}/out/good",))
    assert b"told\n" in good.stderr
    bad = lab.run_once(function, {"Records": [bucket.put("in/bad", b"42")]})
    assert (bad.returncode, Failure.from_json(bad.stdout).kind) == (42, "ScriptFailed")
    assert bucket.keys("out/") == ["out/good"]


def test_without_a_door_the_agent_says_how_it_is_started(lab):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "faassupervisor"], env=lab.environment(), capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: ")


@pytest.mark.parametrize("name", ["HUP", "INT"])
def test_what_whoever_started_the_agent_ignores_counts_again_for_the_script(lab, name):
    """`nohup` and a shell's background jobs ignore signals, and children inherit that."""
    command = [
        "sh",
        "-c",
        f'trap "" {name}; exec "$@"',
        "sh",
        *lab.command(lab.function(f"#!/bin/sh\nkill -{name} $$\n")),
    ]
    done = subprocess.run(
        [*command, "--event", "-"], env=lab.environment(), input=b"{}", capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 128 + signal.Signals[f"SIG{name}"], done.stderr
