"""A disk of a few MiB that only we see: a tmpfs in a mount namespace of its own, which an ordinary user may have too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.chaos.local_forks import ENVIRON, PATIENCE_S, Clients, free_port, listens

_HOLD = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo ready && exec cat'


class SmallDisk:
    """`folder` is where programs that are started by `run` see it; `here` is where this process does."""

    def __init__(self, folder: Path, size: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _HOLD, "sh", str(folder), size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.here = Path(f"/proc/{self._holder.pid}/root{folder}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()

    def argv(self, program: Sequence[str]) -> list[str]:
        inside = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={self._holder.pid}"]
        return [*inside, *program]

    def fill(self) -> None:
        """Until not a byte more goes in."""
        with (self.here / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size) == size:
                        pass

    def make_room(self) -> None:
        (self.here / "filler").unlink()


class OnSmallDisk:
    """A local AWS whose state lies there."""

    def __init__(self, disk: SmallDisk) -> None:
        self._disk = disk
        self.clients = Clients(free_port())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self) -> None:
        state, port = self._disk.folder / "state", str(self.clients.port)
        program = [sys.executable, "-m", "scar.local.daemon", "--state", str(state), "--port", port]
        self._process = process = subprocess.Popen(
            self._disk.argv(program), env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + PATIENCE_S
        while not listens(self._disk.here / "state", process.pid):
            assert process.stdout is not None
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None and self._process.stdout is not None
        os.kill(self._process.pid, number)
        code = self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        return code
