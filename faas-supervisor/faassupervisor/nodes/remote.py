"""How does a worker run what the main node asks for? As sshd would: one shell for one command, in a session of its own.

Each command has a thread that carries its streams. No more than a window of each is under way, so a slow reader holds back the program that
writes, and no memory grows. All that a command writes also goes to this node's own log. What it leaves running lives on until `stop`.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from faassupervisor.errors import AgentError, CannotStartError
from faassupervisor.log import Write
from faassupervisor.nodes.channel import Message
from faassupervisor.nodes.rsh import CHUNK_BYTES, WINDOW_BYTES
from faassupervisor.runners import command, tree
from faassupervisor.runners.process import Ending, Ground, Output, start

_SHELL: Final = "/bin/sh"

# What is told of a process: ("out" | "err", bytes), ("grant", number of bytes), ("exit", code).
Tell = Callable[[str, bytes | int], None]


class Commands:
    """The commands of one run. `send` carries what is told of them to the main node: from any thread, and it may block, but not raise."""

    def __init__(self, ground: Ground, write: Write, send: Callable[[Message], None], *, adopts_orphans: bool) -> None:
        self._ground, self._write, self._send, self._complete = ground, write, send, adopts_orphans
        self._all: dict[int, Child] = {}

    def take(self, message: Message) -> None:
        """What the main node says of a command; ValueError when it makes no sense. What is said of one that has ended is too late."""
        number = int(message.head["call"])
        if message.kind == "open":
            self._open(number, message.body.decode(errors="surrogateescape"))
            return
        child = self._all.get(number)
        if child is None:
            return
        match message.kind:
            case "in":
                child.feed(message.body)
            case "eof":
                child.end_input()
            case "signal":
                child.signal(int(message.head["number"]))
            case "grant":
                child.grant(int(message.head["number"]))
            case "hangup":
                child.hang_up()
            case kind:
                raise ValueError(kind)

    def start(self, what: command.Command, tell: Tell) -> None:
        """The function's own script: nobody feeds it, and all of its output goes to the log."""
        self._all[-1] = Child(what, self._ground, self._write, tell, fed=False)

    def stop(self, grace_s: float) -> None:
        """End everything that was started here and all that came from it. Nothing is told any more."""
        children = list(self._all.values())
        for child in children:
            child.mute()
        for child in children:
            tree.Tree(child.process, complete=self._complete).stop(grace_s)
        for child in children:
            child.join()
        self._all.clear()

    def _open(self, number: int, line: str) -> None:
        """One that cannot be started ends at once, as a shell would tell it."""
        self._collect_orphans()

        def tell(kind: str, what: bytes | int) -> None:
            head = {"call": number, "number": what} if isinstance(what, int) else {"call": number}
            self._send(Message(kind, head, b"" if isinstance(what, int) else what))

        try:
            child = Child(shell_command(line, self._ground), self._ground, self._write, tell)
        except AgentError as error:
            tell("err", f"{error.message}\n".encode())
            tell("exit", error.exit_code)
            return
        # One always stays, over or not: by it `stop` finds what others have left behind.
        self._all = {known: other for known, other in self._all.items() if not other.is_over} | {number: child}

    def _collect_orphans(self) -> None:
        """What a command has left behind is ours, and stays a zombie when it has ended until we ask: a long job may call thousands."""
        own = {child.process.pid for child in self._all.values()}
        for process in tree.ended_children() if self._complete else ():
            if process not in own:
                with suppress(ChildProcessError):
                    os.waitpid(process, os.WNOHANG)


