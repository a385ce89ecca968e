"""The system calls that Python does not have, for the warden and its children."""

# pathlib, signal, json and typing stay out of the warden's modules: together they would double the time that a start takes.

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Request = dict[str, Any]

SIGKILL, SIGTERM, SIGCHLD, SIGSTOP = 9, 15, 17, 19
PR_SET_DUMPABLE, CLONE_NEWNET = 4, 0x40000000
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER = (
    0x20000,
    0x20000000,
    0x8000000,
    0x4000000,
    0x10000000,
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x40000, 0x80000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
SECCOMP_MODE_FILTER = 2
CLONE_AND_PIVOT_ROOT = {"x86_64": (56, 155), "aarch64": (220, 41)}  # system call numbers

# PyDLL keeps the interpreter lock through the call, which a raw clone needs: the child must find it held by itself.
libc = ctypes.PyDLL(None, use_errno=True)


class SetUpError(Exception):
    """The tree could not be made; the text goes to the starter."""


def checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise SetUpError(f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return int(libc.prctl(option, *padded))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    result = libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    checked(result, f"mount {kind or source} on {target}")


def signal_set(*numbers: int) -> ctypes.Array[ctypes.c_char]:
    signals = ctypes.create_string_buffer(128)
    libc.sigemptyset(signals)
    for number in numbers:
        libc.sigaddset(signals, number)
    return signals


def unblock_signals() -> None:
    libc.sigprocmask(2, signal_set(), None)


def signal_descriptor() -> int:
    """SIGCHLD and SIGTERM as something to read. Blocked signals reach even pid 1, which ignores those it has no handler for."""
    signals = signal_set(SIGCHLD, SIGTERM)
    libc.sigprocmask(0, signals, None)
    return checked(libc.signalfd(-1, signals, os.O_CLOEXEC | os.O_NONBLOCK), "signalfd")
