"""A node's own files for launchers, in a record's workspace: the host files, and the program that they call in place of ssh."""

from __future__ import annotations

import fcntl
import shlex
import socket
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from faassupervisor import contract, environ
from faassupervisor.nodes import mpi
from faassupervisor.workspace import Workspace

SOCKET: Final = "rsh.socket"
_HERE: Final = Path(__file__).absolute()
_CLIENT: Final = _HERE.with_name(f"rsh{_HERE.suffix}")  # in an image all modules are compiled
_SIOCGIFADDR: Final = 0x8915  # netdevice(7); the address is at bytes 20 to 23 of struct ifreq
_IFREQ_BYTES: Final = 40
_ISOLATED: Final = ("-I", "-S", "-B")


def write(place: Workspace, hosts: Sequence[mpi.Host], index: int, own: Collection[str]) -> dict[str, str]:
    """Make them; answers the variables of node `index` for the user's processes."""
    files = mpi.Files(
        hosts=str(place.agent / "hosts"),
        open_mpi=str(place.agent / "hosts.open-mpi"),
        hydra=str(place.agent / "hosts.hydra"),
        remote_shell=str(place.agent / "rsh"),
    )
    Path(files.hosts).write_text(mpi.host_file(hosts))
    Path(files.open_mpi).write_text(mpi.open_mpi_file(hosts))
    Path(files.hydra).write_text(mpi.hydra_file(hosts))
    Path(files.remote_shell).write_text(remote_shell(place.agent / SOCKET))
    Path(files.remote_shell).chmod(0o755)
    address = next(host.address for host in hosts if host.index == index)
    said = mpi.settings(hosts, files, index, own, interface=interface_of(address))
    return {**said, contract.INSTANCE_IP: address}


def interface_of(address: str) -> str | None:
    """The name of the network interface with this IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, name.encode().ljust(_IFREQ_BYTES, b"\0"))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def remote_shell(desk: Path) -> str:
    """A shell script that becomes `rsh.py` in the agent's own Python: the kernel gives a `#!` line one argument only."""
    given = Path("/proc/self/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    words = [*interpreter(given, len(sys.argv) - 1), *_ISOLATED, str(_CLIENT), str(desk)]
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def interpreter(command_line: Sequence[str], arguments: int) -> list[str]:
    """The words that start the agent's Python with its loader: all before the program, which has so many arguments."""
    words = list(command_line[: len(command_line) - arguments])
    program = 2 if len(words) > 1 and words[-2] == "-m" else 1
    words = words[:-program]
    return words if words and "/" in words[0] else [sys.executable]


def users_own(surroundings: environ.Surroundings, spec: contract.Spec) -> frozenset[str]:
    """Names of the variables that the image, the job definition or the function sets: nothing of ours takes their place."""
    return frozenset({*spec.image.environment, *surroundings.variables, *spec.environment})
