"""Which system calls are out of reach of a function? Those that Lambda refuses: no tracing, no namespaces, no mounts, no kernel.

One table, told in two ways: a program for the kernel's filter (our own sandboxes, bubblewrap) and a profile for podman and docker.
Sources: tracing and user namespaces, github.com/CRaC/example-lambda/issues/7 and aws/aws-lambda-base-images/issues/143; the rest is
what a process without capabilities is refused anyway and what Docker's default profile withholds.
"""

from __future__ import annotations

import json
import os
import struct
from functools import cache
from typing import Any, Final

from scar.errors import ScarError
from scar.local.sandbox.spec import Restrictions

# name → number on x86_64, number on aarch64 (None: there is none)
REFUSED: Final[dict[str, tuple[int, int | None]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
}
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; clone's arguments begin with its flags on both machines.
NEW_NAMESPACES: Final = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_CLONE: Final = (56, 220)
_CLONE3: Final = 435  # its flags lie in memory, where no filter can look: without it, libc takes clone
_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_…, column of the table
_X32: Final = 0x40000000

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _JUMP_IF_ANY, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def filter_of(restrictions: Restrictions) -> bytes:
    """The filter program for this machine; empty for none."""
    return lambda_filter(os.uname().machine) if restrictions == "lambda" else b""


@cache
def lambda_filter(machine: str) -> bytes:
    """The kernel's filter program: EPERM for what is refused and for every other machine's calls, ENOSYS for clone3."""
    if machine not in _MACHINES:
        raise ScarError(f"Lambda's restrictions are not known for {machine}", fix=f"Known are {', '.join(_MACHINES)}.")
    architecture, column = _MACHINES[machine]
    numbers = sorted(number for row in REFUSED.values() if (number := row[column]) is not None)
    # The kernel works out once which numbers are allowed whatever their arguments, and then runs no step of this for them.
    checks = [(_JUMP_IF_AT_LEAST, _X32)] if machine == "x86_64" else []
    checks += [(_JUMP_IF_EQUAL, number) for number in numbers]
    tail = [
        _step(_JUMP_IF_EQUAL, _CLONE3, 4, 0),
        _step(_JUMP_IF_EQUAL, _CLONE[column], 0, 2),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(_JUMP_IF_ANY, sum(NEW_NAMESPACES), 2, 0),
        _step(_ANSWER, _ALLOW),
        _step(_ANSWER, _ENOSYS),
        _step(_ANSWER, _EPERM),
    ]
    to_refusal = len(checks) + len(tail) - 1
    head = [
        _step(_LOAD, _MACHINE_AT),
        _step(_JUMP_IF_EQUAL, architecture, 0, to_refusal + 1),
        _step(_LOAD, _NUMBER_AT),
    ]
    refusals = [_step(code, value, to_refusal - index - 1) for index, (code, value) in enumerate(checks)]
    return b"".join([*head, *refusals, *tail])


@cache
def lambda_profile(machine: str) -> str:
    """The same as a seccomp profile of podman's and docker's, which end a program that makes another machine's calls."""
    names = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
    if machine not in names:
        raise ScarError(f"Lambda's restrictions are not known for {machine}", fix=f"Known are {', '.join(names)}.")
    refused: dict[str, Any] = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    rules = [{"names": sorted(REFUSED), **refused}, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    for bit in NEW_NAMESPACES:
        matched = {"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}
        rules.append({"names": ["clone"], "args": [matched], **refused})
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [names[machine]], "syscalls": rules})