class Child:
    """One process with its streams. With `fed` false its input is empty, and nobody has to grant its output."""

    def __init__(self, what: command.Command, ground: Ground, write: Write, tell: Tell, *, fed: bool = True) -> None:
        self._tell: Tell = tell
        self._fed = fed
        self._out, self._err = Output(write), Output(write)
        self._lock = threading.Lock()
        self._input: deque[bytes] = deque()
        self._input_ends = not fed
        self._window = WINDOW_BYTES
        self._muted = False
        self.process = start(what, ground, stdin=subprocess.PIPE if fed else subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._carry, name=f"command {self.process.pid}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Nothing of it is left to be carried."""
        return not self._thread.is_alive()

    def feed(self, chunk: bytes) -> None:
        with self._lock:
            self._input.append(chunk)
        self._look()

    def end_input(self) -> None:
        with self._lock:
            self._input_ends = True
        self._look()

    def grant(self, size: int) -> None:
        with self._lock:
            self._window += size
        self._look()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError, ValueError):
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.Signals(number))

    def hang_up(self) -> None:
        """Whoever called is gone: as when a terminal is."""
        self.mute()
        self.end_input()
        self.signal(signal.SIGHUP)

    def mute(self) -> None:
        with self._lock:
            self._muted = True
        self._look()

    def join(self) -> None:
        """Only after the tree has been stopped; a pipe that something else still holds is left to itself."""
        self._thread.join(1)

    def _look(self) -> None:
        with self._lock:
            if self._wake >= 0:  # else it is over already
                os.eventfd_write(self._wake, 1)

    def _say(self, kind: str, what: bytes | int) -> None:
        if not self._muted:
            self._tell(kind, what)

    def _carry(self) -> None:
        process = self.process
        assert process.stdout is not None and process.stderr is not None
        outputs = {process.stdout.fileno(): ("out", self._out), process.stderr.fileno(): ("err", self._err)}
        for descriptor in outputs:
            os.set_blocking(descriptor, False)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        told = False
        with Ending(process) as ending:
            while outputs or not told:
                ready = self._wait(outputs, ending, told=told)
                if process.stdin is not None and not process.stdin.closed:
                    self._write_input(process.stdin.fileno())
                    if self._input_ends and not self._input:
                        process.stdin.close()
                over = process.poll() is not None  # asked before reading: what it wrote by then is there
                moved = [self._read_output(found, outputs) for found in list(outputs) if over or found in ready]
                if over and not told and not any(moved) and self._may_write():
                    self._out.finish()
                    self._err.finish()
                    self._say("exit", _code(process))
                    self.mute()  # what its children still write is for the log alone
                    told = True
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with self._lock:
            os.close(self._wake)
            self._wake = -1

    def _may_write(self) -> bool:
        return self._window > 0 or self._muted or not self._fed

    def _wait(self, outputs: dict[int, tuple[str, Output]], ending: Ending, *, told: bool) -> set[int]:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        may_write, has_input = self._may_write(), bool(self._input)
        if may_write:
            for descriptor in outputs:
                poll.register(descriptor, select.POLLIN)
        stdin = self.process.stdin
        if has_input and stdin is not None and not stdin.closed:
            poll.register(stdin.fileno(), select.POLLOUT)
        if ending.descriptor is not None and not told and may_write:
            poll.register(ending.descriptor, select.POLLIN)
        ready = {found for found, _ in poll.poll(None if told else ending.patience_s * 1000)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return ready

    def _write_input(self, descriptor: int) -> None:
        while self._input:
            chunk = self._input[0]
            try:
                written = os.write(descriptor, chunk)
            except BlockingIOError:
                return
            except OSError:  # it reads no more: what is still sent is thrown away, so that the sender does not wait
                written = len(chunk)
            with self._lock:
                self._input.popleft()
                if written < len(chunk):
                    self._input.appendleft(chunk[written:])
            self._say("grant", written)

    def _read_output(self, descriptor: int, outputs: dict[int, tuple[str, Output]]) -> bool:
        """Whether anything was there."""
        kind, output = outputs[descriptor]
        size = CHUNK_BYTES if self._muted or not self._fed else min(CHUNK_BYTES, self._window)
        if size <= 0:
            return False
        try:
            chunk = os.read(descriptor, size)
        except BlockingIOError:
            return False
        if not chunk:
            del outputs[descriptor]
            return True
        output.take(chunk)
        if self._fed:
            with self._lock:
                self._window -= len(chunk)
        self._say(kind, chunk)
        return True


def shell_command(line: str, ground: Ground) -> command.Command:
    """What runs a command line: the image's shell, or, where there is none, the program that the line names."""
    if os.access(_SHELL, os.X_OK):
        return command.Command(_SHELL, ("sh", "-c", line))
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise CannotStartError(
            f"{line!a} cannot be split into words, and the image has no {_SHELL}", exit_code=127
        ) from error
    program = command.find(words[0], ground.environment) if words else None
    if program is None:
        raise CannotStartError(
            f"{line!a} cannot be run: the image has neither {_SHELL} nor that program", exit_code=127
        )
    return command.Command(program, tuple(words))


def _code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return code if code >= 0 else 128 - code
