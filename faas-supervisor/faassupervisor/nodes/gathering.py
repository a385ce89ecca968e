"""How does a gang come together? The main node opens a door, says so on the board, and takes in every worker that proves itself.

What costs something (a look at the board, a power of a large number) is done by a few threads, for callers only who have said a whole hello
and something that may be a proof, and once for each node.
"""

from __future__ import annotations

import hmac
import os
import resource
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from faassupervisor.errors import GangError
from faassupervisor.log import Log
from faassupervisor.nodes.board import Board, BoardError, Entry, in_words
from faassupervisor.nodes.channel import BEAT_S, LOST_S, Channel
from faassupervisor.nodes.door import Caller, Door
from faassupervisor.nodes.handshake import HANDSHAKE_S, Hello
from faassupervisor.nodes.joining import join as join
from faassupervisor.nodes.keys import Agreement, Meeting, Secret, agree
from faassupervisor.nodes.node import Node
from faassupervisor.nodes.strangers import Strangers

_PROVING: Final = 256  # callers that wait for a prover
_PROVING_OF_ONE: Final = 16  # … of one address
_PROVERS: Final = 8
_OTHER_FILES: Final = 512  # that this process may have open beside its channels
_LOOK_S: Final = 0.1
_POST_S: Final = 30.0
_TELL_S: Final = 30.0
_LOOKED_UP: Final = 16  # missing nodes that an error says more about


@dataclass(frozen=True, slots=True)
class Member:
    """One node as the main node knows it. `channel` is None for the main node itself."""

    index: int
    address: str
    slots: int
    architecture: str
    channel: Channel | None


class _Refused(Exception):  # noqa: N818
    pass


