"""One attempt of a multi-node parallel job: a network, the main node, the others once it runs, and the end of all when the main node ends.

Source: batch/latest/userguide/job-lifecycle (of MNP jobs), multi-node-parallel-jobs. The main node is launched first; when it is RUNNING the others
are, in random order. A child's end does nothing to the others. The main node's end is the job's, and the other nodes are stopped. A time limit
is the whole job's. AWS calls the job ended when the main node is; here it has ended when nothing of it is left, so that neither another
attempt nor another job meets survivors: a little later where nodes do not end by themselves.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from typing import Final, Protocol

from scar.errors import ScarError
from scar.local.batch.attempt import NOT_STARTED, TIMED_OUT, Attempt, End, Ending, Order, Tools
from scar.local.batch.seat import Seat
from scar.local.sandbox.spec import Network

MAIN_OVER: Final = "The main node has ended"
_NOTICED_S: Final = 1.0  # until the nodes are stopped that the main node leaves behind; AWS notices its end no sooner


class Watcher(Protocol):
    """Is told how it is with each node, on many threads at once and without any lock held."""

    def starting(self, index: int, seat: Seat) -> None: ...

    def running(self, index: int, stream: str) -> None: ...

    def ended(self, index: int, ending: Ending) -> None:
        """It succeeded when its exit code is 0 and its end is not `final`. Without a `status_reason`: whatever the job's is."""


class GangAttempt:
    """`orders` are the nodes', by index, without time limits of their own. Ends as `attempt.Attempt` does."""

    def __init__(
        self,
        orders: Sequence[Order],
        main: int,
        tools: Tools,
        *,
        watcher: Watcher,
        timeout_s: float | None,
        tell: Callable[[str], None],
    ) -> None:
        self._main, self._tools, self._watcher, self._timeout_s, self._tell = main, tools, watcher, timeout_s, tell
        self._choice = cache(tools.engine)  # places are of one engine
        shared = replace(tools, engine=self._choice)
        self._attempts = [
            Attempt(order, shared, running=partial(self._running, index), seat=partial(self._seat, index))
            for index, order in enumerate(orders)
        ]
        self._changed = threading.Condition()
        self._network: Network | None = None
        self._threads: list[threading.Thread] = []
        self._begun = 0
        self._main_runs = False
        self._over: dict[int, Ending] = {}
        self._asked: End | None = None
        self._why = ""  # nodes are stopped, where nobody asked for the job's end

    @property
    def asked(self) -> End | None:
        """Who wanted the whole of it to end, if anybody did."""
        return self._asked

    def end(self, how: End, node: int | None = None) -> None:
        """As `Attempt.end`; only a host is taken away from one node alone, from the main node if it is not said from which."""
        if how == "reclaimed":
            self._attempts[self._main if node is None else node].end(how)
            return
        with self._changed:
            if self._asked is not None and how == "terminated":
                return
            self._asked = how
        self._end_all(how)

    def run(self) -> Ending:
        """Returns when nothing of it is left."""
        tools = self._tools
        gang = self._attempts[self._main].order.task[:8]
        hostnames = [f"ip-10-0-{gang}-{index}" for index in range(len(self._attempts))]
        with ExitStack() as stack:
            try:
                self._network = self._choice().engine.network(hostnames, endpoint=tools.endpoint(), serve=tools.serve)
            except (ScarError, OSError) as error:
                return Ending(reason=f"CannotStartContainerError: {error}"[:255], status_reason=NOT_STARTED)
            stack.callback(self._network.close)
            stack.callback(self._join)
            stack.callback(self._end_all, "terminated")  # nothing is left to end, unless something here failed
            return self._run()

    def _run(self) -> Ending:
        self._start(self._main)
        with self._changed:
            self._changed.wait_for(lambda: self._main_runs or self._main in self._over)
        others = [index for index in range(len(self._attempts)) if index != self._main]
        random.shuffle(others)
        for index in others:
            if self._main in self._over or self._asked:
                break
            self._start(index)
        timed_out = not self._main_ended(self._timeout_s if self._main_runs else None) and self._asked is None
        if timed_out:
            self._stop(TIMED_OUT)
        self._main_ended()
        if not timed_out:
            self._give_time()
            self._stop(MAIN_OVER)
        ending = self._over[self._main]
        return replace(ending, status_reason=TIMED_OUT, final=True) if timed_out else ending

    def _main_ended(self, timeout_s: float | None = None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._main in self._over, timeout_s)

    def _give_time(self) -> None:
        """The other nodes may end by themselves, before they are stopped."""
        patience_s = min(_NOTICED_S, self._tools.stop_s)
        with self._changed:
            self._changed.wait_for(lambda: bool(self._asked) or len(self._over) == self._begun, patience_s)

    def _stop(self, why: str) -> None:
        with self._changed:
            if self._asked is None:
                self._why = why
        self._end_all("terminated")

    def _end_all(self, how: End) -> None:
        for attempt in self._attempts:
            attempt.end(how)

    def _start(self, index: int) -> None:
        self._watcher.starting(index, self._seat(index))
        self._begun += 1
        thread = threading.Thread(target=self._node, args=(index,), name=f"node {index}", daemon=True)
        try:
            thread.start()
            self._threads.append(thread)
        except RuntimeError as error:  # the machine has no thread left; nothing of the node has begun
            self._ended(index, Ending(status_reason=NOT_STARTED, reason=f"CannotStartContainerError: {error}"))

    def _node(self, index: int) -> None:
        attempt = self._attempts[index]
        try:
            ending = attempt.run()
        except Exception as error:  # noqa: BLE001  # a door: the job must not run for ever because we failed
            self._tell(f"node {attempt.order.job_id} failed: {type(error).__name__}: {error}")
            ending = Ending(status_reason=NOT_STARTED, reason=f"The local AWS failed: {type(error).__name__}"[:255])
        if attempt.asked == "terminated" and self._why:
            ending = replace(ending, status_reason=self._why, final=self._why == TIMED_OUT)
        self._ended(index, ending)

    def _ended(self, index: int, ending: Ending) -> None:
        try:
            if self._asked != "abandoned":
                self._watcher.ended(index, ending)
        finally:
            with self._changed:
                self._over[index] = ending
                self._changed.notify_all()

    def _running(self, index: int, stream: str) -> None:
        self._watcher.running(index, stream)
        if index == self._main:
            with self._changed:
                self._main_runs = True
                self._changed.notify_all()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _seat(self, index: int) -> Seat:
        assert self._network is not None, "nodes are started in a network"
        return Seat.of_node(self._network, index, self._main)
