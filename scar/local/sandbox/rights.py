"""Limits, rights and the last step of a sandboxed program: nothing it is given here can be taken back by it."""

# pathlib, signal, json and typing stay out of the warden's modules: together they would double the time that a start takes.

from __future__ import annotations

import ctypes
import errno
import os
import resource

from scar.local.sandbox.kernel import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    SetUpError,
    checked,
    libc,
    prctl,
    unblock_signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from scar.local.sandbox.kernel import Request


def set_limits(request: Request) -> None:
    limits = [(resource.RLIMIT_NOFILE, request["max_open_files"]), (resource.RLIMIT_CORE, 0)]
    # Counted per user of the machine before Linux 5.14, and always without a namespace of its own: then a cgroup has to do it.
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if request["user_namespace"] and release >= (5, 14):
        limits.append((resource.RLIMIT_NPROC, request["max_processes"]))
    for kind, wanted in limits:
        hard = resource.getrlimit(kind)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (bound, bound))


def drop_privileges(request: Request) -> None:
    """No way back to any right of root's but those to be kept: bounding set, identities, capabilities, and nothing regained by exec."""
    kept: list[int] = request["capabilities"]
    capability = 0
    while capability in kept or prctl(PR_CAPBSET_DROP, capability) == 0:
        capability += 1
    if request["switch_user"]:
        os.setgroups([])
        os.setresgid(request["gid"], request["gid"], request["gid"])
        os.setresuid(request["uid"], request["uid"], request["uid"])
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    mask = sum(1 << number for number in kept)  # all below 32; effective, permitted, inheritable, and the same above
    left = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    checked(libc.capset(header, left), "drop capabilities")
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")


def install_filter(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit length, padding, a pointer; a ctypes.Structure would take longer to define than to use
    described = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(code))
    checked(
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0), "install the system call filter"
    )


def execute(request: Request, set_up: int) -> NoReturn:
    """Become the program. What its shell would say of a program that is missing (127) or cannot be run (126) goes to its output."""
    os.setsid()  # a `kill 0` inside must not reach the warden
    try:
        os.chdir(request["working_directory"])
    except OSError as error:
        raise SetUpError(f"the working directory {request['working_directory']}: {error.strerror}") from error
    unblock_signals()
    for number in range(1, 32):  # an ignored signal would stay ignored; Python itself ignores SIGPIPE
        libc.signal(number, 0)
    os.umask(0o022)
    os.write(set_up, b"ok")
    failure = replace_program(request["argv"], request["environment"])
    os.write(2, f"{request['argv'][0]}: {failure.strerror}\n".encode(errors="surrogateescape"))
    os._exit(127 if failure.errno in {errno.ENOENT, errno.ENOTDIR} else 126)


def replace_program(argv: list[str], environment: dict[str, str]) -> OSError:
    """Exec, found on the environment's own PATH; answers only when it failed. (`os.execvpe` imports, and nothing is left to import.)"""
    found = [argv[0]]
    if "/" not in argv[0]:
        found = [f"{folder}/{argv[0]}" for folder in environment.get("PATH", "/bin:/usr/bin").split(":")]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in found:
        try:
            os.execve(path, argv, environment)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                failure = error
    return failure
