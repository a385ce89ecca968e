"""A tree seen from outside: waiting for it, its memory, and the end of everything in it."""

# pathlib, signal, json and typing stay out of the warden's modules: together they would double the time that a start takes.

from __future__ import annotations

import os
import resource
import select
import sys
import time

from scar.local.sandbox.kernel import SIGKILL, SIGSTOP, SIGTERM, SetUpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scar.local.sandbox.kernel import Request

SIGNALFD_SIGINFO_BYTES = 128
STOP_ROUNDS = 50
LINGER_S = 20.0
IDLE_LOOKS_MS = 250  # between two looks at a tree in which nothing changes: warm sandboxes are many, and idle


def reap(main: int, others: dict[int, int] | None = None) -> int | None:
    """Take in every child that ended; the exit code of `main` when it is among them, 128 + signal as the shell has it. `others` gets those of
    the rest."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        ended = os.waitstatus_to_exitcode(status)
        ended = ended if ended >= 0 else 128 - ended
        if pid == main:
            code = ended
        elif others is not None:
            others[pid] = ended


class Asking:
    """Passes SIGTERM on to the user's program: by a signal, or by the engine's command, again until that has worked.

    A command because `podman run` and `docker run` show what a container says before they pass signals on to it: one that comes in between
    ends the client, and the container with it, without a last word. Before the container is there the command fails, hence `again`.
    """

    def __init__(self, main: int, depth: int, command: Callable[[], int] | None) -> None:
        self._main, self._depth, self._command = main, depth, command
        self._wanted, self._running = False, 0

    def begin(self) -> None:
        if self._command is None:
            send(program_below(self._main, self._depth), SIGTERM)
        else:
            self._wanted = True

    def go_on(self, ended: dict[int, int]) -> None:
        """`ended` are children that were reaped, with their exit codes."""
        if self._running in ended:
            self._wanted = self._wanted and ended[self._running] != 0
            self._running = 0
        if self._wanted and not self._running and self._command is not None:
            self._running = self._command()


def attend(
    main: int,
    signals: int,
    *,
    lifeline: int | None,
    tick: Callable[[], bool],
    interval_ms: Callable[[], int] | None,
    depth: int = 0,
    ask: Callable[[], int] | None = None,
) -> int | None:
    """Forward SIGTERM and reap until `main` ends (its exit code), the lifeline closes, or `tick` says to stop (None).

    `tick` is asked whenever something happens, and after the pause that `interval_ms` tells.
    """
    asking = Asking(main, depth, ask)
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll(interval_ms() if interval_ms else None):
            if descriptor == lifeline and not os.read(lifeline, 4096):
                return None
            if descriptor == signals and wants_termination(signals):
                asking.begin()
        others: dict[int, int] = {}
        code = reap(main, others)
        if code is not None:
            return code
        asking.go_on(others)
        if not tick():
            return None


def program_below(main: int, depth: int) -> int:
    """The user's program: `main`, or so many generations below it where an engine's own processes stand between."""
    pid = main
    for _ in range(depth):
        pid = next(children(pid), pid)
    return pid


def wants_termination(signals: int) -> bool:
    found = False
    while True:
        try:
            records = os.read(signals, SIGNALFD_SIGINFO_BYTES * 16)
        except BlockingIOError:
            return found
        for start in range(0, len(records), SIGNALFD_SIGINFO_BYTES):
            found = found or int.from_bytes(records[start : start + 4], sys.byteorder) == SIGTERM


def children(pid: int) -> Iterator[int]:
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                yield from map(int, file.read().split())
    except OSError:
        return


def scan_children() -> dict[int, list[int]]:
    """Every process by its parent, for kernels that do not list children."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def descendants(root: int) -> list[int]:
    table = None if lists_children() else scan_children()
    found, left = [], [root]
    while left:
        pid = left.pop()
        fresh = list(children(pid)) if table is None else table.get(pid, [])
        found += fresh
        left += fresh
    return found


def lists_children() -> bool:
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end_descendants() -> None:
    """Kill what is left below this process. Orphans come back to it (subreaper), so an empty list of children means all are gone."""
    deadline = time.monotonic() + LINGER_S
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        for _ in range(STOP_ROUNDS):  # stopped first, so that nothing forks away from under the kill
            fresh = set(descendants(os.getpid())) - stopped
            if not fresh:
                break
            for pid in fresh:
                send(pid, SIGSTOP)
            stopped |= fresh
        for pid in stopped:
            send(pid, SIGKILL)
        reap(0)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


