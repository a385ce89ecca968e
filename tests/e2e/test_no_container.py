"""Where the kernel lets us make no container of any kind: the demo still runs, and says at what price; nothing else falls silently."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Local

# audit architecture; mount, pivot_root, chroot, unshare, ptrace, and the newer mount calls (open_tree … fsmount)
FORBIDDEN = {"x86_64": (0xC000003E, (165, 155, 161, 272, 101, 428, 429, 430, 432))}
LAUNCHER = """
import ctypes, os, sys
program = bytes.fromhex(sys.argv[1])
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
text = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(program) // 8, ctypes.addressof(text)))) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def forbidding() -> str:
    """A seccomp program as hex: EPERM for every way into a container."""
    machine = os.uname().machine
    if machine not in FORBIDDEN:
        pytest.skip(f"the system calls of {machine} are not listed here")
    architecture, calls = FORBIDDEN[machine]

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    program = step(0x20, 4) + step(0x15, architecture, 0, len(calls) + 1) + step(0x20, 0)
    for index, call in enumerate(calls):
        program += step(0x15, call, len(calls) - index, 0)
    return (program + step(0x06, 0x7FFF0000) + step(0x06, 0x00050001)).hex()


def scar(local: Local, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(["/usr/bin", "/bin"])
    argv = [sys.executable, "-c", LAUNCHER, forbidding(), sys.executable, "-m", "scar", *words]
    environ = {**local.environ, "PATH": path}
    return subprocess.run(argv, cwd=local.folder, env=environ, capture_output=True, text=True, timeout=180, check=False)


def test_the_demo_runs_without_isolation_and_says_so_in_one_line(own_local: Local) -> None:
    done = scar(own_local, "local", "demo")
    assert done.returncode == 0, done.stderr
    assert len((own_local.folder / "scar-demo" / "text" / "cat.txt").read_text().splitlines()) == 25
    warnings = [line for line in done.stderr.splitlines() if "WITHOUT isolation" in line]
    assert len(warnings) == 1
    assert own_local.status["engine"]["name"] == "host"


def test_any_other_command_refuses_with_the_reason_of_every_rung(own_local: Local) -> None:
    assert scar(own_local, "local", "up").returncode == 0
    own_local.function("alone", "#!/usr/bin/env python3\nprint('hello')\n")
    done = own_local.scar("run", "-n", "alone")
    assert done.code not in {0, 2}
    assert "namespaces" in done.err
    assert "proot" in done.err
    assert "hello" not in done.out
    shown = own_local.must("local", "status").out
    assert "No container can be made here" in shown
    assert Path(own_local.state).is_dir()