class Gathering:
    """The main node's side, from its construction on: it listens at `node.address`, posts itself on the board, takes workers in.

    1. `wait` answers all members, the main node first, then by index; they and their channels are the caller's. The board is cleared then,
       and nothing listens any more.
    2. It raises GangError when time is up, naming the nodes that are missing, and at once when a worker that had joined is gone again.
    3. `joined` are those that have come so far (without the main node), for a last word to them after 2; close their channels.
    4. `close` may be called again, and ends what 1 has not. It does not close the channels of members.

    A gang of one needs no network and no board. The constructor raises GangError when it cannot listen or post.
    """

    def __init__(
        self,
        node: Node,
        board: Board,
        log: Log,
        *,
        beat_s: float = BEAT_S,
        lost_s: float = LOST_S,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self._node, self._board, self._log = node, board, log
        self._beat_s, self._lost_s = beat_s, lost_s
        self._started = time.monotonic()
        self._changed = threading.Condition()  # of the next block
        self._members: dict[int, Member] = {}
        self._being_taken: set[int] = set()
        self._known: dict[int, tuple[Entry, bytes]] = {}  # workers on the board, and what we share with each
        self._broken: BaseException | None = None
        self._over = node.count == 1
        if self._over:
            return
        self._secret = Secret()
        self._strangers = Strangers(log)
        _have_files(node.count + _OTHER_FILES)
        self._proving: Counter[str] = Counter()  # callers, by their address
        self._provers = ThreadPoolExecutor(_PROVERS, thread_name_prefix="prover")
        self._door = Door(node, self._strangers, handshake_s=handshake_s, proves=self._listen_to, breaks=self._break)
        try:
            self._post()
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float) -> tuple[Member, ...]:
        node = self._node
        try:
            missing = self._until_all_are_there(timeout_s)
            if missing:
                raise GangError(
                    f"{in_words(missing)} of {node.count} did not come within {timeout_s:g} s: {self._why(missing)}"
                )
        finally:
            self.close()
        if node.count > 1:
            self._log.info("the gang is complete", nodes=node.count, seconds=round(time.monotonic() - self._started, 3))
        own = Member(node.index, node.address, node.gang.slots, os.uname().machine, None)
        return (own, *self.joined())

    def joined(self) -> tuple[Member, ...]:
        with self._changed:
            return tuple(self._members[index] for index in sorted(self._members))

    def close(self) -> None:
        with self._changed:
            if self._over:
                return
            self._over = True
        self._door.close()
        self._provers.shutdown()
        self._known.clear()
        self._strangers.summed_up()
        try:
            self._board.clear(range(self._node.count))
        except BoardError as error:
            self._log.warning("the board was left as it is", reason=str(error))

    def __enter__(self) -> Gathering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _until_all_are_there(self, timeout_s: float) -> set[int]:
        """Who is missing when time is up."""
        end, told = time.monotonic() + timeout_s, time.monotonic()
        with self._changed:
            while True:
                if self._broken is not None:
                    raise GangError(f"the gang could not be gathered: {self._broken}") from self._broken
                self._nobody_is_gone()
                missing = {*range(self._node.count)} - {self._node.index, *self._members}
                now = time.monotonic()
                if not missing or now >= end:
                    return missing
                if now - told > _TELL_S:
                    told = now
                    self._log.info("waiting for the gang", missing=in_words(missing), of=self._node.count)
                self._changed.wait(min(_LOOK_S, end - now))

    def _nobody_is_gone(self) -> None:
        for member in self._members.values():
            if member.channel is not None and member.channel.gone:
                raise GangError(
                    f"node {member.index} of {self._node.count} ({member.address}) had joined and {_past(member.channel.gone)}"
                    " before all nodes were there"
                )

    def _why(self, missing: set[int]) -> str:
        """What the board knows of the first of them: whether they ever started."""
        looked_up = sorted(missing)[:_LOOKED_UP]
        started: dict[int, Entry] = {}
        try:
            for index in looked_up:
                if entry := self._board.read(index):
                    started[index] = entry
        except BoardError as error:
            return str(error)
        reasons = []
        if started:
            where = ", ".join(dict.fromkeys(entry.address for entry in started.values()))
            reasons.append(
                f"{in_words(started)} started ({where}) but did not get through to {self._node.address}:{self._door.port}"
                " (may the nodes' security group talk to itself?)"
            )
        if never := [index for index in looked_up if index not in started]:
            reasons.append(f"{in_words(never)} never reported" + (" (nor others)" if len(missing) > _LOOKED_UP else ""))
        return "; ".join(reasons)

    def _post(self) -> None:
        node = self._node
        entry = Entry(self._secret.public, node.address, node.gang.slots, os.uname().machine, self._door.port)
        end, pause_s = time.monotonic() + _POST_S, 0.1
        while True:
            try:
                self._board.post(node.index, entry)
            except BoardError as error:
                if time.monotonic() > end:
                    raise GangError(f"the main node cannot be found by the others: {error}") from error
                time.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
            else:
                return

    def _listen_to(self, caller: Caller) -> None:
        """In the door's own thread: without waiting."""
        with self._changed:
            if self._proving[caller.address] < _PROVING_OF_ONE and self._proving.total() < _PROVING:
                self._proving[caller.address] += 1
                self._provers.submit(self._prove, caller)
                return
        caller.connection.close()  # a node comes again
        self._strangers.refused(caller.address, "was one of too many")

    # What follows is the provers'.

    def _prove(self, caller: Caller) -> None:
        assert caller.hello is not None
        taken = False
        try:
            agreement = self._agreement(caller, caller.hello)
            if not hmac.compare_digest(caller.proof, agreement.proof_of_worker):
                raise _Refused(f"said that it is node {caller.hello.index} and does not know the key")  # noqa: TRY301
            self._take_in(caller, caller.hello.index, agreement)
            taken = True
        except (_Refused, BoardError, OSError) as refused:
            self._strangers.refused(caller.address, str(refused))
        except BaseException as error:
            self._break(error)
            raise
        finally:
            with self._changed:
                self._proving[caller.address] -= 1
            if not taken:
                caller.connection.close()

    def _agreement(self, caller: Caller, hello: Hello) -> Agreement:
        node = self._node
        with self._changed:
            known = self._known.get(hello.index)
        if known is None:
            entry = self._board.read(hello.index)
            if entry is None:
                raise _Refused(f"said that it is node {hello.index}, which is not on the board")
            known = entry, self._secret.shared(entry.public)
            with self._changed:
                self._known[hello.index] = known
        entry, shared = known
        return agree(
            shared,
            Meeting(
                node.job_id, node.attempt, node.index, hello.index,
                self._secret.public, entry.public, caller.answer.nonce, hello.nonce,
            ),
        )  # fmt: skip

    def _take_in(self, caller: Caller, index: int, agreement: Agreement) -> None:
        with self._changed:
            if self._over:
                raise _Refused("came when the gathering was over")
            if index in self._members or index in self._being_taken:
                raise _Refused(f"is a second node {index}")
            self._being_taken.add(index)
            entry = self._known[index][0]
        try:
            caller.connection.send(agreement.proof_of_main, socket.MSG_NOSIGNAL)
            channel = Channel(caller.connection, agreement.of_main, beat_s=self._beat_s, lost_s=self._lost_s)
        except BaseException:
            with self._changed:
                self._being_taken.discard(index)
            raise
        with self._changed:
            self._members[index] = Member(index, entry.address, entry.slots, entry.architecture, channel)
            self._changed.notify_all()

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = error
            self._changed.notify_all()


def _have_files(number: int) -> None:
    """A soft limit of 1024 files, which is common, is too few for the largest gangs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        with suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard)
            )


def _past(gone: str) -> str:
    return f"was {gone}" if gone.startswith("silent") else gone.replace("cannot be", "could not be")
