"""Which sandbox runs an invocation? Warm ones by exact configuration, new ones as needed, idle ones retired."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scar.limits import LAMBDA_CONCURRENCY
from scar.local.functions.configuration import Configuration, Invocation, Outcome, StoppingError, ThrottledError
from scar.local.functions.sandboxes import Environment

_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be alive. `asynchronous_memory_mib` is the sum of MemorySize up to which queued events are started."""

    concurrency: int = LAMBDA_CONCURRENCY
    idle_s: float = 300.0
    idle_sandboxes: int = 32
    idle_memory_mib: int = 2048
    asynchronous_memory_mib: int = 4096


@dataclass(frozen=True, slots=True)
class Counts:
    """What the pool holds of one function, and what it has run since it was made."""

    warm: int
    busy: int
    runs: int
    failures: int


class Pool:
    """Environments of all functions. Functions are named by their ARN without qualifier."""

    def __init__(
        self,
        launch: Callable[[Configuration], Environment],
        *,
        bounds: Bounds | None = None,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self._launch, self._bounds, self._freed = launch, bounds or Bounds(), freed
        self._lock = threading.Lock()
        self._idle: defaultdict[Configuration, list[Environment]] = defaultdict(list)
        self._current: dict[tuple[str, str], Configuration] = {}
        self._busy: set[Environment] = set()
        self._in_flight: Counter[str] = Counter()
        self._memory_in_flight = 0
        self._runs: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._retired: list[Environment] = []
        self._wake = threading.Condition(self._lock)
        self._stopped = False
        self._reaper = threading.Thread(target=self._reap, name="sandbox-reaper", daemon=True)
        self._reaper.start()

    def run(self, configuration: Configuration, invocation: Invocation, *, reserved: int | None = None) -> Outcome:
        """Run in a warm sandbox or a new one. Raises ThrottledError, CannotRunError or StoppingError; none of them ran anything to its end."""
        self._enter(configuration, reserved)
        failed = True
        try:
            environment = self._take(configuration)
            try:
                outcome = environment.invoke(invocation)
            finally:
                self._give_back(environment)
            failed = outcome.failed
            return outcome
        finally:
            self._leave(configuration, failed=failed)

    def may_run(self, arn: str, memory_mib: int, reserved: int | None) -> bool:
        """Whether a queued event of this function should be started now."""
        with self._lock:
            if reserved is not None and self._in_flight[arn] >= reserved:
                return False
            together = self._memory_in_flight + memory_mib
            return self._memory_in_flight == 0 or together <= self._bounds.asynchronous_memory_mib

    def retire(self, arn: str) -> None:
        """Let the function's idle sandboxes go now and the busy ones after what they do."""
        with self._lock:
            for key in [key for key in self._current if key[0] == arn]:
                del self._current[key]
            self._sweep(lambda configuration: configuration.arn == arn)

    def counts(self) -> Mapping[str, Counts]:
        with self._lock:
            warm: Counter[str] = Counter()
            for configuration, environments in self._idle.items():
                warm[configuration.arn] += len(environments)
            arns = set(warm) | set(self._in_flight) | set(self._runs)
            return {
                arn: Counts(warm[arn], self._in_flight[arn], self._runs[arn], self._failures[arn])
                for arn in sorted(arns)
            }

    def stop(self) -> None:
        """Kill every sandbox, idle or busy; what is in flight raises StoppingError."""
        with self._lock:
            self._stopped = True
            self._sweep(lambda _: True)
            busy = tuple(self._busy)
            self._wake.notify_all()
        for environment in busy:
            environment.kill()
        self._reaper.join()

    # Inside.

    def _enter(self, configuration: Configuration, reserved: int | None) -> None:
        arn = configuration.arn
        with self._lock:
            if self._stopped:
                raise StoppingError
            if reserved is not None and self._in_flight[arn] >= reserved:
                raise ThrottledError("ReservedFunctionConcurrentInvocationLimitExceeded")
            if self._in_flight.total() >= self._bounds.concurrency:
                raise ThrottledError("ConcurrentInvocationLimitExceeded")
            self._in_flight[arn] += 1
            self._memory_in_flight += configuration.memory_mib

    def _leave(self, configuration: Configuration, *, failed: bool) -> None:
        arn = configuration.arn
        with self._lock:
            self._in_flight[arn] -= 1
            if not self._in_flight[arn]:
                del self._in_flight[arn]
            self._memory_in_flight -= configuration.memory_mib
            self._runs[arn] += 1
            self._failures[arn] += failed
        self._freed()

    def _take(self, configuration: Configuration) -> Environment:
        with self._lock:
            place = (configuration.arn, configuration.version)
            if self._current.get(place) != configuration:
                self._current[place] = configuration
                self._sweep(lambda other: (other.arn, other.version) == place and other != configuration)
            idle = self._idle[configuration]
            while idle:
                environment = idle.pop()
                if environment.usable:
                    self._busy.add(environment)
                    return environment
                self._retired.append(environment)
        environment = self._launch(configuration)
        with self._lock:
            self._busy.add(environment)
            stopped = self._stopped
        if stopped:
            self._give_back(environment)
            raise StoppingError
        return environment

    def _give_back(self, environment: Environment) -> None:
        configuration = environment.configuration
        with self._lock:
            self._busy.discard(environment)
            current = self._current.get((configuration.arn, configuration.version)) == configuration
            if current and environment.usable and not self._stopped:
                self._idle[configuration].append(environment)
                return
        environment.kill()

    def _sweep(self, which: Callable[[Configuration], bool]) -> None:
        """With the lock held: hand the idle environments of some configurations to the reaper."""
        for configuration in [configuration for configuration in self._idle if which(configuration)]:
            self._retired.extend(self._idle.pop(configuration))
        if self._retired:
            self._wake.notify_all()

    def _reap(self) -> None:
        while True:
            with self._lock:
                if not self._retired and not self._stopped:
                    self._wake.wait(_LOOK_S)
                self._retire_idle()
                retired, self._retired = self._retired, []
                stopped = self._stopped
            for environment in retired:
                environment.kill()
            if stopped and not retired:
                return

    def _retire_idle(self) -> None:
        """With the lock held: dead ones, those idle for too long, and the longest idle while there are too many."""
        now, bounds = time.monotonic(), self._bounds
        idle = sorted(
            (env for envs in self._idle.values() for env in envs), key=lambda env: env.idle_since, reverse=True
        )
        memory_mib = 0
        for number, environment in enumerate(idle):
            memory_mib += environment.peak_memory_mib()
            if (
                not environment.usable
                or now - environment.idle_since > bounds.idle_s
                or number >= bounds.idle_sandboxes
                or memory_mib > bounds.idle_memory_mib
            ):
                self._idle[environment.configuration].remove(environment)
                self._retired.append(environment)
        for configuration in [configuration for configuration, envs in self._idle.items() if not envs]:
            del self._idle[configuration]
