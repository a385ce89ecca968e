"""Starting a warden (`nsinit.py`) and holding its tree: the one implementation of `Sandbox`, whatever the engine."""

from __future__ import annotations

import marshal
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

from faassupervisor.layers.unpack import remove_tree
from scar.errors import ScarError
from scar.limits import MIB
from scar.local.sandbox.bounds import Groups
from scar.local.sandbox.connections import is_open_below, other_end
from scar.local.sandbox.spec import CONTAINER_CAPABILITIES, Ended, SandboxSpec

_LAYERS: Final = "layers"
FILTER_FILE: Final = "<filter>"  # in argv: stands for the number of the descriptor that Start.filter_file is read from
KILL_S: Final = 60.0
START_S: Final = 60.0
_BOUNDED_INTERVAL_MS: Final = 50
_PEAK_INTERVAL_MS: Final = 200
# The packages above the warden's modules are put in place empty: what they import themselves is not the warden's business.
_PROGRAM: Final = """
import sys
for name, folder in zip(("scar", "scar.local", "scar.local.sandbox"), {folders!r}):
    sys.modules[name] = package = type(sys)(name)
    package.__path__ = [folder]
from scar.local.sandbox import {module}
{module}.main(*{arguments!r})
"""
_FOLDERS: Final = tuple(str(folder) for folder in reversed(Path(__file__).resolve().parents[:3]))


def helper_argv(module: str, *arguments: int | str) -> list[str]:
    """The command line that calls the `main` of one of the warden's modules in a process of its own, without a site."""
    program = _PROGRAM.format(folders=_FOLDERS, module=module, arguments=arguments)
    return [sys.executable, "-I", "-S", "-c", program]


@dataclass(frozen=True, slots=True)
class Start:
    """How a warden is to make the tree of a spec; the engines differ in this and in nothing else.

    `argv` and `environment` are the engine's: its program around the user's. `layer` is a folder that the warden makes and removes,
    `copied` that the image is copied into it. `undo` are commands the warden runs at the end. `drop` says whether it gives up rights
    before the engine's program runs, `limited` whether limits are set on that program, `depth` how many of the engine's processes
    stand above the user's, `outer` what those are called that do not count as the user's memory, `tracer` that the engine's program
    ends only after all processes below it. `watch` is off where the engine bounds memory itself: then either a kill always means
    that bound (`killed_is_oom`), or `oom_question` is a command that answers `true`. `ask` is a command that asks the user's program to end, for
    engines whose own program cannot be trusted to pass a signal on. `seccomp` is a filter of system calls for the tree;
    `filter_file` is one that the engine's program installs itself, from the descriptor whose number replaces FILTER_FILE in `argv`.
    `elsewhere`: the user's processes may be no descendants of the warden, but of an engine's service.
    `network` are descriptors of the namespaces in which the tree is to be made: a user namespace, if there is one, and a network's.
    """

    mode: Literal["namespaces", "bare"]
    argv: tuple[str, ...]
    environment: dict[str, str]
    working_directory: str
    user_namespace: bool = False
    switch_user: bool = False
    drop: bool = True
    limited: bool = True
    watch: bool = True
    outer: tuple[str, ...] = ()
    tracer: bool = False
    depth: int = 0
    elsewhere: bool = False
    killed_is_oom: bool = False
    oom_question: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    layer: Path | None = None
    copied: bool = False
    seccomp: bytes = b""
    filter_file: bytes = b""
    undo: tuple[tuple[str, ...], ...] = ()
    groups: Groups | None = None
    binds: tuple[tuple[str, str, bool], ...] = field(default=())
    network: tuple[int, ...] = ()


def new_name() -> str:
    """A name that says whose it is: sweeping asks whether that process still lives."""
    return f"scar-local-{os.getpid()}-{secrets.token_hex(6)}"


def layer_path(scratch: Path, name: str) -> Path:
    """Where a tree's own writable folder will be; only the folder above it is made here."""
    layers = scratch / _LAYERS
    layers.mkdir(parents=True, exist_ok=True)
    return layers.resolve() / name


