"""A Lambda leg that is killed is handed over: nothing of it is left that could ask for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.batch.test_hand_over import done
from tests.e2e.batch.world import World
from tests.e2e.conftest import until
from tests.e2e.test_main_job import processes_with


def agents_of(marker: str) -> list[int]:
    """The agents above every process that has the marker in its command line."""
    found = [
        int(place.parent.name) for place in Path("/proc").glob("[0-9]*/cmdline") if marker.encode() in _read(place)
    ]
    return [
        one
        for pid in found
        for one in _line_to_init(pid)
        if b"\0/opt/scar/app\0" in _read(Path(f"/proc/{one}/cmdline"))
    ]


def _line_to_init(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        status = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        pid = int(status[1]) if status else 0


def _read(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:
        return b""


def test_a_lambda_leg_that_is_killed_in_the_middle_is_handed_over(world: World) -> None:
    """TM9, TM15: by the on-failure path; the script does not run in Lambda again."""
    marker = f"scar-killed-{time.time_ns()}"
    key = world.put("both", "killed", marker_lambda=marker, sleep_lambda=60)
    until("the script", lambda: agents_of(marker))
    for agent in agents_of(marker):
        os.kill(agent, signal.SIGKILL)
    done(world, "killed")
    assert processes_with(marker) == []
    assert world.lines("both").count("killed.json began in lambda") == 1
    assert len(world.jobs("both", key)) == 1


def test_a_synchronous_leg_that_is_killed_is_handed_over_by_the_command(world: World) -> None:
    """TM15: a synchronous invocation has no destinations, so `scar run` sends what Lambda would have sent."""
    marker = f"scar-killed-{time.time_ns()}"
    key = world.hidden("both", "killed-run", marker_lambda=marker, sleep_lambda=60)
    (world.folder / "killed-run.json").write_bytes(world.event("both", key))
    command = [sys.executable, "-m", "scar", "--local", "run", "-n", "both", "-e", "killed-run.json", "--wait"]
    running = subprocess.Popen(
        command, cwd=world.folder, env=world.local.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until("the script", lambda: agents_of(marker))
    for agent in agents_of(marker):
        os.kill(agent, signal.SIGKILL)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0, said.decode()
    done(world, "killed-run")


def test_a_lambda_leg_that_took_too_much_memory_is_handed_over(world: World) -> None:
    """TM15: Lambda kills the whole sandbox; the job has its own memory."""
    key = world.put("both", "eater", eat_mib_lambda=700)
    done(world, "eater")
    assert world.lines("both").count("eater.json began in lambda") == 1
    assert len(world.jobs("both", key)) == 1
