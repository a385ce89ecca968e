"""The door of a worker: every node of a multi-node parallel job but the main one.

    join ─► begin: a workspace, the input if asked for, `ready` ─► remote commands, the script if asked for ─► finish ─► … ─► end

A worker asks no ledger and publishes nothing. It ends with 0 when the main node says so, or says that another node has failed; with 143
after SIGTERM; with 1 when the main node is gone or it cannot do its part; with its script's code when that has failed.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from faassupervisor import environ, events, function, leaving, state
from faassupervisor.deadline import Deadline
from faassupervisor.errors import AgentError, GangError
from faassupervisor.events import Refused, Skipped
from faassupervisor.log import Log, Write
from faassupervisor.modes import Here
from faassupervisor.nodes import mpi, mpi_files
from faassupervisor.nodes.board import StateBoard
from faassupervisor.nodes.channel import Channel, Gone, Message
from faassupervisor.nodes.gathering import join
from faassupervisor.nodes.node import Node
from faassupervisor.nodes.remote import Commands
from faassupervisor.record import Invocation, Record
from faassupervisor.runners import Setting
from faassupervisor.runners.command import Command
from faassupervisor.runners.process import Process
from faassupervisor.sandbox import Sandbox
from faassupervisor.workspace import Workspace

if TYPE_CHECKING:
    from faassupervisor.events import Item

_TOTAL_S: Final = 365 * 24 * 3600.0
_AFTER_RUN_GRACE_S: Final = 0.5  # for what remote commands have left, as for a script's own background processes
_SAID_EVERY_S: Final = 0.5
_SAID_BYTES: Final = 4 * 1024


def run(surroundings: environ.Surroundings, node: Node, write: Write) -> int:
    """The exit code of this node."""
    loaded = function.load(surroundings.function_root)
    lines = _Lines(write)
    log = Log(lines.write, level=loaded.spec.log_level, request_id=node.job_id)
    log.note("node started", job_id=node.job_id, node=node.index, nodes=node.count, attempt=node.attempt)
    failure: AgentError | None = None
    with ExitStack() as left:
        try:
            code = _Worker(Sandbox(surroundings, loaded, mode=Here), node, log, left).serve()
        except leaving.Leave:
            log.note("told to stop (SIGTERM)")
            code = 128 + signal.SIGTERM
        except AgentError as error:
            failure, code = error, error.exit_code
        leaving.stay()
    if failure is not None:
        log.error("this node ends", kind=failure.kind, message=failure.message)
    log.note("node ended", node=node.index, exit_code=code)
    return code


class _MainIsGoneError(GangError):
    """Nobody is left to say what to do, or what is said makes no sense."""


class _Lines:
    """Many threads write to one log: each piece whole."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lock = threading.Lock()

    def write(self, text: bytes) -> None:
        with self._lock:
            self._write(text)


@dataclass(frozen=True, slots=True)
class _Begin:
    """What the main node says of a run."""

    workspace: str
    request_id: str
    marks: Mapping[str, str]
    event: bytes
    hosts: tuple[mpi.Host, ...]


class _Worker:
    def __init__(self, sandbox: Sandbox, node: Node, log: Log, left: ExitStack) -> None:
        self._sandbox, self._node, self._log = sandbox, node, log
        board = StateBoard(state.of(sandbox.aws), node.job_id, node.attempt)
        self._channel = join(node, board, log, timeout_s=node.gang.start_timeout_s)
        left.callback(self._channel.close)
        self._run: _Run | None = None
        self._code = 0

    def serve(self) -> int:
        """Until the main node sends us home."""
        channel = self._channel
        try:
            self._send("hello", name=socket.gethostname())
            while True:
                message = channel.receive()
                if message is not None:
                    ended = self._take(message)
                    if ended is not None:
                        return ended
        except Gone as error:
            self._finish(_AFTER_RUN_GRACE_S)
            raise _MainIsGoneError(
                f"the main node (node {self._node.main}) is gone: it {error}; this node ends"
            ) from error
        except leaving.Leave as leave:
            with suppress(Gone):
                self._send("stopped")
            self._finish(leave.grace_s)
            raise
        except AgentError as error:
            self._fail(error)
            self._finish(_AFTER_RUN_GRACE_S)
            raise
        except (KeyError, TypeError, ValueError) as error:
            self._finish(_AFTER_RUN_GRACE_S)
            raise _MainIsGoneError(f"the main node said what cannot be understood: {error}") from error

    def _take(self, message: Message) -> int | None:
        match message.kind:
            case "begin":
                self._begin(self._understood(message))
            case "finish":
                self._finish(_AFTER_RUN_GRACE_S)
                self._send("finished")
            case "end":
                self._finish(_AFTER_RUN_GRACE_S)
                if message.head["well"]:
                    self._log.note("the job has succeeded; this node goes home")
                else:
                    self._log.note("the job has failed; this node goes home", message=str(message.head["message"]))
                return self._code
            case "lost":
                self._log.error("the gang has failed; this node ends", message=str(message.head["message"]))
                self._finish(_AFTER_RUN_GRACE_S)
                return 0
            case _:
                if self._run is not None:  # else of a call that was under way when the run was over
                    self._run.take(message)
        return None

    def _understood(self, message: Message) -> _Begin:
        """`begin` and the event that follows it."""
        head = message.head
        event = b""
        while len(event) < int(head["event_bytes"]):
            more = self._channel.receive()
            if more is not None:
                if more.kind != "event":
                    raise ValueError(f"{more.kind} in place of the event")
                event += more.body
        hosts = tuple(mpi.Host(*values) for values in json.loads(message.body))
        marks = {str(name): str(value) for name, value in head["marks"].items()}
        return _Begin(str(head["workspace"]), str(head["request_id"]), marks, event, hosts)

    def _begin(self, begin: _Begin) -> None:
        self._finish(0)
        self._run = _Run(self._sandbox, self._node, begin, self._channel, self._log.of(begin.request_id))
        self._run.prepare()
        self._send("ready")
        self._run.start()

    def _finish(self, grace_s: float) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._code = self._code or run.code
            run.close(grace_s)

    def _fail(self, error: AgentError) -> None:
        with suppress(Gone):
            self._channel.send(Message("failed", {"message": error.message[:2000], "code": error.exit_code}))

    def _send(self, kind: str, **head: Any) -> None:
        self._channel.send(Message(kind, head))