def sweep_layers(scratch: Path) -> None:
    """Remove the folders of starters that are gone: a warden that was killed itself could not."""
    for folder in (scratch / _LAYERS).glob("scar-local-*"):
        starter = folder.name.split("-")[2]
        if starter.isdigit() and not Path("/proc", starter).exists():
            remove_tree(folder)


def _request(spec: SandboxSpec, start: Start, name: str, argv: list[str]) -> dict[str, Any]:
    limits = start.groups.for_tree(name, spec) if start.groups else None
    return {
        "mode": start.mode,
        "user_namespace": start.user_namespace,
        "switch_user": start.switch_user,
        "drop": start.drop,
        "rootfs": str(spec.rootfs.resolve()),
        "read_only": spec.read_only,
        "argv": argv,
        "held": list(spec.held),
        "network": list(start.network),
        "environment": dict(start.environment),
        "working_directory": start.working_directory,
        "uid": spec.uid,
        "gid": spec.gid,
        "binds": list(start.binds),
        "capabilities": sorted(CONTAINER_CAPABILITIES.values()) if _keeps_capabilities(spec, start) else [],
        "tmp_mib": spec.tmp_mib,
        "tmpfs": [(one.target, one.size_mib) for one in spec.tmpfs],
        # Lambda has none: what a run leaves there is to go with what it leaves in /tmp.
        "shm_mib": None if spec.read_only and spec.restrictions == "lambda" else spec.shm_mib,
        "hostname": spec.hostname,
        "max_open_files": spec.max_open_files,
        "max_processes": spec.max_processes,
        "layer": None if start.layer is None else str(start.layer),
        "copied": start.copied,
        "seccomp": start.seccomp,
        "undo": [list(command) for command in start.undo],
        "limited": start.limited,
        "outer": list(start.outer),
        "tracer": start.tracer,
        "depth": start.depth,
        "killed_is_oom": start.killed_is_oom,
        "oom_question": list(start.oom_question),
        "ask": list(start.ask),
        "memory_bytes": None if spec.memory_mib is None or not start.watch else spec.memory_mib * MIB,
        "interval_ms": _PEAK_INTERVAL_MS if spec.memory_mib is None else _BOUNDED_INTERVAL_MS,
        "cgroups": [] if limits is None else [(folder, list(settings)) for folder, settings in limits.folders],
        "usage_file": "" if limits is None else limits.usage_file,
        "usage_key": "" if limits is None else limits.usage_key,
        "oom_file": "" if limits is None else limits.oom_file,
        "oom_key": "" if limits is None else limits.oom_key,
    }


def _keeps_capabilities(spec: SandboxSpec, start: Start) -> bool:
    return spec.capabilities and spec.uid == 0 and start.mode == "namespaces"


class SetUpError(ScarError):
    """The tree could not be made; `what` is the reason as the warden or its child told it."""


