"""What does a program change, call by call, and what if it dies or fails at exactly one of these calls?

The kernel stops the program, its threads and its children before each system call that changes something outside of it, and asks this
process what to do (seccomp_unotify(2)): let it happen, refuse it with an error, or kill -9. So a call's number is exact whatever thread makes
it, and what is not asked for costs nothing. Neither privileges nor other programs are needed: Linux 5.9 on x86_64.

    with Traced(command, env=…, stdout=…) as traced:        # runs; nothing is counted yet (with `decide=let`: from its first call on)
        traced.watch()                                      # from now on: `traced.made` are the calls, in order
    …
        traced.watch(kill_at(17))                           # the 17th from now does not happen: the program is killed with all it started
        traced.watch(fail(errno.ENOSPC, at=3, where=lambda call: call.target.startswith(folder)))
        traced.watch(fail(errno.ENOSPC, since=3, where=…))  # that one and all that follow

A kill *after* the n-th call is a kill before the next one. Between calls a program changes nothing that outlives it.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

# Name → number (x86_64) and what its arguments are: p a path, d the descriptor of the folder that the next path starts at, f a descriptor,
# a an address, s the flags of open.
_CALLS: Final[Mapping[str, tuple[int, str]]] = {
    "write": (1, "f"), "pwrite64": (18, "f"), "writev": (20, "f"), "pwritev": (296, "f"), "pwritev2": (328, "f"),
    "open": (2, "ps"), "openat": (257, "dps"), "creat": (85, "p"),
    "truncate": (76, "p"), "ftruncate": (77, "f"), "fallocate": (285, "f"), "sendfile": (40, "f"), "copy_file_range": (326, "..f"),
    "rename": (82, "pp"), "renameat": (264, "dpdp"), "renameat2": (316, "dpdp"), "link": (86, "pp"), "linkat": (265, "dpdp"),
    "symlink": (88, "pp"), "symlinkat": (266, "pdp"), "unlink": (87, "p"), "unlinkat": (263, "dp"),
    "mkdir": (83, "p"), "mkdirat": (258, "dp"), "rmdir": (84, "p"),
    "fsync": (74, "f"), "fdatasync": (75, "f"), "msync": (26, ""), "flock": (73, "f"), "chmod": (90, "p"), "fchmodat": (268, "dp"),
    "connect": (42, "fa"), "sendto": (44, "f"), "sendmsg": (46, "f"), "sendmmsg": (307, "f"), "close": (3, "f"),
    "clone": (56, ""), "clone3": (435, ""), "fork": (57, ""), "vfork": (58, ""), "execve": (59, "p"), "kill": (62, ""), "clock_nanosleep": (230, ""),
}  # fmt: skip
_NAMES: Final = {number: name for name, (number, _) in _CALLS.items()}
_OPENS_TO_CHANGE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Nothing that outlives a program hangs on these.
CHANGES: Final = frozenset(_CALLS) - {"close", "kill", "clock_nanosleep"}

_AT_FDCWD: Final = 0xFFFFFF9C
_NOTIFICATION: Final = struct.Struct("<QIIiIQ6Q")  # struct seccomp_notif
_ANSWER: Final = struct.Struct("<QqiI")  # struct seccomp_notif_resp
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_LAUNCH: Final = Path(__file__).with_name("traced_program.py")
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """`number` counts from the last `watch`, over all threads and processes; `target` is the file, the two files (` -> `) or the address.

    Whoever is not root cannot look into a process that hides itself, as the agent does from its user's script: there `target` is ''.
    """

    number: int
    name: str
    target: str
    process: int
    thread: int

    def __str__(self) -> str:
        return f"{self.number}: {self.name}({self.target})"


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL for the program and all that it has started, before the call happens."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The call does not happen and says `errno`."""

    errno: int


Decision = Kill | Fail | None
Decide = Callable[[Call], Decision]


def let(_: Call) -> None:
    """Everything happens."""