class _Run:
    """This node's part of one record's run."""

    def __init__(self, sandbox: Sandbox, node: Node, begin: _Begin, channel: Channel, log: Log) -> None:
        self._sandbox, self._node, self._begin, self._channel, self._log = sandbox, node, begin, channel, log
        self._left = ExitStack()
        self._commands: Commands | None = None
        self._script: Command | None = None
        self._said = _Said(channel)
        self.code = 0

    def prepare(self) -> None:
        """Raises AgentError when something cannot be had here."""
        sandbox, gang = self._sandbox, self._node.gang
        place = Workspace(sandbox.surroundings.temporary, self._begin.workspace)
        try:
            self._left.enter_context(place)
        except OSError as error:
            raise AgentError(f"{place.root} could not be made: {error.strerror}") from error
        record = self._record()
        spec = sandbox.function.spec
        variables = {
            **record.stage_in(place, fetch=gang.input_on_workers),
            **self._begin.marks,
            **mpi_files.write(
                place, self._begin.hosts, self._node.index, mpi_files.users_own(sandbox.surroundings, spec)
            ),
        }
        runner = Process(Setting(spec, place, self._log, None, sandbox.surroundings.fakechroot))
        environment = environ.for_process(sandbox.surroundings.variables, spec, variables)
        if gang.script_on_workers:
            self._script = record.command(place, environment, runner)
        self._commands = Commands(
            runner.ground(environment), self._log.write, self._send, adopts_orphans=sandbox.adopts_orphans
        )

    def start(self) -> None:
        """The script, where workers run it."""
        if self._script is not None and self._commands is not None:
            self._log.info("script started", node=self._node.index)
            self._commands.start(self._script, self._of_script)

    def take(self, message: Message) -> None:
        """Something about a remote command."""
        if self._commands is not None:
            self._log.debug("remote command", kind=message.kind, bytes=len(message.body))
            self._commands.take(message)

    def close(self, grace_s: float) -> None:
        with self._left:
            if self._commands is not None:
                self._commands.stop(grace_s)

    def _record(self) -> Record:
        invocation = Invocation(self._begin.request_id, self._begin.event, Deadline(_TOTAL_S, 0))
        return Record(self._sandbox, self._item(), 0, invocation, self._log)

    def _item(self) -> Item:
        """The main node gives us one record's event."""
        (item,) = events.parse(self._begin.event, events.Known.of(self._sandbox.function.spec))
        if isinstance(item, Skipped | Refused):
            raise AgentError(f"the event cannot be understood here: {item.reason}")
        return item

    def _send(self, message: Message) -> None:
        with suppress(Gone):  # the reader hears of it, too
            self._channel.send(message)

    def _of_script(self, kind: str, what: bytes | int) -> None:
        with suppress(Gone):
            if not isinstance(what, int):
                self._said.add(what)
            elif kind == "exit":
                self._said.flush()
                self._log.info("script ended", exit_code=what)
                if what != 0:
                    self.code = what
                    self._log.error("the script failed on this node", exit_code=what)
                    message = f"its script exited with code {what}"
                    self._channel.send(Message("failed", {"message": message, "code": what}))


class _Said:
    """The last of what the script writes here, for the main node to tell if this node is lost; not more than it needs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tail = b""
        self._sent = 0.0

    def add(self, text: bytes) -> None:
        self._tail = (self._tail + text)[-_SAID_BYTES:]
        if time.monotonic() - self._sent >= _SAID_EVERY_S:
            self.flush()

    def flush(self) -> None:
        if self._tail:
            self._channel.send(Message("said", {}, self._tail))
            self._tail, self._sent = b"", time.monotonic()
