"""A function is refused what Lambda refuses: tracing, namespaces, mounts, the kernel; and what programs need still works."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT, ENGINES, Runner

from scar.errors import ScarError
from scar.local.sandbox import Engine
from scar.local.sandbox.proot import PRoot
from scar.local.sandbox.restrictions import NEW_NAMESPACES, REFUSED, lambda_filter, lambda_profile

FILTERED = [name for name in ENGINES if name != "proot"]
filtered = pytest.mark.parametrize("runner", FILTERED, indirect=True)
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
COLUMN = MACHINES.get(os.uname().machine, (0, 0))[1]
CLONE, CLONE3, GETPID = (56, 220), 435, (39, 172)
ALLOWED, EPERM, ENOSYS = "allowed", errno.EPERM, errno.ENOSYS
CALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    ctypes.set_errno(0)
    given = [ctypes.c_long(value) for value in (number, *arguments)]
    return 0 if libc.syscall(*given) >= 0 else ctypes.get_errno()
"""


def python(runner: Runner, program: str, **changes: object) -> tuple[int, list[str]]:
    """The system's Python, which every engine's root has in its /usr."""
    argv = ("/usr/bin/python3", "-I", "-c", CALL + program)
    code, said = runner.run("", argv=argv, **{"restrictions": "lambda", **changes})
    return code, said.split()


def answer(machine: str, number: int, *, architecture: int | None = None, flags: int = 0) -> object:
    """What the filter says, by doing what the kernel does with it."""
    data = struct.pack("<IIQQ", number, architecture or MACHINES[machine][0], 0, flags)
    program = list(struct.iter_unpack("HBBI", lambda_filter(machine)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return ALLOWED if value == 0x7FFF0000 else value & 0xFFFF


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_the_table_says_and_nothing_else(machine: str) -> None:
    column = MACHINES[machine][1]
    refused = {row[column] for row in REFUSED.values()} - {None}
    for number in range(600):
        expected = EPERM if number in refused else ENOSYS if number == CLONE3 else ALLOWED
        assert answer(machine, number) == expected, number


@pytest.mark.parametrize("machine", MACHINES)
def test_a_clone_is_refused_for_each_kind_of_namespace_and_allowed_for_threads_and_forks(machine: str) -> None:
    clone = CLONE[MACHINES[machine][1]]
    assert [answer(machine, clone, flags=bit | 17) for bit in NEW_NAMESPACES] == [EPERM] * 7
    threads, forks = 0x003D0F00, 0x01200011
    assert (answer(machine, clone, flags=threads), answer(machine, clone, flags=forks)) == (ALLOWED, ALLOWED)


def test_calls_of_another_machine_and_of_x32_are_refused() -> None:
    i386, arm = 0x40000003, 0x40000028
    assert [answer("x86_64", 20, architecture=other) for other in (i386, MACHINES["aarch64"][0])] == [EPERM] * 2
    assert answer("aarch64", 20, architecture=arm) == EPERM
    assert answer("x86_64", 0x40000000 | 39) == EPERM


def test_the_profile_for_podman_and_docker_names_the_same_calls() -> None:
    with pytest.raises(ScarError, match="riscv64"):
        lambda_filter("riscv64")
    with pytest.raises(ScarError, match="riscv64"):
        lambda_profile("riscv64")
    profile = lambda_profile("aarch64")
    assert '"SCMP_ARCH_AARCH64"' in profile
    assert all(f'"{name}"' in profile for name in (*REFUSED, "clone", "clone3"))


@filtered
def test_a_function_that_tries_every_refused_call_is_told_that_it_may_not(runner: Runner) -> None:
    calls = {name: row[COLUMN] for name, row in REFUSED.items() if row[COLUMN] is not None}
    program = f"for name, number in {calls!r}.items(): print(name, call(number, -1, -1, -1, -1, -1))"
    code, said = python(runner, program)
    told = dict(zip(said[::2], said[1::2], strict=True))
    # An engine's own C library may not know the youngest calls by name; without rights they answer otherwise, but never well.
    young = {"mount_setattr", "quotactl_fd", "pidfd_getfd"}
    assert code == 0
    assert {name for name, number in told.items() if number != str(errno.EPERM)} <= young
    assert "0" not in told.values()
    assert set(told) == set(calls)


@filtered
def test_tracing_namespaces_and_a_new_root_fail_where_they_worked_without_the_restrictions(runner: Runner) -> None:
    ptrace, unshare = REFUSED["ptrace"][COLUMN], REFUSED["unshare"][COLUMN]
    program = f"print(call({ptrace}, 0), call({unshare}, 0x10000000), call({CLONE[COLUMN]}, 0x10000011), call({CLONE3}, 0, 0))"
    assert python(runner, program) == (0, ["1", "1", "1", str(errno.ENOSYS)])
    assert python(runner, f"print(call({ptrace}, 0))", restrictions="none") == (0, ["0"])


@filtered
def test_threads_processes_pipes_and_pools_work_as_ever(runner: Runner) -> None:
    program = """
import subprocess, threading
from concurrent.futures import ProcessPoolExecutor
threads = [threading.Thread(target=print, args=(number,)) for number in range(3)]
[(thread.start(), thread.join()) for thread in threads]
print(subprocess.run("echo a | cat", shell=True, capture_output=True).stdout.decode().strip())
if os.fork() == 0:
    os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), subprocess.run(["true"], start_new_session=True).returncode)
with ProcessPoolExecutor(2) as pool:
    print(sum(pool.map(abs, range(-3, 0))))
"""
    assert python(runner, program) == (0, ["0", "1", "2", "a", "3", "0", "6"])


@pytest.mark.parametrize("runner", [name for name in ENGINES if name in {"root", "user"}], indirect=True)
def test_the_first_process_of_the_sandbox_is_restricted_too(runner: Runner) -> None:
    """A program of the same user may be able to write into its memory."""
    code, said = runner.run("grep ^Seccomp: /proc/1/status /proc/self/status", restrictions="lambda")
    assert (code, said.split()[1::2]) == (0, ["2", "2"])


def test_proot_says_that_it_cannot(scratch: Path) -> None:
    assert "tracing is how this engine works" in PRoot(scratch).isolation.note


def test_descriptors_that_are_held_stay_open_as_long_as_the_tree_and_are_not_seen_in_it(
    engines: Callable[[str], Engine], root: Path
) -> None:
    runner = Runner(engines("root" if AS_ROOT else "user"), root)
    reading, writing = os.pipe()
    try:
        sandbox = runner.start("ls /proc/self/fd | wc -w; exec sleep 30", held=(writing,))
        os.close(writing)
        os.set_blocking(reading, False)
        assert sandbox.output.readline() == b"4\n"
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        sandbox.kill()
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)
        for started in runner.started:
            started.kill()
            started.output.close()


def test_the_restrictions_cost_next_to_nothing_at_the_start(engines: Callable[[str], Engine], root: Path) -> None:
    runner = Runner(engines("root" if AS_ROOT else "user"), root)

    taken: dict[str, list[float]] = {"none": [], "lambda": []}
    try:
        # By turns, so that what else the machine does meets both; the least of each is what it costs, and a busy machine shows that late.
        for turn in range(120):
            for restrictions, seconds in taken.items():
                begun = time.perf_counter()
                assert runner.run("exit 0", restrictions=restrictions)[0] == 0
                seconds.append(time.perf_counter() - begun)
            without, with_them = min(taken["none"]), min(taken["lambda"])
            if turn >= 11 and with_them < without * 1.5 + 0.005:
                break
        assert with_them < without * 1.5 + 0.005, taken
    finally:
        for started in runner.started:
            started.output.close()
