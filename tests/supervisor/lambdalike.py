"""`lambdalike.py TMP COMMAND…`: COMMAND as Lambda would let it live. No privilege can be gained; ptrace, mounts, chroot and new
namespaces are refused; and, when we are root and so can: user 993 without capabilities, everything read-only but TMP.

Started as a program of its own, so that the tests' process keeps its rights. Standard library only.
"""

import ctypes
import os
import struct
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_USER, _GROUP = 993, 990
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_NAMESPACES = 0x7E020080  # every CLONE_NEW…
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
# x86_64: ptrace, pivot_root, chroot, mount, umount2, unshare, setns
_REFUSED = (101, 155, 161, 165, 166, 272, 308)
_CLONE, _CLONE3 = 56, 435


def _step(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _filter() -> bytes:
    steps = [_step(_LOAD, 0, 0, 0)]
    for number in _REFUSED:
        steps += [_step(_EQUAL, 0, 1, number), _step(_RETURN, 0, 0, _ERRNO | _EPERM)]
    # The C library takes clone() when there is no clone3(), whose flags a filter could not see.
    steps += [_step(_EQUAL, 0, 1, _CLONE3), _step(_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    steps += [_step(_EQUAL, 0, 3, _CLONE), _step(_LOAD, 0, 0, 16), _step(_ANY_BIT, 0, 1, _NAMESPACES)]
    return b"".join([*steps, _step(_RETURN, 0, 0, _ERRNO | _EPERM), _step(_RETURN, 0, 0, _ALLOW)])


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _read_only_but(writable: bytes) -> None:
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(_LIBC.mount(writable, writable, None, _MS_BIND, None))
    _check(_LIBC.mount(b"none", b"/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None))


def main() -> None:
    writable, *command = sys.argv[1:]
    if os.geteuid() == 0:
        os.chown(writable, _USER, _GROUP)
        _read_only_but(os.fsencode(writable))
        os.setgroups([])
        os.setgid(_GROUP)
        os.setuid(_USER)
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    program = _filter()
    kept = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(kept)))
    _check(_LIBC.prctl(_PR_SET_SECCOMP, _FILTER, header, 0, 0))
    # Without what this Python itself has added where no locale is set.
    os.execve(command[0], command, {name: value for name, value in os.environ.items() if name != "LC_CTYPE"})


if __name__ == "__main__":
    main()
