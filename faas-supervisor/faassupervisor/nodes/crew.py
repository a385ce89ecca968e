"""The main node's gang, from the first worker that comes to the last one that goes home.

    open ─► gather (all are there, or GangError) ─► around one record's run ─► … ─► close

    begin ─► every worker has a workspace and says `ready` ─► the script runs here, its remote commands there ─► finish

A worker that is lost, fails or is told to stop ends the run: the script is stopped by our own SIGTERM, every other node is told who and
why, and GangError speaks in place of whatever the script made of it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from faassupervisor import leaving
from faassupervisor.contract import Failure, Reply
from faassupervisor.errors import AgentError, GangError, ScriptFailedError
from faassupervisor.log import Log
from faassupervisor.nodes import mpi, mpi_files
from faassupervisor.nodes.board import StateBoard
from faassupervisor.nodes.channel import BODY_BYTES, Channel, Gone, Message
from faassupervisor.nodes.gathering import Gathering, Member
from faassupervisor.nodes.node import Node
from faassupervisor.nodes.remote_desk import Desk
from faassupervisor.runners.identity import to_become
from faassupervisor.state import State

if TYPE_CHECKING:
    from faassupervisor.record import Record
    from faassupervisor.workspace import Workspace

# Workers may come so late when there is nothing to do for them, or when that has failed; Batch ends the others with the main node.
_DISMISSAL_S: Final = 30.0
_DISMISSAL_OF_FAILURE_S: Final = 5.0
_GOODBYE_S: Final = 5.0  # with the script's own 20 s it fits into the 30 s that Batch gives after SIGTERM
_LAST_WORD_S: Final = 3.0  # a script that failed may have done so because of a node whose end is not known yet
_TAIL_BYTES: Final = 4 * 1024
_TAIL_LINES: Final = 20


class Crew:
    """See `record.Company` for what `around` promises. Made for a main node; `open` before anything else."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = Log(lambda _: None)
        self._gathering: Gathering | None = None
        self._workers: dict[int, _Worker] = {}
        self._members: tuple[Member, ...] = ()
        self._changed = threading.Condition()
        self._desk: Desk | None = None
        self._armed = False
        self._over = False
        self._hopeless = False
        self.failure: GangError | None = None
        self.last_lines: tuple[str, ...] = ()

    def open(self, place: State, log: Log) -> None:
        """From now on workers can come: they find us in `place`."""
        self._log = log
        if self._gathering is None:
            board = StateBoard(place, self._node.job_id, self._node.attempt)
            self._gathering = Gathering(self._node, board, log)

    def ended(self, request_id: str) -> Failure | None:
        """How the gang has failed, None while it has not."""
        error = self.failure
        if error is None:
            return None
        return Failure(error.kind, error.message, error.exit_code, self.last_lines, request_id=request_id)

    @contextmanager
    def around(self, record: Record, place: Workspace, marks: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        self._gather()
        variables = self._prepared(record, place)
        try:
            self._begin(record, place, marks)
            self._arm()
            yield variables
        except leaving.Leave:
            if self.failure is None:
                raise
            record.output = "\n".join(self.last_lines)
            raise self.failure from None
        except ScriptFailedError as error:
            self._ask_for_the_cause(error)
            record.output = record.output or "\n".join(self.last_lines)
            raise
        finally:
            with self._changed:
                self._armed = False
            if self._desk is not None:
                self._desk.close()
                self._desk = None
        self._raise_if_failed()  # in the last moment: our own SIGTERM may still be on its way
        self._tell_all(Message("finish"))

    def close(self, answer: Reply | Failure) -> None:
        """Send everybody home with what became of the job, those too that come only now."""
        if self._gathering is None:
            return
        well = isinstance(answer, Reply)
        with self._changed:
            self._over = True
        if not self._members and not self._hopeless:
            with suppress(AgentError):
                limit_s = _DISMISSAL_S if well else _DISMISSAL_OF_FAILURE_S
                self._gather(min(limit_s, self._node.gang.start_timeout_s))
        for member in self._members or self._gathering.joined():
            if member.channel is not None and member.index not in self._workers:
                self._workers[member.index] = _Worker(self, member, member.channel)
        self._tell_all(Message("end", {"well": well, "message": "" if isinstance(answer, Reply) else answer.message}))
        end = time.monotonic() + _GOODBYE_S
        for worker in self._workers.values():
            worker.leaves_until(end)
        self._gathering.close()

    def heard(self, worker: _Worker, message: Message) -> None:
        """What a worker says; in that worker's own thread."""
        match message.kind:
            case "out" | "err":
                worker.keep(message.body)
                self._hand(message)
            case "grant" | "exit":
                self._hand(message)
            case "said":
                worker.keep(message.body)
            case "failed":
                code = int(message.head["code"])
                self._fail(worker, f"failed: {message.head['message']}", exit_code=code)
            case "stopped":
                self._fail(worker, "was told to stop (SIGTERM)", exit_code=128 + signal.SIGTERM)
            case kind:
                with self._changed:
                    worker.said[kind] = message.head
                    self._changed.notify_all()

    def gone(self, worker: _Worker, how: str) -> None:
        if not self._over:
            self._fail(worker, f"is lost: it {how}")
        with self._changed:
            self._changed.notify_all()

    def _gather(self, limit_s: float | None = None) -> None:
        if self._members:
            self._raise_if_failed()
            return
        assert self._gathering is not None
        try:
            members = self._gathering.wait(self._node.gang.start_timeout_s if limit_s is None else limit_s)
        except BaseException:  # also when we are told to stop meanwhile
            self._hopeless = True
            raise
        self._members = members
        self._workers = {
            member.index: _Worker(self, member, member.channel) for member in members if member.channel is not None
        }

    def _prepared(self, record: Record, place: Workspace) -> Mapping[str, str]:
        sandbox = record.sandbox
        hosts = self._hosts()
        spec = sandbox.function.spec
        variables = mpi_files.write(place, hosts, self._node.index, mpi_files.users_own(sandbox.surroundings, spec))
        identity = to_become(spec.image.user)
        users = frozenset({os.geteuid(), identity.uid if identity else os.geteuid()})
        self._await("hello")
        senders = {worker.index: worker.send for worker in self._workers.values()}
        self._desk = Desk(
            place.agent / mpi_files.SOCKET, senders, self._names(), self._node.index, self._log, users=users
        )
        return variables

    def _hosts(self) -> list[mpi.Host]:
        return [mpi.Host(member.index, member.address, member.slots) for member in self._members]

    def _names(self) -> dict[str, int]:
        """Whom a launcher may mean; a name that two nodes have means neither."""
        main = self._node.index
        own_name = socket.gethostname()
        names = [(str(worker.said["hello"].get("name", "")), worker.index) for worker in self._workers.values()]
        named = dict(names)
        counts = [name for name, _ in names]
        found = {name: index for name, index in named.items() if name and counts.count(name) == 1 and name != own_name}
        for member in self._members:
            found |= {
                member.address: member.index,
                mpi.node_name(member.index): member.index,
                str(member.index): member.index,
            }
        return {**found, "localhost": main, "127.0.0.1": main, own_name: main}

    def _begin(self, record: Record, place: Workspace, marks: Mapping[str, str]) -> None:
        event = record.item.event
        head: dict[str, Any] = {
            "workspace": place.root.name,
            "request_id": record.invocation.request_id,
            "marks": dict(marks),
            "event_bytes": len(event),
        }
        members = json.dumps([[host.index, host.address, host.slots] for host in self._hosts()]).encode()
        for worker in self._workers.values():
            worker.said.pop("ready", None)
        self._tell_all(Message("begin", head, members))
        for start in range(0, len(event), BODY_BYTES):
            self._tell_all(Message("event", {}, event[start : start + BODY_BYTES]))
        self._await("ready")

    def _arm(self) -> None:
        with self._changed:
            self._armed = True
        self._raise_if_failed()

    def _await(self, kind: str) -> None:
        """Until every worker has said it, or the gang has failed."""
        with self._changed:
            while self.failure is None and not all(kind in worker.said for worker in self._workers.values()):
                self._changed.wait(1)
        self._raise_if_failed()

    def _ask_for_the_cause(self, error: ScriptFailedError) -> None:
        """The script ended by itself, and not well; raises GangError when a node has, too."""
        for worker in self._workers.values():
            worker.said.pop("finished", None)
        self._tell_all(Message("finish"))
        end = time.monotonic() + _LAST_WORD_S
        with self._changed:
            while self.failure is None and time.monotonic() < end:
                if all("finished" in worker.said for worker in self._workers.values()):
                    break
                self._changed.wait(0.1)
        if self.failure is not None:
            raise GangError(f"{self.failure.message}; {error.message}", exit_code=error.exit_code) from error

    def _fail(self, worker: _Worker, what: str, *, exit_code: int = 1) -> None:
        """The first node that fails is the cause; what it does to the others is not told."""
        message = f"node {worker.index} ({worker.address}) {what}"
        with self._changed:
            if self.failure is not None or self._over:
                return
            self.last_lines = worker.lines()
            self.failure = GangError(message, exit_code=exit_code)
            armed = self._armed
            self._changed.notify_all()
        self._log.error("the gang has failed", node=worker.index, message=message)
        if armed:
            os.kill(os.getpid(), signal.SIGTERM)  # as from outside: unwinds, with all that the script has started
        if self._desk is not None:
            self._desk.lost(worker.index)
        for other in self._workers.values():
            if other is not worker:
                threading.Thread(
                    target=other.send_if_there,
                    args=(Message("lost", {"node": worker.index, "message": message}),),
                    daemon=True,
                ).start()

    def _raise_if_failed(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _tell_all(self, message: Message) -> None:
        for worker in self._workers.values():
            worker.send_if_there(message)

    def _hand(self, message: Message) -> None:
        desk = self._desk
        if desk is not None:
            desk.hand(message)


class _Worker:
    """A worker as the main node hears it; `said` holds the last message of each other kind."""

    def __init__(self, crew: Crew, member: Member, channel: Channel) -> None:
        self.index, self.address, self._channel = member.index, member.address, channel
        self.said: dict[str, Mapping[str, Any]] = {}
        self._tail = b""
        self._crew = crew
        self._thread = threading.Thread(target=self._listen, name=f"node {member.index}", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Raises Gone."""
        self._channel.send(message)

    def send_if_there(self, message: Message) -> None:
        with suppress(Gone):
            self._channel.send(message)

    def keep(self, text: bytes) -> None:
        self._tail = (self._tail + text)[-_TAIL_BYTES:]

    def lines(self) -> tuple[str, ...]:
        """The last that it wrote, as far as it came here."""
        return tuple(self._tail.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])

    def leaves_until(self, end: float) -> None:
        """Wait for it to hang up; hang up when it does not."""
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            threading.Thread(
                target=self._channel.close, daemon=True
            ).start()  # it may take a second; we do not wait for it
        else:
            self._channel.close()

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message is not None:
                    self._crew.heard(self, message)
        except Gone as error:
            self._crew.gone(self, str(error))
        except (KeyError, TypeError, ValueError) as error:  # what no worker of ours would say
            self._channel.close()
            self._crew.gone(self, f"said what cannot be understood: {error}")
