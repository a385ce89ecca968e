"""Runner `process`: the user's process as a child of the agent."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor.errors import CannotStartError
from faassupervisor.leaving import LAMBDA_GRACE_S, Leave
from faassupervisor.log import Write
from faassupervisor.runners import Exit, Exited, Killed, OutOfTime, Setting, tree
from faassupervisor.runners.command import Command, as_named
from faassupervisor.runners.identity import Identity, give, to_become

KEPT_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 64 * 1024
_AFTER_EXIT_GRACE_S: Final = 0.5  # for background children that a script left behind
_WITHOUT_PIDFD_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Ground:
    """Environment, working directory and user of a process; `identity` is None when it stays who the agent is."""

    environment: Mapping[str, str]
    directory: Path
    identity: Identity | None


class Process:
    """See `faassupervisor.runners` for what a runner promises."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._write = setting.log.write
        named = setting.spec.image.working_directory
        # The image's WORKDIR; the record's private directory when the image names none or has lost it.
        self._directory = Path(named) if named and Path(named).is_dir() else setting.place.root

    def real(self, name: str) -> str | None:
        return as_named(name)

    def visible(self, script: Path) -> Path:
        return script

    def run(
        self,
        command: Command,
        *,
        environment: Mapping[str, str],
        time_s: Callable[[], float],
        grace_s: Callable[[], float],
        adopts_orphans: bool,
    ) -> Exit:
        ground = self.ground(environment)
        return run(
            command,
            environment=ground.environment,
            working_directory=ground.directory,
            write=self._write,
            time_s=time_s,
            grace_s=grace_s,
            adopts_orphans=adopts_orphans,
            identity=ground.identity,
        )

    def ground(self, environment: Mapping[str, str]) -> Ground:
        """What a process of this record stands on; its private place is the user's from now on."""
        spec = self._setting.spec
        identity = to_become(spec.image.user)
        if identity is not None:
            give(self._setting.place.root, identity)
            named = spec.environment.get("HOME") or spec.image.environment.get("HOME") or identity.home
            environment = {**environment, "HOME": named if identity.may_write(named) else "/tmp"}  # noqa: S108  # as in `environ`
        return Ground(environment, self._directory, identity)


def run(
    command: Command,
    *,
    environment: Mapping[str, str],
    working_directory: Path,
    write: Write,
    time_s: Callable[[], float],
    grace_s: Callable[[], float],
    adopts_orphans: bool,
    identity: Identity | None = None,
) -> Exit:
    """Run a command to its end, or until `time_s()` (seconds it may still run) is used up.

    Background children of a script that has ended get half a second, those of one that is out of time get `grace_s()`.
    With `identity` the process is that user's; only root can do it.
    """
    started = time.monotonic()
    process = start(command, Ground(environment, working_directory, identity))
    output = Output(write)
    assert process.stdout is not None
    with process.stdout as pipe:
        family = tree.Tree(process, complete=adopts_orphans)
        try:
            in_time = _watch(process, pipe.fileno(), output, time_s)
        except BaseException as error:  # the agent itself is asked to leave: nothing may stay behind
            family.stop(error.grace_s if isinstance(error, Leave) else LAMBDA_GRACE_S)
            _drain(pipe.fileno(), output)
            raise
        family.stop(_AFTER_EXIT_GRACE_S if in_time else grace_s())
        log = _drain(pipe.fileno(), output)
    if not in_time:
        return OutOfTime(time.monotonic() - started, log)
    code = process.returncode
    return Exited(code, log) if code >= 0 else Killed(-code, log)


def _drain(pipe: int, output: Output) -> str:
    """The last words, when nobody is left to write more."""
    os.set_blocking(pipe, False)
    while output.read(pipe):
        pass
    return output.finish()


def start(
    command: Command, ground: Ground, *, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[bytes]:
    """A process in a session of its own, its output in a pipe. Raises CannotStartError, with the exit code that a shell would give."""
    identity = ground.identity
    try:
        return subprocess.Popen(
            command.arguments,
            executable=command.program,
            env=ground.environment,
            cwd=ground.directory,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
            umask=0o022,
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=list(identity.groups) if identity else None,
        )
    except OSError as error:
        raise CannotStartError(
            _explain(command, error), exit_code=127 if error.errno == errno.ENOENT else 126
        ) from error
    except ValueError as error:
        raise CannotStartError(f"{command.program!a} cannot be started: {error}", exit_code=126) from error


def _explain(command: Command, error: OSError) -> str:
    name = ascii(command.program)
    match error.errno:
        case errno.E2BIG:
            return f"{name} cannot be started: arguments and environment are too long"
        case errno.ENOENT:
            return f"{name} cannot be started: it, its interpreter or its loader is not in the image"
        case errno.ENOEXEC:
            return f"{name} cannot be started: not a program for this machine (wrong architecture, or a script without '#!')"
        case _:
            return f"{name} cannot be started: {error.strerror}"


def _watch(process: subprocess.Popen[bytes], pipe: int, output: Output, time_s: Callable[[], float]) -> bool:
    """Forward output until the process ends; False when its time was over first."""
    with Ending(process) as ending:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        if ending.descriptor is not None:
            poll.register(ending.descriptor, select.POLLIN)
        while process.poll() is None:
            left = time_s()
            if left <= 0:
                return False
            ready = poll.poll(min(left, ending.patience_s) * 1000)
            if any(descriptor == pipe for descriptor, _ in ready) and not output.read(pipe):
                poll.unregister(pipe)  # it closed its output and goes on
    return True


class Ending:
    """Something to poll that tells a process's end: a pidfd, or on kernels without one a short patience."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.descriptor: int | None = None
        self.patience_s = _WITHOUT_PIDFD_S
        try:
            self.descriptor = os.pidfd_open(process.pid)
            self.patience_s = 3600.0
        except OSError:
            return

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class Output:
    """What a process writes: whole lines to the log at once, the last part kept. Work grows with the bytes, not with the lines."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._line = bytearray()  # begun, not ended
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._lost = False

    def read(self, descriptor: int) -> bool:
        """Take what is there; False at the end, or when a non-blocking descriptor has nothing."""
        try:
            chunk = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        self.take(chunk)
        return True

    def take(self, chunk: bytes) -> None:
        """The same with what another has read."""
        self._keep(chunk)
        end = chunk.rfind(b"\n") + 1
        if end:
            self._write(bytes(self._line) + chunk[:end])
            self._line = bytearray(chunk[end:])
        else:
            self._line += chunk
        if len(self._line) > _READ_BYTES:
            self._write(bytes(self._line))
            self._line.clear()

    def finish(self) -> str:
        """End an unfinished line in the log; answer the last part of everything, as text."""
        if self._line:
            self._write(bytes(self._line) + b"\n")
            self._line.clear()
        return b"".join(self._kept)[-KEPT_BYTES:].decode("utf-8", "replace")

    def _keep(self, chunk: bytes) -> None:
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        while self._kept_bytes - len(self._kept[0]) >= KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())
