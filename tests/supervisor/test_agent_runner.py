"""How the user's process is made, what it finds, and how it ends: always whole, always with its own exit code."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faassupervisor.contract import ImageProcess, Spec
from faassupervisor.deadline import Deadline
from faassupervisor.environ import for_process
from faassupervisor.errors import CannotStartError
from faassupervisor.runners import Exited, Killed, OutOfTime, describe, exit_code
from faassupervisor.runners.command import find, of_image, of_script
from faassupervisor.runners.process import KEPT_BYTES, Output

SYSTEM = {"PATH": "/usr/bin:/bin"}


def output_of(answer):
    assert answer.error_type is None, answer.body
    return answer.document["runs"][0]["output"]


def direct(script):
    return {"script": base64.b64encode(script.encode()).decode()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- which program


@pytest.mark.parametrize(
    ("first_line", "expected"),
    [
        (b"#!/bin/sh\n", ("/bin/sh", "/bin/sh")),
        (b"#!/bin/sh -e\n", ("/bin/sh", "/bin/sh", "-e")),
        (b"#! /bin/sh -e -u \r\n", ("/bin/sh", "/bin/sh", "-e -u")),
        (b"#!/usr/bin/env sh\n", ("/usr/bin/sh", "sh")),
        (b"#!/usr/bin/env sh\r\n", ("/usr/bin/sh", "sh")),
        (b"#!/nowhere/env sh\n", ("/usr/bin/sh", "sh")),
        (b"#!/usr/bin/env -S sh -e 'a b'\n", ("/usr/bin/sh", "sh", "-e", "a b")),
        (b"echo no first line of that kind\n", ("/bin/sh", "/bin/sh")),
        (b"", ("/bin/sh", "/bin/sh")),
    ],
)
def test_the_first_line_chooses_the_interpreter(tmp_path, first_line, expected):
    script = tmp_path / "script"
    script.write_bytes(first_line + b"exit 0\n")
    command = of_script(script, ["x y"], SYSTEM, function="f")
    assert (command.program, *command.arguments) == (*expected, str(script), "x y")


@pytest.mark.parametrize(
    "first_line", [b"#!/no/such/thing\n", b"#!/usr/bin/env no-such-thing\n", b"#!\n", b"#!/usr/bin/env -S 'x\n"]
)
def test_a_missing_interpreter_is_127_and_named(tmp_path, first_line):
    script = tmp_path / "script"
    script.write_bytes(first_line)
    with pytest.raises(CannotStartError) as caught:
        of_script(script, [], SYSTEM, function="grayify")
    assert caught.value.exit_code == 127
    assert "grayify" in caught.value.message or "first line" in caught.value.message


def test_a_missing_interpreter_fails_the_invocation_with_127(lab):
    answer = lab.agent("#!/opt/conda/bin/python\n").invoke({})
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 127)
    assert (
        "asks for '/opt/conda/bin/python', which the image of function 'f' does not have"
        in answer.document["errorMessage"]
    )


def test_a_script_runs_under_the_interpreter_that_it_names(lab):
    agent = lab.agent(f"#!{sys.executable}\nimport sys; print(sys.version_info[0], sys.argv[1:])")
    assert output_of(agent.invoke({"cmd_args": ["a b", "$HOME", ""]})) == "3 ['a b', '$HOME', '']\n"


def test_a_script_in_the_event_takes_the_place_of_the_functions_own(lab):
    agent = lab.agent("echo own")
    assert output_of(agent.invoke(direct("echo brought"))) == "brought\n"
    assert output_of(agent.invoke({})) == "own\n"


def test_a_script_that_is_a_program_runs_as_one(lab):
    agent = lab.agent(Path("/bin/echo").read_bytes())
    assert output_of(agent.invoke({"cmd_args": ["hello"]})) == "hello\n"


def test_without_a_script_the_images_own_command_runs(lab):
    image = ImageProcess(entrypoint=("printf", "%s|"), command=("one", "two"), environment={"PATH": "/usr/bin:/bin"})
    agent = lab.agent(image=image)
    assert output_of(agent.invoke({})) == "one|two|"
    assert output_of(agent.invoke({"cmd_args": ["three *"]})) == "three *|"


def test_with_a_script_the_images_entrypoint_does_not_run(lab):
    assert output_of(lab.agent("echo script", image=ImageProcess(entrypoint=("false",))).invoke({})) == "script\n"


def test_neither_script_nor_command_is_a_clear_failure(lab):
    answer = lab.agent().invoke({})
    assert answer.error_type == "ScriptFailed"
    assert "has no script, and its image has neither ENTRYPOINT nor CMD" in answer.document["errorMessage"]


def test_a_program_is_looked_up_on_the_processs_own_path(tmp_path):
    program = tmp_path / "tool"
    program.write_text("")
    program.chmod(0o755)
    assert find("tool", {"PATH": f"/nowhere:{tmp_path}"}) == str(program)
    assert find("tool", {"PATH": "/nowhere"}) is None
    assert of_image(ImageProcess(command=("tool",)), None, {"PATH": str(tmp_path)}, function="f").arguments == ("tool",)


def test_a_file_that_is_no_program_is_126(tmp_path):
    (tmp_path / "tool").write_text("")
    (tmp_path / "tool").chmod(0o644)
    with pytest.raises(CannotStartError) as caught:
        find(str(tmp_path / "tool"), {})
    assert caught.value.exit_code == 126


# -- what it finds


def environment_of(answer):
    return json.loads(output_of(answer))


DUMP = f"#!{sys.executable}\nimport json, os\nprint(json.dumps(dict(os.environ)))"


def test_the_environment_is_the_images_the_functions_and_the_records_and_nothing_of_the_agents(lab, bucket):
    image = ImageProcess(
        environment={"FROM_IMAGE": "1", "LD_LIBRARY_PATH": "/image", "PATH": "/image/bin:/usr/bin:/bin"}
    )
    agent = lab.agent(
        DUMP,
        image=image,
        environment={"FROM_LAMBDA": "2", "LD_PRELOAD": "", "STORAGE_OBJECT_KEY": "old"},
    )
    got = environment_of(agent.invoke({"Records": [bucket.put("in/a b")]}, request_id="r-9"))
    assert {"FROM_IMAGE", "FROM_LAMBDA", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_ENDPOINT_URL"} <= got.keys()
    assert got["LD_LIBRARY_PATH"] == "/image"
    assert got["STORAGE_OBJECT_KEY"] == "in/a b"
    assert (got["REQUEST_ID"], got["AWS_LAMBDA_REQUEST_ID"], got["SCAR_FUNCTION"], got["SCAR_BUCKET"]) == (
        "r-9",
        "r-9",
        "f",
        bucket.name,
    )
    assert got["EVENT_TIME"] == "2026-11-21T12:00:00.000Z"
    assert json.loads(got["EVENT"])["Records"][0]["s3"]["bucket"]["name"] == bucket.name
    private = ("LAMBDA_", "PYTHON", "_HANDLER", "AWS_LAMBDA_RUNTIME_API", "LD_PRELOAD")
    assert [name for name in got if name.startswith(private)] == []


def test_what_the_spec_says_wins_and_its_quotes_stay(lab):
    agent = lab.function(DUMP, environment={"A": 'it\'s "$HOME" \\n\n', "PATH": "/usr/bin:/bin"})
    running = lab.start(agent, environment={"A": "lambda"})
    assert environment_of(running.invoke({}))["A"] == 'it\'s "$HOME" \\n\n'


def test_without_an_object_there_are_no_names_of_one(lab, bucket):
    agent = lab.agent(DUMP)
    assert "INPUT_FILE_PATH" in environment_of(agent.invoke({"Records": [bucket.put("in/a")]}))
    names = environment_of(agent.invoke({})).keys()
    assert not names & {"INPUT_FILE_PATH", "STORAGE_OBJECT_KEY", "EVENT_TIME", "SCAR_BUCKET", "SCAR_SEQUENCER"}


def test_an_event_of_any_size_is_in_a_file_and_only_a_short_one_in_the_environment(lab):
    """EV16."""
    agent = lab.agent(
        'printf "%s " "${EVENT+set}"; wc -c < "$SCAR_EVENT_FILE"; cmp "$SCAR_EVENT_FILE" "$INPUT_FILE_PATH"'
    )
    for size in (30 * 1024, 99 * 1024, 128 * 1024 + 1, 256 * 1024, 1024 * 1024 - 1):
        event = json.dumps({"data": "x" * (size - 12)}).encode()
        expected = "set " if size < 100 * 1024 else " "
        assert output_of(agent.invoke(event)) == f"{expected}{len(event)}\n"


def test_the_event_reaches_the_script_unchanged(lab):
    agent = lab.agent('printf %s "$EVENT"')
    event = b'{"a":  "b  *  \\\\ \\n $HOME `id` \' \\u00e9","\xc3\xa9":[1e400, 1.10]}'
    assert output_of(agent.invoke(event)).encode() == event


def test_a_script_cannot_read_the_agents_environment(lab):
    if os.geteuid() == 0:
        script = "cat /proc/$PPID/status | grep -c ^Pid"  # root may read everything: only that the parent is the agent is asked
    else:
        script = "cat /proc/$PPID/environ 2>/dev/null | wc -c | tr 0 1"
    assert output_of(lab.agent(script).invoke({})).strip() == "1"


def test_the_working_directory_is_the_images_or_the_private_one(lab):
    assert output_of(lab.agent("pwd", image=ImageProcess(working_directory="/usr")).invoke({})) == "/usr\n"
    for missing in ("", "/no/such/place"):
        agent = lab.agent("pwd", image=ImageProcess(working_directory=missing))
        assert output_of(agent.invoke({})).startswith(f"{lab.temporary}/scar-run-")


def test_standard_input_is_empty_and_no_file_of_the_agents_is_open(lab):
    assert output_of(lab.agent("cat; ls /proc/self/fd | wc -l").invoke({})) == "4\n"  # 0, 1, 2 and ls's own


# -- what it writes


def test_output_is_seen_in_the_log_while_the_process_runs(lab):
    agent = lab.agent("echo first; sleep 20")
    pending = agent.api.post({}, timeout_s=30)
    end = time.monotonic() + 10
    while "first\n" not in agent.log and time.monotonic() < end:
        time.sleep(0.02)
    assert "first\n" in agent.log
    assert pending.answered.empty()


def test_undecodable_bytes_and_the_two_streams_are_kept_in_order(lab):
    agent = lab.agent(r"printf 'a\377b\n'; echo err >&2; printf 'no end'")
    assert output_of(agent.invoke({})) == "a\ufffdb\nerr\nno end"
    agent.says("no end\n")


def test_long_output_costs_time_by_its_bytes_and_keeps_its_last_part(lab):
    agent = lab.agent("seq 1 80000; echo last")
    started = time.monotonic()
    output = output_of(agent.invoke({}))
    assert time.monotonic() - started < 5
    assert len(output) == KEPT_BYTES
    assert output.endswith("79999\n80000\nlast\n")
    agent.says("\nlast\n")
    assert agent.log.count("\n") >= 80_001


def test_eighty_thousand_lines_take_less_than_half_a_second():
    read, write = os.pipe()
    written = []
    output = Output(written.append)
    text = b"".join(b"line %d\n" % number for number in range(80_000))
    started = time.process_time()
    for start in range(0, len(text), 16384):
        os.write(write, text[start : start + 16384])
        assert output.read(read)
    assert output.finish() == text[-KEPT_BYTES:].decode()
    assert time.process_time() - started < 0.5
    assert b"".join(written) == text
    os.close(read)
    os.close(write)


# -- how it ends


def test_an_exit_code_is_the_callers_with_the_last_lines(lab):
    answer = lab.agent("seq 1 50; exit 3").invoke({})
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 3)
    assert answer.document["stackTrace"] == [str(number) for number in range(31, 51)]
    assert answer.document["runs"][0]["exit_code"] == 3


def test_a_signal_is_told_as_the_shell_tells_it(lab):
    answer = lab.agent("kill -SEGV $$").invoke({})
    assert answer.document["exit_code"] == 128 + signal.SIGSEGV
    assert answer.document["errorMessage"] == "script was killed by SIGSEGV"


def test_a_script_that_is_out_of_time_is_stopped_with_its_whole_tree_and_publishes_nothing(lab, bucket, out, tmp_path):
    pids = tmp_path / "pids"
    script = f"""
    trap '' TERM
    echo half > "$TMP_OUTPUT_DIR/half-written.bin"
    setsid sh -c 'trap "" TERM; echo $$ >> {pids}; while :; do sleep 1; done' &
    (setsid sh -c 'echo $$ >> {pids}; sleep 100' &)
    echo $$ >> {pids}
    while :; do sleep 1; done
    """
    agent = lab.agent(script, outputs=out)
    started = time.monotonic()
    answer = agent.invoke({}, timeout_s=4)
    assert time.monotonic() - started < 4.5
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptTimedOut", 124)
    found = pids.read_text().split()
    assert len(found) == 3
    assert not [pid for pid in found if alive(pid)]
    assert bucket.keys() == []
    assert list(agent.temporary.iterdir()) == []


def test_a_process_that_obeys_sigterm_can_say_good_bye(lab):
    agent = lab.agent("trap 'echo good-bye; exit 0' TERM; while :; do sleep 0.1; done")
    answer = agent.invoke({}, timeout_s=3)
    assert answer.error_type == "ScriptTimedOut"
    assert "good-bye" in answer.document["runs"][0]["output"]


def test_what_a_script_left_running_is_stopped_before_its_output_is_published(lab, bucket, out, tmp_path):
    """KEY12."""
    agent = lab.agent(
        f"""
        setsid sh -c 'echo $$ > {tmp_path}/pid; while :; do echo more >> "$TMP_OUTPUT_DIR/log"; sleep 0.01; done' &
        while [ ! -s "$TMP_OUTPUT_DIR/log" ]; do sleep 0.01; done
        """,
        outputs=out,
    )
    assert agent.invoke({}).error_type is None
    assert not alive((tmp_path / "pid").read_text().strip())
    assert bucket.get("out/log").startswith(b"more\n")


def test_sigterm_stops_the_script_and_ends_the_agent_at_once(lab, tmp_path):
    agent = lab.agent(f"setsid sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/pid; sleep 100' & sleep 100")
    agent.api.post({})
    end = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.02)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.ends_within(3) == 0
    assert not alive((tmp_path / "pid").read_text().strip())
    assert list(agent.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("total_s", "threshold_s", "process_s"),
    [(900, 10, 890), (60, 10, 50), (40, 10, 30), (20, 10, 15), (3, 10, 2.25), (3, 0, 3), (-1, 10, 0)],
)
def test_what_is_kept_back_is_the_threshold_but_never_more_than_a_quarter(total_s, threshold_s, process_s):
    now = [1000.0]
    deadline = Deadline(total_s, threshold_s, clock=lambda: now[0])
    assert deadline.for_process_s() == process_s
    assert deadline.grace_s() <= 2
    now[0] += 10_000
    assert (deadline.for_process_s(), deadline.for_agent_s()) == (0, 0)


@pytest.mark.parametrize(
    ("total_s", "threshold_s", "process_s"), [(900, 300, 600), (6, 3, 3), (4, 3.5, 0.5), (8, 10, 6), (-1, 10, 0)]
)
def test_where_a_run_may_go_on_the_threshold_is_kept_whole_if_it_leaves_any_time(total_s, threshold_s, process_s):
    """T1-02, TM18: the clock on the wall is not asked again."""
    now = [1000.0]
    deadline = Deadline(total_s, threshold_s, exact=True, clock=lambda: now[0])
    assert deadline.for_process_s() == process_s


def test_endings_as_numbers_and_sentences():
    assert exit_code(Exited(7, "")) == 7
    assert exit_code(OutOfTime(1.0, "")) == 124
    assert exit_code(Killed(9, "")) == 137
    assert "out of memory" in describe(Killed(9, ""))


# -- without adoption of orphans


def test_a_python_without_ctypes_still_stops_what_stays_in_the_tree_or_its_session(tmp_path):
    program = f"""