class Tracer:
    """A program that traces the user's and ends only after all it traces: what the user's program left behind is ended here."""

    def __init__(self, tracer: int, look: Callable[[], bool]) -> None:
        self._tracer, self._look = tracer, look

    def look(self) -> bool:
        if not descendants(self._tracer):  # the program was its child; orphans are this process's
            for pid in descendants(os.getpid()):
                if pid != self._tracer:
                    send(pid, SIGKILL)
        return self._look()


def number_in(path: str, key: bytes = b"") -> int:
    """The first number of a cgroup or proc file, or that of the line starting with `key`; 0 when there is none."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(key):
                    return int(line[len(key) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return 0


class Memory:
    """Bound and peak of a tree, looked at now and then: by the kernel's cgroup where there is one, else process by process."""

    def __init__(self, request: Request, shown: int) -> None:
        self.groups: list[tuple[str, list[tuple[str, str]]]] = request["cgroups"]
        self.usage_file, self.usage_key = request["usage_file"], request["usage_key"].encode()
        self.kill_file, self.kill_key = request["oom_file"], request["oom_key"].encode()
        self.bound_bytes: int | None = request["memory_bytes"]
        self.shown, self.peak, self.exceeded = shown, 0, False
        self.most_processes: int = request["max_processes"] + 2  # with an init and an engine's own program
        self.root, self.outer = 0, frozenset(name.encode() for name in request["outer"])
        self.least_ms: int = request["interval_ms"]
        self.pause_ms: int = self.least_ms
        self.seen: object = None

    def enter(self, pid: int) -> None:
        self.root = pid
        for folder, _ in self.groups:
            try:
                write_text(f"{folder}/cgroup.procs", str(pid))
            except OSError as error:
                raise SetUpError(f"cgroup: {folder}: {error.strerror}") from error

    def make_groups(self) -> None:
        for folder, settings in self.groups:
            try:
                os.mkdir(folder)
                for name, value in settings:
                    if os.path.exists(f"{folder}/{name}") or not name.endswith((".swap.max", "memsw.limit_in_bytes")):
                        write_text(f"{folder}/{name}", value)
            except OSError as error:
                raise SetUpError(f"cgroup: {folder}: {error.strerror}") from error

    def remove_groups(self) -> None:
        for folder, _ in self.groups:
            for _ in range(100):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.005)
                    continue
                break

    def look(self) -> bool:
        """Note the peak; False once a bound was passed: memory's, or, where no group counts them, that of processes."""
        if self.groups:
            used = number_in(self.usage_file, self.usage_key)
            self.exceeded = self.exceeded or number_in(self.kill_file, self.kill_key) > 0 or self.is_over(used)
            if used:
                self.note(used)
                self.pace(used)
                return not self.exceeded
        tree = [self.root, *descendants(self.root)]
        if self.outer:  # an engine's own programs are not the user's; those it detached are found below this process
            tree = [pid for pid in descendants(os.getpid()) if program_name(pid) not in self.outer]
        page = resource.getpagesize()
        resident = sum(resident_pages(pid) for pid in tree) * page
        changed = self.pace((tree, resident))
        # Shared pages are counted once only when it matters: the kernel walks through all of them for it.
        if self.is_over(resident) or (changed and resident > self.peak):
            resident = sum(proportional_bytes(pid, page) for pid in tree)
            self.note(resident)
        self.exceeded = self.exceeded or self.is_over(resident)
        return not self.exceeded and len(tree) <= self.most_processes

    def pace(self, seen: object) -> bool:
        """Look soon again at what changes, less often at what does not; whether it has changed."""
        changed = seen != self.seen
        self.seen = seen
        self.pause_ms = self.least_ms if changed else min(2 * self.pause_ms, max(self.least_ms, IDLE_LOOKS_MS))
        return changed

    def pause(self) -> int:
        return self.pause_ms

    def is_over(self, used_bytes: int) -> bool:
        return self.bound_bytes is not None and used_bytes > self.bound_bytes

    def note(self, value: int) -> None:
        if value > self.peak:
            self.peak = value
            os.pwrite(self.shown, value.to_bytes(8, sys.byteorder), 0)


def program_name(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""


def resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int, page: int) -> int:
    kibibytes = number_in(f"/proc/{pid}/smaps_rollup", b"Pss:")
    return kibibytes * 1024 or resident_pages(pid) * page


def write_text(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
