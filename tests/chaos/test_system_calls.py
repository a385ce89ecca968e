"""The sweeps' own tool: a call is counted whoever makes it, and a kill or an error is where it was asked for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from tests.support.system_calls import Traced, fail, kill_at, let

SCRIPT = "echo a > a; mv a b; (echo c > c); rm b; echo end"
THREADS = """
import threading, os
def write(name):
    with open(name, "w") as file: file.write(name)
threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def shell(script: str, folder: Path, **more: object) -> Traced:
    command = ["/bin/sh", "-c", script]
    return Traced(command, env=dict(os.environ), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **more)  # type: ignore[arg-type]


def output(traced: Traced) -> bytes:
    assert traced.process.stdout is not None
    with traced.process.stdout as pipe:
        return pipe.read()


def test_what_a_program_and_its_children_change_is_seen_in_order(tmp_path: Path) -> None:
    with shell(SCRIPT, tmp_path, decide=let) as traced:
        assert output(traced) == b"end\n"
    seen = [(call.name, call.target.replace(str(tmp_path), "")) for call in traced.made]
    changes = [call for call in seen if call[0] not in {"clone", "vfork", "execve"}]
    assert changes == [
        ("openat", "/a"), ("write", "/a"), ("renameat2", "/a -> /b"), ("openat", "/c"), ("write", "/c"), ("unlinkat", "/b"),
    ]  # fmt: skip
    assert [call.number for call in traced.made] == list(range(1, len(seen) + 1))


def test_a_kill_is_before_its_call_and_takes_everybody(tmp_path: Path) -> None:
    with shell(SCRIPT, tmp_path, decide=let) as traced:
        output(traced)
    rename = next(call.number for call in traced.made if call.name == "renameat2")
    with shell(SCRIPT, tmp_path, decide=kill_at(rename)) as traced:
        assert output(traced) == b""  # whoever holds the pipe is gone
        assert traced.process.wait() == -9
    assert traced.killed is not None and traced.killed.name == "renameat2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]  # c of the first run


def test_threads_are_counted_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", THREADS]
    with Traced(command, env=dict(os.environ), cwd=tmp_path, decide=let) as traced:
        assert traced.process.wait() == 0
    written = [call for call in traced.made if call.name == "write" and call.target.startswith(str(tmp_path))]
    assert (
        len(written) == 3
        and len({call.thread for call in written}) == 3
        and len({call.process for call in written}) == 1
    )


def test_a_call_that_fails_says_the_error_and_does_nothing(tmp_path: Path) -> None:
    full = fail(errno.ENOSPC, at=2, where=lambda call: call.name == "openat")
    with shell("echo a > a; echo b > b; echo c > c", tmp_path, decide=full) as traced:
        output(traced)
    assert [Path(call.target).name for call in traced.failed] == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_nothing_is_counted_before_it_is_asked_for(tmp_path: Path) -> None:
    with shell("echo a > a; read word; echo b > b", tmp_path, stdin=subprocess.PIPE) as traced:
        while not (tmp_path / "a").exists() or not (tmp_path / "a").read_bytes():
            assert traced.process.poll() is None
        traced.watch()
        assert traced.process.stdin is not None
        with traced.process.stdin as pipe:
            pipe.write(b"on\n")
        output(traced)
    assert [(call.name, Path(call.target).name) for call in traced.made] == [("openat", "b"), ("write", "b")]
