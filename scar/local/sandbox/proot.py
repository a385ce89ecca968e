"""PRoot: another root by tracing every system call. No rights needed, slow, and no wall: what it runs is one of the user's processes."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.local.sandbox import probing
from scar.local.sandbox.loopback import LoopbackNetwork
from scar.local.sandbox.reach import may_switch_user
from scar.local.sandbox.seats import seated
from scar.local.sandbox.spec import Isolation, Network, SandboxSpec, Serve
from scar.local.sandbox.tree import Start, Tree, layer_path, new_name, start_tree
from scar.local.sandbox.view_files import missing_host_files

# PRoot before 5.3 does not translate these calls: programs would see this machine's files. Answered ENOSYS, libc uses older ones.
_TRANSLATED_SINCE: Final = (5, 3)
_NEW_CALLS: Final = {  # audit architecture; statx, openat2, faccessat2, fchmodat2
    "x86_64": (0xC000003E, (332, 437, 439, 452)),
    "aarch64": (0xC00000B7, (291, 437, 439, 452)),
}
_ALLOW, _ERRNO_ENOSYS = 0x7FFF0000, 0x00050000 | 38


class PRoot:
    """PRoot, by the path given or from PATH."""

    name = "proot"
    isolation = Isolation(
        files="the image by path only: a program that does not want to stay in it need not, and a read-only root is not enforced",
        processes="shared with this machine",
        network="shared with this machine",
        memory="watched 4 to 20 times a second",
        note="Lambda's refusal of system calls is missing: tracing is how this engine works; the private /tmp is as large as the disk, a death by signal is told as 255; slow where there are many system calls; without root, image files belong to the function's user; as root, the program is root where its folder is root's alone",
    )

    def __init__(self, scratch: Path, *, program: str | None = None) -> None:
        self._scratch, self._program = scratch, program
        self._filter: bytes | None = None

    def probe(self) -> str | None:
        try:
            program, call_filter = self._found()
        except ScarError as error:
            return error.what
        return probing.reason_against(partial(self._start, program=program, call_filter=call_filter), self._scratch)

    def start(self, spec: SandboxSpec) -> Tree:
        program, call_filter = self._found()
        return self._start(seated(spec), program=program, call_filter=call_filter)

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network:
        return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)

    def _found(self) -> tuple[str, bytes]:
        program = self._program or shutil.which("proot")
        if program is None:
            raise ScarError("proot is not on PATH", fix="Install it (`apt install proot`) or name one in SCAR_PROOT.")
        if self._filter is None:
            self._filter = b"" if proot_version(program) >= _TRANSLATED_SINCE else refuse_new_calls(os.uname().machine)
        return program, self._filter

    def _start(self, spec: SandboxSpec, *, program: str, call_filter: bytes) -> Tree:
        name = new_name()
        layer = layer_path(self._scratch, name)
        switches = may_switch_user(spec.uid, spec.rootfs, self._scratch)
        start = Start(
            mode="bare",
            argv=proot_argv(program, spec, layer, pretends=not switches),
            environment={**spec.environment, "PROOT_TMP_DIR": str(layer / "work")},
            working_directory="/",
            switch_user=switches,
            layer=layer,
            copied=not spec.read_only,
            seccomp=call_filter,
            tracer=True,
            depth=1,
        )
        return start_tree(spec, start, name=name)


def proot_version(program: str) -> tuple[int, int]:
    """What it says of itself; (0, 0) when that cannot be read, which counts as old."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, timeout=10, check=False, env={}).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScarError(f"{program} does not run: {error}") from error
    found = re.search(rb"v?(\d+)\.(\d+)\.\d+", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def proot_argv(program: str, spec: SandboxSpec, layer: Path, *, pretends: bool) -> tuple[str, ...]:
    """PRoot around the user's program: the image, or its copy when it may be written, and a private /tmp.

    `pretends`: the user that the program sees itself as is told by PRoot, because the process cannot become it.
    """
    root = str(spec.rootfs.resolve()) if spec.read_only else str(layer / "up")
    binds = [("/proc", "/proc"), ("/dev", "/dev")]
    if spec.read_only:
        binds.append((str(layer / "tmp"), "/tmp"))  # noqa: S108  (the sandbox's own)
    binds += [(str(path), str(path)) for path in missing_host_files(spec)]
    binds += [(str(bind.source.resolve(strict=True)), bind.target) for bind in spec.binds]
    if strange := next((source for source, target in binds if ":" in source + target), None):
        raise ScarError(f"proot cannot bind {strange}: its name has a colon")
    flags = [flag for source, target in binds for flag in ("-b", f"{source}:{target}")]
    identity = ("-i", f"{spec.uid}:{spec.gid}") if pretends else ()
    return (program, "-r", root, *flags, *identity, "-w", spec.working_directory, *spec.argv)


def refuse_new_calls(machine: str) -> bytes:
    """A seccomp program: ENOSYS for the calls that old PRoots do not know, everything else as it is."""
    if machine not in _NEW_CALLS:
        raise ScarError(f"PRoot before 5.3 is not supported on {machine}")
    architecture, calls = _NEW_CALLS[machine]

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    program = step(load, 4) + step(jump_if_equal, architecture, 0, len(calls) + 1) + step(load, 0)
    for index, call in enumerate(calls):
        program += step(jump_if_equal, call, len(calls) - index, 0)
    return program + step(answer, _ALLOW) + step(answer, _ERRNO_ENOSYS)
