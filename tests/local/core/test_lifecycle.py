"""Started once however many ask, found again, stopped after saving, never fooled by stale files."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_daemon import RECORDING_DAEMON, Running

from scar.errors import ConflictError, ScarError
from scar.local import lifecycle
from scar.local.state import State, is_locked

ENSURE = "import sys; from pathlib import Path; from scar.local.lifecycle import ensure_up; print(ensure_up(Path(sys.argv[1])).url)"


@pytest.fixture
def brought_down(folder: Path):
    """The folder; whatever daemon runs on it at the end is stopped."""
    yield folder
    if folder.exists():
        lifecycle.reset(folder)


def test_the_command_line_needs_neither_moto_nor_botocore():
    code = "import sys, scar.local.lifecycle; sys.exit(any(m in sys.modules for m in ('moto', 'botocore', 'boto3', 'flask')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_up_status_down_and_up_again_on_the_same_port(brought_down: Path):
    told: list[str] = []
    started = time.monotonic()
    first = lifecycle.ensure_up(brought_down, tell=told.append)
    assert time.monotonic() - started < 5
    assert told
    assert lifecycle.ensure_up(brought_down, tell=told.append) == first
    assert len(told) == 1
    found = lifecycle.status(brought_down)
    assert found is not None
    assert found.endpoint == first
    assert (found.buckets, found.objects) == (0, 0)
    assert found.resident_mib > 20
    assert found.engine["asked"] == "auto"
    assert lifecycle.down(brought_down)
    assert lifecycle.status(brought_down) is None
    assert not lifecycle.down(brought_down)
    assert lifecycle.ensure_up(brought_down).port == first.port
    assert any("listening" in line for line in lifecycle.log_lines(brought_down, 50))


def test_a_daemon_of_another_version_is_ended_and_started_anew(brought_down: Path):
    first = lifecycle.ensure_up(brought_down)
    address = State(brought_down).address_file
    address.write_text(address.read_text().replace(first.version, "4.3.1"))
    told: list[str] = []
    second = lifecycle.ensure_up(brought_down, tell=told.append)
    assert second.pid != first.pid
    assert "4.3.1" in told[0]


def test_a_daemon_whose_state_was_removed_by_hand_ends(tmp_path: Path):
    folder = tmp_path / "state"
    pid = lifecycle.ensure_up(folder).pid
    while not ((found := lifecycle.status(folder)) and found.engine.keys() & {"name", "refused"}):
        time.sleep(0.05)  # while it tries out sandboxes it is slow to end
    folder.rename(tmp_path / "elsewhere")  # at once: the daemon may still be writing into it
    deadline = time.monotonic() + 30
    while (Path("/proc") / str(pid) / "stat").exists():
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # ended; this process started it and has not waited for it
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_four_processes_that_ask_at_once_get_one_daemon(brought_down: Path):
    """LO6."""

    def ask(_: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", ENSURE, str(brought_down)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    lines = lifecycle.log_lines(brought_down, 100)
    assert sum("listening on" in line for line in lines) == 1


def test_a_second_daemon_on_the_same_state_says_so(daemon: Running):
    """LO6."""
    done = subprocess.run(
        [sys.executable, str(RECORDING_DAEMON), "--state", str(daemon.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "another local AWS is running on this state" in done.stderr


def test_a_stale_address_with_a_reused_pid_is_not_believed(brought_down: Path):
    """LO6."""
    State(brought_down).prepare()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        address = {"pid": sleeper.pid, "port": 9, "version": "0", "started": 0.0}
        (brought_down / "daemon.json").write_text(json.dumps(address))
        assert lifecycle.status(brought_down) is None
        assert not lifecycle.down(brought_down)
        assert lifecycle.ensure_up(brought_down).pid != sleeper.pid
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_daemon_that_cannot_start_tells_why(brought_down: Path):
    State(brought_down).prepare()
    services = brought_down / "services"
    services.mkdir()
    (services / "iam.snapshot").write_text("")
    with pytest.raises(ScarError) as failed:
        lifecycle.ensure_up(brought_down)
    assert "iam.snapshot" in str(failed.value)
    assert "scar local reset" in str(failed.value)
    assert (services / "iam.snapshot").read_text() == ""


def test_a_taken_port_is_an_error_when_it_was_asked_for_and_avoided_when_it_was_not(brought_down: Path):
    """LO6."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScarError, match=f"Port {port} cannot be used"):
            lifecycle.ensure_up(brought_down, port=port)
        (brought_down / "port").write_text(f"{port}\n")
        assert lifecycle.ensure_up(brought_down).port != port


