"""What a container is asked to be, whatever engine makes it: the records between the Lambda engine and the ladder."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal, Protocol

Restrictions = Literal["none", "lambda"]
SHM_MIB: Final = 64  # of /dev/shm, as Docker's
# What root in a container may do by default (moby/profiles, oci/caps/defaults.go), but making devices, raw and low-numbered sockets, which
# would reach this machine itself; by capability(7) and linux/capability.h.
CONTAINER_CAPABILITIES: Final[Mapping[str, int]] = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_CHROOT": 18,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of this machine made visible inside."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A folder in memory, bounded."""

    target: str
    size_mib: int


@dataclass(frozen=True, slots=True)
class Place:
    """A sandbox's place in a `Network`: its IPv4 address and its host name. `key` is the engine's own word for the network."""

    address: str
    hostname: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One process tree to run in an unpacked image.

    `rootfs` is shared and never written: with `read_only` (Lambda's view) only `/tmp` can be written, a private one of
    `tmp_mib`; without it writes go to a private layer that is thrown away (Batch's view). `uid` is what the process sees itself as.
    `environment` is complete: nothing of the caller's own leaks in. `memory_mib` bounds the whole tree (None: unbounded). `vcpus` is
    the processor time it may use a second, bounded by engines that can (see Isolation.processor). `restrictions` says which system
    calls are refused besides: Lambda's (see restrictions.py), or none. `held` are open descriptors that stay open for exactly as long
    as the tree lives and that nothing in it sees: locks on what it uses. The caller closes its own once the tree was started.
    `capabilities`: root inside has those of a container, so that it can become another user; only namespaces, podman and docker give them.
    `tmpfs` and `shm_mib` are given by namespaces, podman and docker only; elsewhere /dev/shm is this machine's, whatever its size.
    `place`, from the same engine's `network`, puts the sandbox there; without one its network is this machine's. The place's host name
    goes before `hostname`, and `/etc/hosts` names all places of the network, where the engine shows a sandbox files of its own.
    """

    rootfs: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str = "/"
    read_only: bool = True
    uid: int = 993
    gid: int = 990
    binds: tuple[Bind, ...] = ()
    memory_mib: int | None = None
    vcpus: float | None = None
    tmp_mib: int = 512
    max_processes: int = 1024
    max_open_files: int = 1024
    hostname: str = "scar"
    restrictions: Restrictions = "none"
    held: tuple[int, ...] = ()
    capabilities: bool = False
    tmpfs: tuple[Tmpfs, ...] = ()
    shm_mib: int = SHM_MIB
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """The honest word on what an engine keeps apart, one short phrase each ('shared with this machine' where it does not)."""

    files: str
    processes: str
    network: str
    memory: str
    processor: str = "shared with this machine"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a tree ended: exit code as the shell tells it (128 + signal); `out_of_memory` when the bound killed it."""

    exit_code: int
    out_of_memory: bool = False


class Sandbox(Protocol):
    """A running tree.

    1. `output` is a binary pipe: standard output and error in the order written, ended when the tree is gone.
    2. `wait` answers None while it runs after `timeout_s` seconds.
    3. `kill` returns when no process of the tree is left, whatever they ignored, forked or detached; calling it twice is fine.
    4. When the process that started the sandbox dies, even by SIGKILL, the tree dies too (engines that cannot say so in Isolation.note).
    5. After `kill` or the end, nothing of it is left on disk.
    6. `is_behind` tells whether a process of the tree has the other end of a connection over this machine's loopback; None where nobody can tell.

    `terminate` asks the main process to end (SIGTERM) and returns at once. Somebody has to read `output`, or the tree waits for it.
    """

    output: IO[bytes]

    def wait(self, timeout_s: float | None = None) -> Ended | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def peak_memory_mib(self) -> int: ...

    def is_behind(self, connection: socket.socket) -> bool | None: ...


Serve = Callable[
    [socket.socket], AbstractContextManager[None]
]  # the local AWS answers on this listening socket as well, until it is left


class Network(Protocol):
    """Places for sandboxes that are to see each other.

    1. Each of `places` has an address of its own that every other place reaches, on every port.
    2. `own` tells whether they have a network of their own: out of it nothing is reached, nor this machine, and whoever tries is refused at
       once. If not, the addresses are of this machine's loopback, and what listens on all addresses listens on every place's.
    3. `endpoint` is the URL at which the local AWS answers to them.
    4. `credentials_host` is where it answers for a role's credentials as ECS does, at port 80: SDKs put it before what
       AWS_CONTAINER_CREDENTIALS_RELATIVE_URI says. None: there is no such place, `endpoint` is of the loopback, and only there do SDKs take a
       whole URL over plain HTTP (AWS_CONTAINER_CREDENTIALS_FULL_URI).
    5. `close` ends it, once no sandbox is in it any more; again is fine. When the process that made it dies, it is gone too.
    """

    @property
    def places(self) -> tuple[Place, ...]: ...

    @property
    def own(self) -> bool: ...

    @property
    def endpoint(self) -> str: ...

    @property
    def credentials_host(self) -> str | None: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """One rung of the ladder. `probe` really runs something in a rootfs and says what is wrong, or None when it works.

    `network` makes one for sandboxes of these host names; `endpoint` is where the local AWS answers on this machine.
    """

    @property
    def name(self) -> str: ...

    @property
    def isolation(self) -> Isolation: ...

    def probe(self) -> str | None: ...

    def start(self, spec: SandboxSpec) -> Sandbox: ...

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """What the ladder chose, and why each rung before it was passed over (engine name → reason)."""

    engine: Engine
    passed_over: Mapping[str, str] = field(default_factory=dict)
