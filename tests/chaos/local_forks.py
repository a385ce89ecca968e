"""Daemons of the real program on any state folder, started in a fraction of a second, and clients for whichever runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config

ROOT = Path(__file__).parents[2]
ENVIRON = {
    **{
        name: os.environ[name]
        for name in ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "SCAR_CACHE")
        if name in os.environ
    },
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'faas-supervisor'}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SCAR_LOCAL_BATCH_SETTLE_S": "0",
}
PATIENCE_S = 60.0


def until(what: str, check: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """What `check` answers once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited {within_s} s for: {what}"
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Clients:
    """boto3's, for a daemon on one port; made once, since that is what takes time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._made = cache(self._make)

    def __call__(self, service: str) -> Any:
        return self._made(service)

    def _make(self, service: str) -> Any:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE_S, max_pool_connections=32)
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=config,
        )


def listens(folder: Path, process: int) -> bool:
    """Whether the daemon of that pid has said that it listens."""
    with suppress(OSError, ValueError):
        return bool(json.loads((folder / "daemon.json").read_text())["pid"] == process)
    return False


class Forks:
    """Makes daemons, one at a time on one port. They and it are gone after the `with`."""

    def __init__(self, environ: Mapping[str, str] = ENVIRON) -> None:
        self.clients = Clients(free_port())
        self._parent = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking_daemon.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environ),
            text=True,
        )
        self._daemon: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()

    def start(self, folder: Path, *more: str, open_files: int | None = None) -> int:
        """Returns when the daemon of `folder` answers; its pid. AssertionError with its last words when it ends instead."""
        code = self.try_start(folder, *more, open_files=open_files)
        assert code is None, f"the daemon of {folder} ended with {code}: {self.output(folder)[-4000:]}"
        assert self._daemon is not None
        return self._daemon

    def try_start(self, folder: Path, *more: str, open_files: int | None = None) -> int | None:
        """The same, but its exit code when it ends instead of listening; what it said is `output`."""
        self.kill()
        arguments = ["--state", str(folder), "--port", str(self.clients.port), *more]
        self._daemon = self._ask([arguments, open_files, str(_output_of(folder))])
        deadline = time.monotonic() + PATIENCE_S
        while not listens(folder, self._daemon):
            if _is_zombie(self._daemon):
                return self._reap()
            assert time.monotonic() < deadline, (
                f"the daemon of {folder} does not come up: {self.output(folder)[-4000:]}"
            )
            time.sleep(0.01)
        return None

    def output(self, folder: Path) -> str:
        """What daemons of this folder have written to their standard output and error, all together."""
        path = _output_of(folder)
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL, if one runs."""
        if self._daemon is not None:
            os.kill(self._daemon, signal.SIGKILL)
            self._reap()

    def stop(self) -> int:
        """As `scar local down` does; the exit code."""
        assert self._daemon is not None
        os.kill(self._daemon, signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        process, self._daemon = self._daemon, None
        return self._ask(process)

    def _ask(self, what: Any) -> int:
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(what) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


def _output_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.said")


def _is_zombie(process: int) -> bool:
    return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
