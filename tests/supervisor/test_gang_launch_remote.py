"""Remote commands: the program that stands in for ssh, the main node's desk, and a worker's shells, on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faassupervisor import leaving
from faassupervisor.log import Log
from faassupervisor.nodes import rsh
from faassupervisor.nodes.channel import Gone, Message
from faassupervisor.nodes.remote import Commands
from faassupervisor.nodes.remote_desk import Desk
from faassupervisor.runners.process import Ground


class Pair:
    """Node 0, where callers are, and node 1, which answers; node 2 is gone."""

    def __init__(self, folder: Path, users: frozenset[int]) -> None:
        self.folder = folder
        self.lines: list[bytes] = []
        self.out_bytes = 0
        ground = Ground({"PATH": os.environ["PATH"], "WHERE": "node 1"}, folder, None)
        self.commands = Commands(ground, self.lines.append, self._hand, adopts_orphans=False)
        log = Log(self.lines.append)
        names = {"192.0.2.1": 0, "localhost": 0, "192.0.2.2": 1, "1": 1, "192.0.2.3": 2}
        self.socket = folder / "rsh.socket"
        self.desk = Desk(self.socket, {1: self.commands.take, 2: _gone}, names, 0, log, users=users)

    def start(self, *words: str, **more: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-B", rsh.__file__, str(self.socket), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": {"WHERE": "here"}, **more}
        )  # type: ignore[call-overload, no-any-return]

    def run(self, *words: str, given: bytes = b"", **more: object) -> tuple[int, bytes, bytes]:
        with self.start(*words, **more) as process:
            try:
                out, err = process.communicate(given, timeout=10)
            finally:
                process.kill()
        return process.returncode, out, err

    def _hand(self, message: Message) -> None:
        if message.kind == "out":
            self.out_bytes += len(message.body)
        self.desk.hand(message)


def _gone(message: Message) -> None:
    raise Gone("closed its connection")


@pytest.fixture
def default_signals() -> Iterator[None]:
    """As the agent makes them at its front door; these tests may have been started with `nohup`."""
    before = signal.getsignal(signal.SIGHUP)
    leaving.ignore_nothing()
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def pair(tmp_path: Path, default_signals: None) -> Iterator[Pair]:
    folder = tmp_path / ("a path that is longer than the address of a socket may be " * 2)
    folder.mkdir()
    pair = Pair(folder, frozenset({os.geteuid()}))
    yield pair
    pair.commands.stop(1)
    pair.desk.close()


def until(check, within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_ended(number: int) -> bool:
    try:
        return b") Z" in Path(f"/proc/{number}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    ("line", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("no-such-program", 127)]
)
def test_the_commands_exit_code_comes_back(pair, line, code):
    """T1-21."""
    assert pair.run("1", line)[0] == code


def test_streams_come_back_apart_and_are_in_that_nodes_own_log(pair):
    assert pair.run("192.0.2.2", "pwd; echo $WHERE; echo oops >&2") == (
        0,
        f"{pair.folder}\nnode 1\n".encode(),
        b"oops\n",
    )
    assert b"node 1\n" in b"".join(pair.lines) and b"oops\n" in b"".join(pair.lines)


def test_arguments_are_joined_by_blanks_for_the_shell_there_as_ssh_does(pair):
    """Open MPI calls `AGENT host  orted … -mca ess "env"`, Hydra `AGENT -x host "/path/proxy" …`."""
    code, out, _ = pair.run("-x", "-l", "me", "-oX=y", "me@1", 'printf "<%s>"', "a", '"b  c"', "$WHERE", "'$WHERE'")
    assert (code, out) == (0, b"<a><b  c><node><1><$WHERE>")


@pytest.mark.parametrize(
    ("words", "host", "command", "no_input"),
    [
        (["h", "c"], "h", "c", False),
        (["-n", "h", "c"], "h", "c", True),
        (["-xqT", "-p", "22", "h", "-l", "u", "c", "-x"], "h", "c -x", False),
        (["-p22", "u@h", "--", "-c"], "h", "-c", False),
        (["-lu", "-nq", "h", "a b", "c"], "h", "a b c", True),
    ],
)
def test_options_of_ssh_are_passed_over(words, host, command, no_input):
    assert rsh.parsed(words) == (host, command, no_input)


@pytest.mark.parametrize("words", [[], ["-l", "x"], ["h"], ["h", "x" * 70000]])
def test_what_is_no_command_is_refused(words):
    with pytest.raises(rsh.UnusableError):
        rsh.parsed(words)


def test_a_megabyte_goes_there_and_comes_back(pair):
    given = os.urandom(1 << 20)
    assert pair.run("1", "cat", given=given) == (0, given, b"")


def test_input_that_nobody_reads_holds_nothing_up(pair):
    assert pair.run("1", "true", given=bytes(1 << 20))[0] == 0


def test_a_caller_that_does_not_read_holds_back_the_program(pair):
    """Memory does not grow: no more than a window is under way."""
    with pair.start("1", "head -c 4000000 /dev/zero") as process:
        until(lambda: pair.out_bytes >= rsh.WINDOW_BYTES)
        time.sleep(0.2)
        assert pair.out_bytes <= rsh.WINDOW_BYTES + 128 * 1024  # and what the pipe to the caller's reader holds
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, len(out)) == (0, 4000000)


def test_signals_are_passed_on(pair):
    with pair.start("1", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.02; done") as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert (process.stdout.read(), process.wait(10)) == (b"caught\n", 3)


def test_a_command_whose_caller_is_killed_is_hung_up_on(pair):
    with pair.start("1", "echo $$; exec sleep 60") as process:
        number = int(process.stdout.readline())
        process.kill()
    until(lambda: has_ended(number))


def test_a_command_whose_caller_is_killed_with_answers_unread_is_hung_up_on(pair):
    """Its connection is reset then, not closed."""
    with pair.start("1", "echo $$; exec cat /dev/zero") as process:
        number = int(process.stdout.readline())
        until(lambda: pair.out_bytes >= rsh.WINDOW_BYTES)
        process.kill()
    until(lambda: has_ended(number))


def test_a_background_process_does_not_hold_up_the_end_and_lives_on(pair):
    """Open MPI's helper detaches itself."""
    started = time.monotonic()
    code, out, _ = pair.run("1", "sleep 60 & echo $!")
    assert code == 0 and time.monotonic() - started < 10
    assert Path(f"/proc/{int(out)}").exists()
    pair.commands.stop(0.5)
    until(lambda: not Path(f"/proc/{int(out)}/exe").exists())


