"""What is one execution environment? A sandbox, its Runtime API and its log stream, serving one invocation at a time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scar.local.functions.configuration import (
    REPLY_BYTES,
    Configuration,
    Invocation,
    Outcome,
    StoppingError,
    error_document,
)
from scar.local.functions.report import (
    Report,
    Tail,
    end_line,
    report_line,
    start_line,
    timeout_line,
)
from scar.local.functions.runtime_api import Next, RuntimeApi
from scar.local.log_streams import LogStream
from scar.local.sandbox.lines import Lines
from scar.local.sandbox.spec import Ended, Sandbox

INIT_S: Final = 10.0  # lambda-runtime-environment: the init phase's own limit


class _Flight:
    """The invocation that the sandbox works on."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.tail = Tail()
        self.fetched = False
        self.reply: bytes | None = None
        self.failed = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    payload: bytes
    error_type: str | None = None
    timed_out: bool = False

    @property
    def status(self) -> str | None:
        if self.timed_out:
            return "timeout"
        return "error" if self.error_type is not None else None


class Environment:
    """One sandbox for as long as it lives. `invoke` is called by one thread at a time; `kill` by anybody, any number of times.

    `begin` makes the sandbox, given the address of its Runtime API and the name of its log stream.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        log: LogStream,
        begin: Callable[[str, str], Sandbox],
        init_limit_s: float = INIT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.configuration = configuration
        self.idle_since = time.monotonic()
        self._log, self._clock, self._init_limit_s = log, clock, init_limit_s
        self._changed = threading.Condition()
        self._flight: _Flight | None = None
        self._ready_at: float | None = None
        self._init_error: bytes | None = None
        self._ended: Ended | None = None
        self._killed = False
        self._used = False
        self._asked = 0
        self._deadline = 0.0
        self._api = RuntimeApi(self)
        self._started = time.monotonic()
        try:
            self._sandbox = begin(self._api.address, log.name)
        except BaseException:
            self._api.close()
            raise
        self._api.open(lambda connection: self._sandbox.is_behind(connection) is not False)
        self._output = Lines(self._sandbox.output, self._said)
        threading.Thread(target=self._await_end, name=f"sandbox {configuration.name}", daemon=True).start()

    # What the pool asks.

    @property
    def usable(self) -> bool:
        """Whether another invocation may be given to it."""
        return self._ended is None and not self._killed and self._init_error is None

    def peak_memory_mib(self) -> int:
        return self._sandbox.peak_memory_mib()

    def kill(self) -> None:
        """End the tree; returns when none of it is left."""
        with self._changed:
            self._killed = True
            self._changed.notify_all()
        self._sandbox.kill()
        self._api.close()

    def invoke(self, invocation: Invocation) -> Outcome:
        """Run one event. Raises StoppingError when somebody else killed the sandbox meanwhile."""
        init_s = self._initialised()
        flight = _Flight(invocation)
        self._log_line(start_line(invocation.request_id, self.configuration.version), flight=flight)
        begun = time.monotonic()
        with self._changed:
            self._deadline = self._clock() + self.configuration.timeout_s
            self._flight = flight
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: flight.reply is not None or self._over(), timeout=self.configuration.timeout_s
            )
        duration_s = time.monotonic() - begun
        verdict = self._verdict(flight)
        self._output.drain(to_end=not self.usable)
        self._report(flight, verdict, duration_s, init_s)
        with self._changed:
            self._flight = None
        self.idle_since = time.monotonic()
        return Outcome(
            payload=verdict.payload,
            failed=verdict.error_type is not None,
            version=self.configuration.version,
            request_id=invocation.request_id,
            log_tail=flight.tail.content(),
        )

    # What the runtime in the sandbox says.

    def next(self) -> Next | None:
        with self._changed:
            if self._ready_at is None:
                self._ready_at = time.monotonic()
            # A runtime that asks again has lost its earlier connection: an event must not be written into that one.
            self._asked += 1
            turn = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: turn != self._asked or self._work() is not None or self._over())
            flight = self._work()
            if turn != self._asked or flight is None or self._over():
                return None
            flight.fetched = True
            invocation = flight.invocation
            return Next(
                request_id=invocation.request_id,
                payload=invocation.payload,
                deadline_ms=int(self._deadline * 1000),
                function_arn=self.configuration.arn,
                client_context=invocation.client_context,
            )

    def answer(self, request_id: str, body: bytes, *, too_large: bool) -> bool:
        if too_large:
            what = f"Response payload size exceeded maximum allowed payload size ({REPLY_BYTES} bytes)."
            return self._settle(request_id, error_document("Function.ResponseSizeTooLarge", what), failed=True)
        return self._settle(request_id, body, failed=False)

    def fail(self, request_id: str, body: bytes) -> bool:
        return self._settle(request_id, body or error_document("Unhandled", "no error was given"), failed=True)

    def init_failed(self, body: bytes) -> None:
        with self._changed:
            self._init_error = body or error_document("Runtime.Unknown", "initialisation failed without saying why")
            self._changed.notify_all()

    # Inside.

    def _work(self) -> _Flight | None:
        flight = self._flight
        return flight if flight is not None and not flight.fetched else None

    def _over(self) -> bool:
        return self._ended is not None or self._killed or self._init_error is not None

    def _settle(self, request_id: str, body: bytes, *, failed: bool) -> bool:
        with self._changed:
            flight = self._flight
            if flight is None or flight.invocation.request_id != request_id or flight.reply is not None:
                return False
            flight.reply, flight.failed = body, failed
            self._changed.notify_all()
            return True

    def _await_end(self) -> None:
        ended = self._sandbox.wait()
        with self._changed:
            self._ended = ended if ended is not None else Ended(exit_code=1)
            self._changed.notify_all()
        self._api.close()

    def _initialised(self) -> float | None:
        """Wait for the runtime's first `next`, at most the init phase's limit; seconds it took, None when it was warm."""
        if self._used:
            return None
        self._used = True
        left = self._started + self._init_limit_s - time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._ready_at is not None or self._over(), timeout=max(0.0, left))
            if self._ready_at is not None:
                return self._ready_at - self._started
            taken = time.monotonic() - self._started
        status = "error" if self._over() else "timeout"
        self._log.write(f"INIT_REPORT Init Duration: {taken * 1000:.2f} ms\tPhase: init\tStatus: {status}")
        return taken

    def _verdict(self, flight: _Flight) -> _Verdict:
        if flight.reply is not None:
            return _Verdict(flight.reply, error_type="Unhandled" if flight.failed else None)
        if self._killed:
            raise StoppingError
        init_error, ended = self._init_error, self._ended
        self.kill()
        self._output.drain(to_end=True)
        if init_error is not None:
            return _Verdict(init_error, error_type="Runtime.InitError")
        if ended is not None:
            return self._exited(flight.invocation.request_id, ended)
        return self._timed_out(flight.invocation.request_id)

    def _exited(self, request_id: str, ended: Ended) -> _Verdict:
        kind, what = "Runtime.ExitError", f"RequestId: {request_id} Error: {exit_phrase(ended)}"
        self._log_line(f"{what}\n{kind}")
        return _Verdict(error_document(kind, what), error_type=kind)

    def _timed_out(self, request_id: str) -> _Verdict:
        limit_s = float(self.configuration.timeout_s)
        self._log_line(timeout_line(request_id, limit_s, self._clock()))
        what = f"RequestId: {request_id} Error: Task timed out after {limit_s:.2f} seconds"
        return _Verdict(error_document("Sandbox.Timedout", what), error_type="Sandbox.Timedout", timed_out=True)

    def _report(self, flight: _Flight, verdict: _Verdict, duration_s: float, init_s: float | None) -> None:
        limit_mib = self.configuration.memory_mib
        report = Report(
            duration_s=duration_s,
            memory_mib=limit_mib,
            used_mib=min(limit_mib, self._sandbox.peak_memory_mib()),
            init_s=init_s,
            status=verdict.status,
            error_type=None if verdict.timed_out else verdict.error_type,
        )
        request_id = flight.invocation.request_id
        self._log_line(end_line(request_id), report_line(request_id, report))

    def _said(self, lines: list[str]) -> None:
        self._log_line(*lines)

    def _log_line(self, *lines: str, flight: _Flight | None = None) -> None:
        flight = flight or self._flight
        if flight is not None:
            for line in lines:
                flight.tail.add(line)
        self._log.write(*lines)


def exit_phrase(ended: Ended) -> str:
    """Lambda's words for how a runtime ended."""
    if ended.out_of_memory:
        return "Runtime exited with error: signal: killed"
    if ended.exit_code == 0:
        return "Runtime exited without providing a reason"
    if ended.exit_code - 128 in signal.valid_signals():
        name = signal.strsignal(ended.exit_code - 128) or str(ended.exit_code - 128)
        return f"Runtime exited with error: signal: {name.lower()}"
    return f"Runtime exited with error: exit status {ended.exit_code}"