class Tree:
    """A warden and the tree below it. See `spec.Sandbox` for the promises; the warden keeps them even when this process is killed."""

    def __init__(
        self,
        warden: subprocess.Popen[bytes],
        output: IO[bytes],
        result: int,
        shown: int,
        usage: tuple[str, str],
        *,
        elsewhere: bool,
    ) -> None:
        self.output = output
        self._elsewhere = elsewhere
        self._warden, self._result, self._shown, self._usage = warden, result, shown, usage
        self._lock = threading.Lock()
        self._ended: Ended | None = None
        self._peak_bytes = 0

    def wait(self, timeout_s: float | None = None) -> Ended | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._ended is not None:
                    return self._ended
                result = self._result
                poll = select.poll()
                poll.register(result, select.POLLIN)
                if poll.poll(0):
                    return self._take_result()
            left = 0.5 if deadline is None else min(0.5, deadline - time.monotonic())
            if left <= 0:
                return None
            poll.poll(left * 1000)

    def _take_result(self) -> Ended:
        """The warden has closed its end: it wrote how the tree ended, or was killed itself."""
        with os.fdopen(self._result, "rb") as pipe:
            text = pipe.read()
        self._warden.wait()
        if self._warden.stdin is not None:
            self._warden.stdin.close()
        self._peak_bytes = int.from_bytes(os.pread(self._shown, 8, 0), sys.byteorder)
        os.close(self._shown)
        if not text:
            self._ended = Ended(exit_code=137)
            return self._ended
        told = marshal.loads(text)  # noqa: S302  (written by our own child, the same interpreter)
        code = 137 if told["code"] is None or told["out_of_memory"] else told["code"]
        self._peak_bytes = max(self._peak_bytes, told["peak"])
        self._ended = Ended(exit_code=code, out_of_memory=told["out_of_memory"])
        return self._ended

    def terminate(self) -> None:
        if self._ended is None:
            self._warden.terminate()

    def kill(self) -> None:
        with self._lock:
            if self._ended is None and self._warden.stdin is not None:
                self._warden.stdin.close()
        if self.wait(KILL_S) is None:
            raise ScarError(
                f"a sandbox could not be ended within {KILL_S:.0f} s",
                fix="A process in it may hang in the kernel; see `ps -l`.",
            )

    def is_behind(self, connection: socket.socket) -> bool | None:
        inode = None if self._elsewhere else other_end(connection)
        return None if inode is None else inode != 0 and is_open_below(self._warden.pid, inode)

    def peak_memory_mib(self) -> int:
        with self._lock:
            if self._ended is None:
                shown = int.from_bytes(os.pread(self._shown, 8, 0), sys.byteorder)
                self._peak_bytes = max(self._peak_bytes, shown, _used_bytes(*self._usage))
        return -(-self._peak_bytes // MIB)


def _used_bytes(path: str, key: str) -> int:
    """What a control group says is used now: short runs may end between two looks of the warden."""
    if not path:
        return 0
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0  # the tree ended meanwhile; the warden's own last look counts
    return next((int(line.removeprefix(key)) for line in lines if line.startswith(key)), 0)


def start_tree(spec: SandboxSpec, start: Start, *, name: str | None = None) -> Tree:
    """Start a warden and wait until the program runs. Raises SetUpError with the reason when it cannot; nothing is left then."""
    with ExitStack() as failed, ExitStack() as handed_over:
        argv, inherited = list(start.argv), list(spec.held)
        if start.filter_file:
            call_filter = os.memfd_create("scar-filter", os.MFD_CLOEXEC)
            handed_over.callback(os.close, call_filter)
            os.pwrite(call_filter, start.filter_file, 0)
            argv = [str(call_filter) if part == FILTER_FILE else part for part in argv]
            inherited.append(call_filter)
        request = _request(spec, start, name or new_name(), argv)
        encoded = marshal.dumps(request)
        output_read, output_write = os.pipe()
        output = failed.enter_context(os.fdopen(output_read, "rb"))
        handed_over.callback(os.close, output_write)
        set_up_read, set_up_write = os.pipe()
        set_up = failed.enter_context(os.fdopen(set_up_read, "rb"))
        handed_over.callback(os.close, set_up_write)
        result_read, result_write = os.pipe()
        failed.callback(os.close, result_read)
        handed_over.callback(os.close, result_write)
        shown = os.memfd_create("scar-peak", os.MFD_CLOEXEC)
        failed.callback(os.close, shown)
        warden = subprocess.Popen(
            helper_argv("nsinit", set_up_write, result_write, shown),
            stdin=subprocess.PIPE,
            stdout=output_write,
            stderr=output_write,
            pass_fds=(set_up_write, result_write, shown, *inherited, *start.network),
            env={},
            cwd="/",
            bufsize=0,
        )
        failed.callback(warden.wait)
        assert warden.stdin is not None
        failed.callback(warden.stdin.close)
        handed_over.close()
        _send(warden.stdin, len(encoded).to_bytes(4, "little") + encoded)
        told = _read_until_end(set_up.fileno(), START_S)
        set_up.close()
        if told != b"ok":
            raise SetUpError(told.decode(errors="replace") or "the sandbox's helper program died at its start")
        failed.pop_all()
    usage = (request["usage_file"], request["usage_key"])
    return Tree(warden, output, result_read, shown, usage, elsewhere=start.elsewhere)


def _send(pipe: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[pipe.write(view) :]
    except BrokenPipeError as error:
        raise SetUpError("the sandbox's helper program died at its start") from error


def _read_until_end(descriptor: int, timeout_s: float) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline, text = time.monotonic() + timeout_s, b""
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return text
            text += chunk
    return b"the sandbox was not ready in time"
