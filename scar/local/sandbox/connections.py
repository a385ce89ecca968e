"""Who is at the other end of a connection over this machine's loopback? Sandboxes share it, so an address says nothing.

The kernel knows the socket at the other end by its number (sock_diag(7)), and /proc which processes have it open. Both ends are of this
machine, so neither can be made up, and what is asked costs some hundredths of a millisecond, however many connections there are.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from scar.local.sandbox.watch import descendants

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ALL: Final = 0xFFFFFFFF  # states, and "whatever its cookie is"
_INODE_AT: Final = 16 + 4 + 48 + 16  # after a netlink header, in struct inet_diag_msg (linux/inet_diag.h)
_ANSWER_BYTES: Final = 8192


def other_end(connection: socket.socket) -> int | None:
    """The inode of the other end's socket, 0 when it has none any more, None where the kernel does not tell."""
    here, there = connection.getsockname(), connection.getpeername()
    try:
        if (
            _inode(here, there) != os.fstat(connection.fileno()).st_ino
        ):  # what is known must come out, else nothing is believed
            return None
        return _inode(there, here)
    except OSError:
        return None


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> int:
    """Of the TCP socket over IPv4 with these ends, 0 when there is none."""
    ends = struct.pack(">HH", local[1], remote[1])
    ends += b"".join(socket.inet_aton(address) + bytes(12) for address, _ in (local, remote))
    ends += struct.pack("=III", 0, _ALL, _ALL)
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL) + ends
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + wanted)
        answer = kernel.recv(_ANSWER_BYTES)
    if struct.unpack_from("=H", answer, 4) != (_SOCK_DIAG_BY_FAMILY,):
        return 0
    return int(struct.unpack_from("=I", answer, _INODE_AT)[0])


def is_open_below(pid: int, inode: int) -> bool | None:
    """Whether a process below `pid` has this socket open; None when one of them lets nobody look."""
    wanted, hidden = f"socket:[{inode}]", False
    for process in descendants(pid):
        try:
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(FileNotFoundError):
                    if str(descriptor.readlink()) == wanted:
                        return True
        except PermissionError:
            hidden = True
        except OSError:  # it has ended
            continue
    return None if hidden else False
