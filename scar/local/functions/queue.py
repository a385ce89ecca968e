"""Where do asynchronous events wait? On disk, one file each, until they have ended; worker threads take them fairly.

    <folder>/<token>.event      a line of JSON, then the payload; complete and on disk before `accept` returns
    <folder>/<token>.tries      how often it has failed and when it is due again (only after a failure)
    <folder>/failed/<token>.*   events that ended in failure, with the reason; the newest are kept

Delivery is at least once: a file goes only after the event has ended, so a killed daemon's next start delivers what is left.
What "run", "retry" and "failed" mean is decided by the `Deliver` that the queue is given.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, assert_never

from scar.limits import LAMBDA_ASYNC_RETRY_DELAYS_S
from scar.local.functions.configuration import StoppingError, Token
from scar.local.onward import steady
from scar.local.state import make_folder, read_json, sync_folder, write_atomically

FAILED_KEPT: Final = 200
_LOOK_S: Final = 0.5
_LONGEST_DELAY_S: Final = max(LAMBDA_ASYNC_RETRY_DELAYS_S)  # of a note that does not say: an earlier SCAR's
_UNWRITTEN_S: Final = 2.0  # between two looks whether a full disk takes how an event ended


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event; its payload stays on disk. Times are seconds since 1970, `function` is an ARN, perhaps qualified."""

    token: str
    request_id: str
    function: str
    account: str
    region: str
    accepted_at: float
    failures: int = 0
    waits: int = 0
    reason: str = ""
    born: float = (
        0.0  # by the steady clock of this process, so not on disk; before it when an earlier one accepted the event
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """The event is done with; its file may go."""


@dataclass(frozen=True, slots=True)
class Again:
    """Deliver it again after `delay_s`. `counted` when the function itself failed."""

    delay_s: float
    reason: str
    counted: bool


@dataclass(frozen=True, slots=True)
class GaveUp:
    """It failed for good; whoever wanted to know has been told."""

    reason: str


Verdict = Ended | Again | GaveUp


class Deliver(Protocol):
    """What the queue asks about an event, from any worker, several at once.

    1. `may_run` tells whether there is room for it now; the queue asks again when it is woken, and twice a second.
    2. `run` runs it and everything that follows from how it ended. StoppingError leaves it for the next start.
    3. `expired` tells whether it has waited longer than its function allows; such an event is given to `run` at once.
    """

    def may_run(self, event: Event) -> bool: ...

    def run(self, event: Event, payload: bytes) -> Verdict: ...

    def expired(self, event: Event) -> bool: ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many events of one function are where."""

    queued: int
    running: int


class EventQueue:
    """Accepts from the moment it is made; delivers between `start` and `stop`."""

    def __init__(
        self,
        folder: Path,
        deliver: Deliver,
        *,
        workers: int,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._deliver, self._workers, self._tell = EventStore(folder), deliver, workers, tell
        self._clock, self._steady = clock, steady
        self._changed = threading.Condition()
        self._accepted: dict[str, Event] = {}
        self._ready: defaultdict[str, deque[Event]] = defaultdict(deque)
        self._turn: deque[str] = deque()
        self._later: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._running: dict[str, Event] = {}
        self._unwritten: dict[str, Verdict] = {}  # of events that have run
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def accept(
        self, function: str, payload: bytes, *, account: str, region: str, request_id: str | None = None
    ) -> Token:
        """Take an event; it is on disk when this returns, and is delivered after `dispatch` or at the next start."""
        now = self._clock()
        request_id = request_id or str(uuid.uuid4())
        event = Event(
            f"{int(now * 1e6):017d}-{request_id}", request_id, function, account, region, now, born=self._steady()
        )
        self._store.write(event, payload)
        with self._changed:
            self._accepted[event.token] = event
        return Token(event.token, request_id)

    def dispatch(self, token: Token) -> None:
        """Let an accepted event run. Again, or for one that has ended: nothing happens."""
        with self._changed:
            event = self._accepted.pop(token.id, None)
            if event is not None:
                self._enqueue(event)

    def start(self) -> int:
        """Queue what an earlier daemon left, and begin to deliver; how many there were."""
        with self._changed:
            here = itertools.chain(*self._ready.values(), (event for _, _, event in self._later))
            known = {*self._accepted, *self._running, *(event.token for event in here)}
            left = [found for found in self._store.load() if found[0].token not in known]
            now = self._clock()
            for event, again in left:
                age_s = max(0.0, now - event.accepted_at)  # 0 when the clock was set back meanwhile
                self._enqueue(replace(event, born=self._steady() - age_s), delay_s=again.left_s(now))
        self._threads = [
            threading.Thread(target=self._work, name=f"lambda-events-{number}", daemon=True)
            for number in range(self._workers)
        ]
        for thread in self._threads:
            thread.start()
        return len(left)

    def stop(self) -> None:
        """Deliver nothing more; returns when no worker is at work (what they ran must have been stopped)."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """Room may have come free."""
        with self._changed:
            self._changed.notify()

    def lengths(self) -> Mapping[str, Lengths]:
        with self._changed:
            queued = Counter({function: len(queue) for function, queue in self._ready.items()})
            queued.update(event.function for _, _, event in self._later)
            running = Counter(event.function for event in self._running.values())
            return {name: Lengths(queued[name], running[name]) for name in sorted({*queued, *running})}

    def waiting(self, limit: int) -> Sequence[Event]:
        """Events that have failed or found no room and wait for another try, soonest first."""
        with self._changed:
            return [entry[2] for entry in heapq.nsmallest(limit, self._later)]

    def failed(self) -> Sequence[Mapping[str, Any]]:
        """The newest events that ended in failure, each with its reason."""
        return self._store.failed()

    # Inside.

    def _enqueue(self, event: Event, *, delay_s: float = 0.0) -> None:
        if delay_s > 0:
            heapq.heappush(self._later, (time.monotonic() + delay_s, next(self._order), event))
        else:
            if not self._ready[event.function]:
                self._turn.append(event.function)
            self._ready[event.function].append(event)
        self._changed.notify()

    def _work(self) -> None:
        while (event := self._take()) is not None:
            try:
                verdict = self._run(event)
            finally:
                with self._changed:
                    self._running.pop(event.token, None)
            if verdict is not None:
                self._settle_or_later(event, verdict)

    def _run(self, event: Event) -> Verdict | None:
        if (ended := self._unwritten.pop(event.token, None)) is not None:
            return ended
        try:
            payload = self._store.payload(event)
            return self._deliver.run(event, payload)
        except StoppingError:
            return None
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  # a door: one event must not end the worker of all
            self._tell(f"event {event.request_id} for {event.function}: {type(error).__name__}: {error}")
            return Again(min(30.0, 2.0**event.waits), f"{type(error).__name__}: {error}", counted=False)

    def _settle_or_later(self, event: Event, verdict: Verdict) -> None:
        """How it ended is written down as soon as the disk takes it; the event does not run again meanwhile."""
        try:
            self._settle(event, verdict)
        except FileNotFoundError:
            self._tell(f"event {event.request_id} for {event.function}: its file is gone")
        except OSError as error:
            self._tell(
                f"event {event.request_id} for {event.function}: how it ended could not be written down: {error}"
            )
            with self._changed:
                self._unwritten[event.token] = verdict
                self._enqueue(event, delay_s=_UNWRITTEN_S)

    def _settle(self, event: Event, verdict: Verdict) -> None:
        match verdict:
            case Ended():
                self._store.remove(event)
            case GaveUp(reason):
                self._tell(f"event {event.request_id} for {event.function} failed for good: {reason}")
                self._store.fail(replace(event, reason=reason), self._clock())
            case Again(delay_s, reason, counted):
                event = replace(
                    event, failures=event.failures + counted, waits=0 if counted else event.waits + 1, reason=reason
                )
                if counted:
                    self._store.note(event, Due(self._clock() + delay_s, delay_s))
                with self._changed:
                    self._enqueue(event, delay_s=delay_s)
            case _:
                assert_never(verdict)

    def _take(self) -> Event | None:
        """The next event that may run, functions in turn; None when the queue stops."""
        with self._changed:
            while not self._stopped:
                self._move_due()
                event = self._choose()
                if event is not None:
                    self._running[event.token] = event
                    return event
                self._changed.wait(self._patience_s())
        return None

    def _move_due(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._enqueue(heapq.heappop(self._later)[2])

    def _choose(self) -> Event | None:
        for _ in range(len(self._turn)):
            function = self._turn.popleft()
            queue = self._ready[function]
            takes = self._deliver.may_run(queue[0]) or self._deliver.expired(queue[0])
            event = queue.popleft() if takes else None
            if queue:
                self._turn.append(function)
            else:
                del self._ready[function]
            if event is not None:
                return event
        return None

    def _patience_s(self) -> float:
        if self._turn:
            return _LOOK_S
        if self._later:
            return max(0.0, min(60.0, self._later[0][0] - time.monotonic()))
        return 60.0


@dataclass(frozen=True, slots=True)
class Due:
    """When an event is tried again (seconds since 1970), and how long that was from when it was said."""

    at: float = 0.0
    delay_s: float = 0.0

    def left_s(self, now: float) -> float:
        """Never longer than it was to be, whatever the clock says."""
        return min(self.delay_s, max(0.0, self.at - now))


class EventStore:
    """The files. Every method leaves the folder so that `load` finds each event that was written and not removed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._failed = folder, folder / "failed"
        make_folder(self._failed)
        self._lock = threading.Lock()

    def write(self, event: Event, payload: bytes) -> None:
        kept = {name: value for name, value in asdict(event).items() if name != "born"}
        header = json.dumps({**kept, "bytes": len(payload)}).encode()
        write_atomically(self._path(event), header + b"\n" + payload)

    def payload(self, event: Event) -> bytes:
        return self._path(event).read_bytes().partition(b"\n")[2]

    def note(self, event: Event, due: Due) -> None:
        document = {"failures": event.failures, "reason": event.reason, "due_at": due.at, "delay_s": due.delay_s}
        write_atomically(self._tries(event), json.dumps(document).encode())

    def remove(self, event: Event) -> None:
        self._path(event).unlink(missing_ok=True)
        if event.failures:
            self._tries(event).unlink(missing_ok=True)

    def fail(self, event: Event, now: float) -> None:
        """Move it to the failed ones, of which the oldest go."""
        document = {**asdict(event), "failed_at": now}
        del document["born"]
        write_atomically(self._failed / f"{event.token}.json", json.dumps(document).encode())
        with self._lock:
            self._path(event).replace(self._failed / f"{event.token}.event")
            self._tries(event).unlink(missing_ok=True)
            for old in sorted(self._failed.glob("*.json"))[:-FAILED_KEPT]:
                old.with_suffix(".event").unlink(missing_ok=True)
                old.unlink(missing_ok=True)
        sync_folder(self._folder)

    def failed(self) -> list[Mapping[str, Any]]:
        found = [read_json(path) for path in sorted(self._failed.glob("*.json"), reverse=True)]
        return [document for document in found if isinstance(document, dict)]

    def load(self) -> Iterator[tuple[Event, Due]]:
        """Events in the order of acceptance, each with the time it is due. A damaged file is put aside, never lost."""
        for path in sorted(self._folder.glob("*.event")):
            event = self._read(path)
            if event is None:
                path.replace(self._failed / f"{path.stem}.damaged")
                continue
            tries = read_json(self._tries(event)) or {}
            due = Due(float(tries.get("due_at", 0.0)), float(tries.get("delay_s", _LONGEST_DELAY_S)))
            yield replace(event, failures=int(tries.get("failures", 0)), reason=tries.get("reason", "")), due
        for path in self._folder.glob("*.tries"):
            if not path.with_suffix(".event").exists():
                path.unlink(missing_ok=True)
        for path in self._folder.glob(
            ".*.new"
        ):  # a write that a crash cut short; nobody was told that it had succeeded
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Event | None:
        with path.open("rb") as file:
            try:
                header = json.loads(file.readline())
                complete = path.stat().st_size - file.tell() == header.pop("bytes")
                return Event(**header) if complete else None
            except (ValueError, TypeError, KeyError, AttributeError):
                return None

    def _path(self, event: Event) -> Path:
        return self._folder / f"{event.token}.event"

    def _tries(self, event: Event) -> Path:
        return self._folder / f"{event.token}.tries"