def test_reset_removes_our_state_and_nothing_else(brought_down: Path, tmp_path: Path):
    lifecycle.ensure_up(brought_down)
    lifecycle.reset(brought_down)
    assert not brought_down.exists()
    lifecycle.reset(brought_down)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(ConflictError):
        lifecycle.reset(precious)
    with pytest.raises(ConflictError):
        lifecycle.ensure_up(precious)
    assert (precious / "thesis.txt").read_text() == "years"


def test_the_state_is_private(brought_down: Path):
    lifecycle.ensure_up(brought_down)
    assert brought_down.stat().st_mode & 0o777 == 0o700
    for path in brought_down.rglob("*"):
        if (
            path.is_file()
            and not path.is_symlink()
            and path.parent.name in ("state", "services", "s3", "objects", "logs")
        ):
            assert path.stat().st_mode & 0o077 == 0 or path.parent == brought_down, path
    assert (brought_down / "daemon.json").stat().st_mode & 0o777 == 0o600


def test_it_listens_on_loopback_only(daemon: Running):
    """LO11"""
    assert daemon.process is not None
    listening = set()
    inodes = {str(fd.readlink()) for fd in Path(f"/proc/{daemon.process.pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{daemon.process.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add(fields[1].split(":")[0])
    assert listening == {"0100007F"}


def test_sigterm_ends_it_cleanly(daemon: Running):
    assert daemon.stop() == 0
    assert not (daemon.folder / "daemon.json").exists()
    assert [row["call"] for row in map(json.loads, (daemon.folder / "recorded.jsonl").read_text().splitlines())] == [
        "install",
        "start",
        "stop",
    ]


def test_sigterm_ends_it_whichever_of_its_threads_the_kernel_gives_it_to(brought_down: Path):
    endpoint = lifecycle.ensure_up(brought_down)
    threads = sorted(int(each.name) for each in Path(f"/proc/{endpoint.pid}/task").iterdir())
    assert threads[0] == endpoint.pid and len(threads) > 1
    assert ctypes.CDLL(None).tgkill(endpoint.pid, threads[1], signal.SIGTERM) == 0
    deadline = time.monotonic() + 30
    while is_locked(State(brought_down)):
        assert time.monotonic() < deadline, "the daemon does not hear of it"
        time.sleep(0.01)
    assert not (brought_down / "daemon.json").exists()


def test_a_killed_daemon_is_replaced_at_once(brought_down: Path):
    first = lifecycle.ensure_up(brought_down)
    os.kill(first.pid, signal.SIGKILL)
    while is_locked(State(brought_down)):  # the kernel takes a moment
        time.sleep(0.005)
    second = lifecycle.ensure_up(brought_down)
    assert second.pid != first.pid
    assert second.port == first.port


def test_of_many_that_were_started_at_once_none_comes_back_after_the_winner_is_stopped(brought_down: Path):
    with ThreadPoolExecutor(4) as pool:
        pids = {endpoint.pid for endpoint in pool.map(lambda _: lifecycle.ensure_up(brought_down), range(4))}
    assert len(pids) == 1
    assert lifecycle.down(brought_down)
    time.sleep(1.2)  # longer than a loser waits for the lock
    assert not is_locked(State(brought_down))