def kill_at(number: int) -> Decide:
    return lambda call: Kill() if call.number == number else None


def fail(
    errno: int, *, at: int | None = None, since: int = 1, where: Callable[[Call], bool] = lambda _: True
) -> Decide:
    """An error for one, or for each from one on, of the calls that `where` means; counted among these alone."""
    met = 0

    def decide(call: Call) -> Decision:
        nonlocal met
        if not where(call):
            return None
        met += 1
        return Fail(errno) if (met == at if at is not None else met >= since) else None

    return decide


class Traced:
    """A program that runs under our eyes as long as the `with` block does; then it and all that it has started are gone.

    `calls` are the system calls that are looked at at all. What goes into a pipe is not counted: nobody finds it later. With `decide` the
    program is watched from its very start.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        calls: frozenset[str] = CHANGES,
        decide: Decide | None = None,
    ) -> None:
        self.made: list[Call] = []
        self.killed: Call | None = None  # where
        self.failed: list[Call] = []  # what was refused
        self._decide: Decide = decide or let
        self._watching = decide is not None
        self._started = False
        self._trouble: BaseException | None = None
        self._lock = threading.Lock()
        program = shutil.which(command[0], path=env.get("PATH"))
        assert program is not None, f"{command[0]} is not there"
        ours, its = socket.socketpair()
        with ours, its:
            filter_ = _filter(calls).hex()
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCH), str(its.fileno()), filter_, program, *command],
                env=dict(env),
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
            its.close()
            ours.settimeout(_START_S)
            _, received, _, _ = socket.recv_fds(ours, 1, 1)
        assert received, f"{command[0]} could not be started under a filter of system calls: needs Linux 5.9, x86_64"
        (self._listener,) = received
        self._serving = threading.Thread(target=self._serve, name="system calls")
        self._serving.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.process.wait()
        self._serving.join()
        os.close(self._listener)
        if self._trouble is not None:
            raise self._trouble

    def watch(self, decide: Decide = let) -> None:
        """Count from 1 again, and decide so from now on. The calls before are forgotten."""
        with self._lock:
            self.made, self.failed, self._decide, self._watching = [], [], decide, True

    def rest(self) -> None:
        """Let everything happen, uncounted."""
        with self._lock:
            self._watching = False

    def kill(self, also: int | None = None) -> None:
        """SIGKILL for the program and its descendants; `also` is one that may have left the family."""
        roots = {also} if also is not None else set()
        if self.process.poll() is None:
            roots.add(self.process.pid)
        kill_families(roots)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            ((_, event),) = poll.poll()
            if not event & select.POLLIN:
                return  # the last process under the filter has ended
            asked = bytearray(_NOTIFICATION.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, asked)
            except OSError:  # whoever asked is gone already
                continue
            identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(asked)
            decision: Decision = None
            with self._lock:
                try:
                    decision = self._decided(thread, _NAMES[number], arguments)
                except BaseException as error:  # the program must not wait for ever: told at the end
                    self._trouble = self._trouble or error
            if isinstance(decision, Kill):
                self.kill(_process_of(thread))
                continue
            error, flags = (-decision.errno, 0) if isinstance(decision, Fail) else (0, _CONTINUE)
            with suppress(OSError):  # killed meanwhile
                fcntl.ioctl(self._listener, _SEND, bytearray(_ANSWER.pack(identity, 0, error, flags)))

    def _decided(self, thread: int, name: str, arguments: Sequence[int]) -> Decision:
        if not self._started and name == "execve":  # the program's own start
            self._started = True
            return None
        if not self._watching or self.killed is not None:
            return None
        target = _target(thread, _CALLS[name][1], arguments)
        if target.startswith("pipe:") or (not target and name == "write" and arguments[0] in (1, 2)):
            return None
        call = Call(len(self.made) + 1, name, target, _process_of(thread), thread)
        self.made.append(call)
        decision = self._decide(call)
        if isinstance(decision, Kill):
            self.killed = call
        elif isinstance(decision, Fail):
            self.failed.append(call)
        return decision


def kill_families(roots: set[int]) -> None:
    """SIGKILL for these processes and all their descendants; when this returns, whoever is still there is a zombie."""
    family: list[int] = []
    while new := [process for process in _descendants(roots) if process not in family]:
        for process in new:  # what is stopped starts no more
            _send(process, signal.SIGSTOP)
        family += new
    for process in family:
        _send(process, signal.SIGKILL)
    end = time.monotonic() + _START_S
    while left := [process for process in family if not _is_over(process)]:
        assert time.monotonic() < end, f"processes {left} are not to be killed"
        time.sleep(0.001)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _descendants(roots: set[int]) -> list[int]:
    family = list(roots)
    for process in family:  # grows as it goes
        for thread in _threads(process):
            with suppress(OSError):
                family += map(int, Path(thread, "children").read_text().split())
    return family


def _threads(process: int) -> list[Path]:
    with suppress(OSError):
        return list(Path("/proc", str(process), "task").iterdir())
    return []


def _is_over(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _process_of(thread: int) -> int:
    with suppress(OSError):
        for line in Path("/proc", str(thread), "status").read_text().splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return thread


def _target(thread: int, kinds: str, arguments: Sequence[int]) -> str:
    """In words for people and tests; '' for what cannot be told."""
    told: list[str] = []
    folder = _AT_FDCWD
    for kind, value in zip(kinds, arguments, strict=False):
        if kind == "d":
            folder = value & 0xFFFFFFFF
        elif kind == "p":
            told.append(_path(thread, folder, _text(thread, value)))
        elif kind == "f":
            told.append(_link(f"/proc/{thread}/fd/{value & 0xFFFFFFFF}"))
        elif kind == "a":
            told = [_address(_memory(thread, value, 16))]
    return " -> ".join(told)


def _path(thread: int, folder: int, name: str) -> str:
    start = _link(f"/proc/{thread}/cwd" if folder == _AT_FDCWD else f"/proc/{thread}/fd/{folder}")
    return os.path.normpath(Path(start, name)) if name else start


def _address(raw: bytes) -> str:
    if len(raw) == 16 and raw[:2] == struct.pack("<H", socket.AF_INET):
        return f"{socket.inet_ntoa(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    return f"address of family {int.from_bytes(raw[:2], 'little')}"


def _link(path: str) -> str:
    with suppress(OSError):
        return str(Path(path).readlink())
    return ""


def _text(thread: int, address: int) -> str:
    page = 4096 - address % 4096  # the next page may not be there
    text, end, _ = _memory(thread, address, page).partition(b"\0")
    if not end:
        text += _memory(thread, address + page, 4096).partition(b"\0")[0]
    return os.fsdecode(text)


def _memory(thread: int, address: int, size: int) -> bytes:
    with suppress(OSError), Path("/proc", str(thread), "mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)
    return b""


def _filter(calls: frozenset[str]) -> bytes:
    """A program for the kernel: asks for these calls, for an open only when it can change something."""
    load, equal, any_bit, ends = 0x20, 0x15, 0x45, 0x06
    allow, ask, x86_64 = 0x7FFF0000, 0x7FC00000, 0xC000003E

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    steps = [step(load, 4), step(equal, x86_64, 1, 0), step(ends, allow), step(load, 0)]
    for name in sorted(calls):
        number, kinds = _CALLS[name]
        if "s" not in kinds:
            steps += [step(equal, number, 0, 1), step(ends, ask)]
            continue
        flags = 16 + 8 * kinds.index("s")
        steps += [step(equal, number, 0, 4), step(load, flags), step(any_bit, _OPENS_TO_CHANGE, 0, 1)]
        steps += [step(ends, ask), step(ends, allow)]
    return b"".join([*steps, step(ends, allow)])
