"""`traced_program.py SOCKET FILTER PROGRAM NAME ARGUMENTS…`: a program under a filter of system calls, whose listener is sent through SOCKET first.

For `system_calls`, which says what the filter is for. A program of its own: a filter can never be taken off again. Standard library only.
"""

import ctypes
import os
import socket
import struct
import sys
import threading
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SECCOMP, _SET_FILTER, _NEW_LISTENER = 317, 1, 8
_NO_NEW_PRIVILEGES = 38


def _install(program: bytes) -> int:
    kept = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(kept)))
    listener = int(_LIBC.syscall(_SECCOMP, _SET_FILTER, _NEW_LISTENER, header))
    if listener < 0:  # whoever is not root has to give up what set-user-id programs would give
        _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        listener = int(_LIBC.syscall(_SECCOMP, _SET_FILTER, _NEW_LISTENER, header))
    return listener


def main() -> None:
    descriptor, filter_, program, *command = sys.argv[1:]
    made, sent, listener = threading.Event(), threading.Event(), -1

    def send() -> None:
        """In a thread of its own, which the filter does not hold: nobody answers before the listener has arrived."""
        made.wait()
        with socket.socket(fileno=int(descriptor)) as there:
            if listener >= 0:
                socket.send_fds(there, [b"l"], [listener])
        sent.set()

    threading.Thread(target=send).start()
    listener = _install(bytes.fromhex(filter_))
    made.set()
    sent.wait()
    if listener < 0:
        os._exit(126)
    # What we were given, without what this Python has added where no locale is set. The listener is closed by exec.
    given = Path("/proc/self/environ").read_bytes().split(b"\0")
    variables = dict(item.split(b"=", 1) for item in given if b"=" in item)
    os.execve(program, command, variables)


if __name__ == "__main__":
    main()