def test_a_command_for_this_node_becomes_the_caller_itself(pair):
    with pair.start("192.0.2.1", "echo $$ $WHERE; cat; exit 5") as process:
        out, _ = process.communicate(b"input", timeout=10)
    assert (process.returncode, out) == (5, f"{process.pid} here\ninput".encode())


@pytest.mark.parametrize(
    ("host", "says"),
    [("host.invalid", b"no node of this job is called 'host.invalid'"), ("192.0.2.3", b"node 2 is gone")],
)
def test_a_node_that_cannot_be_reached_is_255_with_the_reason(pair, host, says):
    code, out, err = pair.run(host, "true", env={"PATH": "/nowhere"})  # nor is there an ssh
    assert (code, out) == (255, b"") and says in err


def test_a_host_that_is_no_node_is_left_to_the_images_own_ssh(pair, tmp_path):
    """Scripts that bring their own ssh keep working. Without one the reason is told (above)."""
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    with pair.start("-x", "me@elsewhere.invalid", "a", "b c", env={"PATH": f"{tmp_path}:/bin"}) as process:
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, b"-x me@elsewhere.invalid a b c\n")


def test_a_node_that_goes_away_ends_its_commands_with_255(pair):
    with pair.start("1", "echo ready; exec sleep 60") as process:
        assert process.stdout.readline() == b"ready\n"
        pair.desk.lost(1)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 255 and b"node 1 is gone" in err


def test_only_the_scripts_user_is_served(tmp_path):
    pair = Pair(tmp_path, frozenset({12345}))
    assert pair.run("1", "touch there")[0] == 255
    assert not (tmp_path / "there").exists() and b"not the script's user" in b"".join(pair.lines)
    assert pair.socket.stat().st_mode & 0o777 == 0o600
    pair.desk.close()