import sys, time
sys.modules["ctypes"] = None
from pathlib import Path
from faassupervisor.runners import process, tree
from faassupervisor.runners.command import Command
assert tree.become_keeper() is False
ended = process.run(Command("/bin/sh", ("sh", "-c", "(sleep 50 & echo $! > {tmp_path}/pid) ; sleep 50")),
    environment={{"PATH": "/usr/bin:/bin"}}, working_directory=Path("/"), write=lambda text: None,
    time_s=lambda end=time.monotonic() + 0.5: end - time.monotonic(), grace_s=lambda: 0.1, adopts_orphans=False)
print(type(ended).__name__)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "faas-supervisor")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=20, check=True)
    assert done.stdout == b"OutOfTime\n"
    time.sleep(0.05)
    assert not alive((tmp_path / "pid").read_text().strip())


def test_a_place_on_the_path_that_may_not_be_read_is_passed_over(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert find("sh", {"PATH": f"{closed}:/usr/bin:/bin"}) in {"/usr/bin/sh", "/bin/sh"}


def test_the_images_path_wins_over_that_of_whatever_started_the_agent_and_the_specs_over_both():
    image = ImageProcess(environment={"PATH": "/image", "A": "image"})
    found = for_process({"PATH": "/engine", "A": "lambda"}, Spec("f", image=image), {})
    assert (found["PATH"], found["A"]) == ("/image", "lambda")
    assert for_process({"PATH": "/engine"}, Spec("f"), {})["PATH"] == "/engine"
    assert (
        for_process({"PATH": "/engine"}, Spec("f", image=image, environment={"PATH": "/spec"}), {})["PATH"] == "/spec"
    )
    assert for_process({}, Spec("f"), {})["PATH"].endswith("/bin")
