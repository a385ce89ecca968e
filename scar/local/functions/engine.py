"""The Lambda of the local AWS: what becomes of an invocation, from moto's control plane to a sandbox and back.

Invoke (API, moto's event sources) ─► hooks ─► Functions.invoke ─► Pool ─► Environment ─► Sandbox
Event, S3, SNS …                   ─► Functions.accept (on disk) ─► EventQueue ─► Functions.run ─► the same
                                                                        └► retries, dead-letter queue, destinations
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from moto.awslambda.models import LambdaFunction, lambda_backends

from scar.errors import ScarError
from scar.limits import LAMBDA_ASYNC_RETRY_DELAYS_S, LAMBDA_MIB_PER_VCPU
from scar.local.functions import control, hooks, package_hooks
from scar.local.functions.code import CodeStore
from scar.local.functions.configuration import (
    CannotRunError,
    Configuration,
    Invocation,
    LogSink,
    Outcome,
    Rootfs,
    ThrottledError,
    Token,
)
from scar.local.functions.destinations import Destinations, UndeliverableError, record
from scar.local.functions.pool import Bounds, Pool
from scar.local.functions.preparing import Preparing
from scar.local.functions.queue import Again, Ended, Event, EventQueue, GaveUp, Verdict
from scar.local.functions.report import stream_name
from scar.local.functions.sandboxes import INIT_S, Environment
from scar.local.iam.authority import Authority
from scar.local.iam.on_behalf import logs_of
from scar.local.log_streams import Flusher, LogGroup, LogStream
from scar.local.onward import steady
from scar.local.registry import RegistryData
from scar.local.sandbox.spec import Choice, Sandbox, SandboxSpec

RETRY_SCALE: Final = 1 / 60  # AWS retries after one and two minutes; here after one and two seconds
_BACK_OFF_S: Final = (0.25, 30.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the local Lambda is compared with AWS's. `workers` is how many queued events run at once."""

    retry_scale: float = RETRY_SCALE
    workers: int = max(4, 2 * (os.cpu_count() or 1))
    init_s: float = INIT_S

    @property
    def retry_delays_s(self) -> tuple[float, ...]:
        return tuple(delay * self.retry_scale for delay in LAMBDA_ASYNC_RETRY_DELAYS_S)


class Functions:
    """Lambda's data plane. `install` comes before any function is made, `start` after the control plane's state was loaded.

    `endpoint` answers where the local AWS listens, as sandboxes see it; `engine` chooses the sandbox engine, which may take
    a while and may fail (ScarError): it is asked by the first invocation. `state` is a folder of its own.
    `tell` takes a line for the daemon's log; `persist` saves moto's services of these names before an event counts as ended;
    `authority` knows what a function's role may do, None where IAM is not enforced. `files` has a folder for each access point of EFS.
    """

    def __init__(
        self,
        *,
        state: Path,
        endpoint: Callable[[], str],
        log: LogSink,
        registry: RegistryData,
        engine: Callable[[], Choice],
        rootfs: Rootfs,
        pace: Pace | None = None,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady,
        tell: Callable[[str], None] = lambda _: None,
        persist: Callable[[Sequence[str]], None] = lambda _: None,
        authority: Authority | None = None,
        files: Path | None = None,
    ) -> None:
        self.registry = registry
        self.code = CodeStore(state / "code", referred=package_hooks.referred)
        self._endpoint, self._log, self._engine = endpoint, log, engine
        self._preparing = Preparing(
            registry=registry,
            rootfs=rootfs,
            code=self.code,
            folder=state / "runtimes",
            files=files or state / "files",
            tell=tell,
        )
        self._pace, self._clock, self._steady, self._tell = pace or Pace(), clock, steady, tell
        self._credentials = control.RoleCredentials()
        self._flusher = Flusher(tell)
        self._queue = EventQueue(
            state / "events", self, workers=self._pace.workers, clock=clock, steady=steady, tell=tell
        )
        self._pool = Pool(self._launch, bounds=bounds or _bounds_of_this_host(), freed=self._queue.wake)
        self._destinations = Destinations(self._accept_and_dispatch, persist, authority)
        self._authority = authority
        self._installed = contextlib.ExitStack()
        registry.pinned = _images_in_use

    def install(self) -> None:
        """Hook moto: from here on its Lambda runs functions here and its ECR shows what lies in the registry."""
        self._installed.callback(hooks.install(self, self.registry))

    def start(self) -> None:
        """Show the registry's images in ECR, and deliver the events that an earlier daemon accepted and did not finish."""
        self.registry.restore()
        package_hooks.adopt(self.code)
        self.code.collect(grace_s=0)
        left = self._queue.start()
        if left:
            self._tell(f"{left} events of an earlier run are delivered now")

    def stop(self) -> None:
        """Kill every sandbox and unhook moto. Events that have not ended stay on disk for the next start."""
        self._pool.stop()
        self._queue.stop()
        self._flusher.stop()
        self._installed.close()

    def invoke(self, function: LambdaFunction, payload: bytes, *, client_context: str | None = None) -> Outcome:
        """Run now and wait. Raises ThrottledError, CannotRunError or StoppingError."""
        configuration = control.configuration_of(function)
        reserved = control.reserved_concurrency(function)
        return self._pool.run(configuration, Invocation(payload, client_context=client_context), reserved=reserved)

    def accept(self, function_arn: str, payload: bytes, *, account: str, region: str) -> Token:
        """Take an asynchronous event: it is on disk when this returns, and will be delivered at least once."""
        return self._queue.accept(function_arn, payload, account=account, region=region)

    def dispatch(self, token: Token) -> None:
        """Let an accepted event run as soon as there is room."""
        self._queue.dispatch(token)

    def retire(self, function_arn: str) -> None:
        """The function is gone or changed: its warm sandboxes end, busy ones after what they do."""
        self._pool.retire(function_arn)

    def status(self) -> Mapping[str, Any]:
        """What `scar local status` shows; plain values only."""
        counts, lengths = self._pool.counts(), self._queue.lengths()
        functions = {
            arn: {"warm": of.warm, "busy": of.busy, "queued": 0, "runs": of.runs, "failures": of.failures}
            for arn, of in counts.items()
        }
        for name, length in lengths.items():
            arn = ":".join(name.split(":")[:7])
            entry = functions.setdefault(arn, {"warm": 0, "busy": 0, "queued": 0, "runs": 0, "failures": 0})
            entry["queued"] += length.queued
        return {
            "functions": functions,
            "retry_delays_s": list(self._pace.retry_delays_s),
            "asynchronous_at_once": self._pace.workers,
            "waiting_events": [_told(event) for event in self._queue.waiting(20)],
            "failed_events": list(self._queue.failed()),
        }

    # What the queue asks (queue.Deliver).

    def may_run(self, event: Event) -> bool:
        function = control.find(event.function, event.account, event.region)
        if function is None:
            return True
        reserved = control.reserved_concurrency(function)
        return self._pool.may_run(control.unqualified_arn(function), int(function.memory_size), reserved)

    def expired(self, event: Event) -> bool:
        function = control.find(event.function, event.account, event.region)
        return function is not None and self._too_old(event, control.event_settings(function))

    def run(self, event: Event, payload: bytes) -> Verdict:
        function = control.find(event.function, event.account, event.region)
        if function is None:
            return GaveUp("the function does not exist any more")
        settings = control.event_settings(function)
        if self._too_old(event, settings):
            return self._give_up(event, payload, None, settings, function, condition="EventAgeExceeded")
        try:
            configuration = control.configuration_of(function)
            reserved = control.reserved_concurrency(function)
            outcome = self._pool.run(configuration, Invocation(payload, event.request_id), reserved=reserved)
        except ThrottledError as error:
            return Again(_back_off_s(event.waits), f"throttled: {error}", counted=False)
        except CannotRunError as error:
            if error.lasting:
                return GaveUp(str(error))
            return Again(_back_off_s(event.waits), str(error), counted=False)
        if not outcome.failed:
            self._tell_destination(settings.on_success, event, payload, outcome, function, condition="Success")
            return Ended()
        if event.failures < settings.retries:
            delays = self._pace.retry_delays_s
            return Again(delays[min(event.failures, len(delays) - 1)], _short(outcome.payload), counted=True)
        return self._give_up(event, payload, outcome, settings, function, condition="RetriesExhausted")

    # Inside.

    def _accept_and_dispatch(self, arn: str, payload: bytes, account: str, region: str) -> None:
        self.dispatch(self.accept(arn, payload, account=account, region=region))

    def _too_old(self, event: Event, settings: control.EventSettings) -> bool:
        return self._steady() - event.born > settings.max_age_s

    def _give_up(
        self,
        event: Event,
        payload: bytes,
        outcome: Outcome | None,
        settings: control.EventSettings,
        function: LambdaFunction,
        *,
        condition: str,
    ) -> Verdict:
        reason = f"{condition}: {_short(outcome.payload) if outcome is not None else event.reason}"
        if settings.dead_letter is not None:
            try:
                self._destinations.send_dead_letter(settings.dead_letter, payload, outcome, event)
            except UndeliverableError as error:
                reason += f"; the dead-letter queue did not take it: {error}"
        self._tell_destination(settings.on_failure, event, payload, outcome, function, condition=condition)
        return GaveUp(reason)

    def _tell_destination(
        self,
        target: str | None,
        event: Event,
        payload: bytes,
        outcome: Outcome | None,
        function: LambdaFunction,
        *,
        condition: str,
    ) -> None:
        if target is None:
            return
        arn = f"{control.unqualified_arn(function)}:{function.version}"
        document = record(event, payload, outcome, condition=condition, function_arn=arn)
        try:
            self._destinations.send_record(target, document, event, role=str(function.role))
        except UndeliverableError as error:
            self._tell(f"destination of {event.function}, event {event.request_id}: {error}")

    def _launch(self, configuration: Configuration) -> Environment:
        """A new sandbox of this configuration; raises CannotRunError."""
        try:
            engine = self._engine().engine
        except (ScarError, OSError) as error:
            raise CannotRunError(str(error)) from error
        prepared = self._preparing.prepare(configuration, engine)

        def begin(runtime_api: str, log_stream: str) -> Sandbox:
            spec = SandboxSpec(
                rootfs=prepared.rootfs,
                argv=prepared.argv,
                environment=self._environment(configuration, prepared.environment, runtime_api, log_stream),
                working_directory=prepared.working_directory,
                binds=prepared.binds,
                held=tuple(held.descriptor for held in prepared.held),
                restrictions="lambda",
                memory_mib=configuration.memory_mib,
                vcpus=min(configuration.memory_mib / LAMBDA_MIB_PER_VCPU, os.cpu_count() or 1),
                tmp_mib=configuration.tmp_mib,
            )
            try:
                return engine.start(spec)
            except (ScarError, OSError) as error:
                raise CannotRunError(f"{configuration.name} cannot be started: {error}") from error

        group = LogGroup(configuration.account, configuration.region, configuration.log_group)
        named = stream_name(configuration.version, self._clock())
        sink = logs_of(self._log, self._authority, configuration.role, self._tell)
        stream = LogStream(sink, group, named, self._flusher, self._clock)
        try:
            return Environment(configuration, log=stream, begin=begin, init_limit_s=self._pace.init_s)
        finally:
            for held in prepared.held:  # from here on the sandbox holds them
                held.close()

    def _environment(
        self, configuration: Configuration, below: Mapping[str, str], runtime_api: str, log_stream: str
    ) -> dict[str, str]:
        """As AWS documents it: the image's or runtime's variables, over them the function's, over them Lambda's own."""
        return {
            **below,
            "AWS_ENDPOINT_URL": self._endpoint(),
            **dict(configuration.environment),
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_LAMBDA_FUNCTION_NAME": configuration.name,
            "AWS_LAMBDA_FUNCTION_VERSION": configuration.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mib),
            "AWS_LAMBDA_LOG_GROUP_NAME": configuration.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": configuration.region,
            "AWS_DEFAULT_REGION": configuration.region,
            **self._credentials.of(configuration),
        }


def _back_off_s(waits: int) -> float:
    first, most = _BACK_OFF_S
    return min(most, first * 2.0 ** min(waits, 16))


def _short(payload: bytes) -> str:
    text = payload[:1000].decode(errors="replace")
    return text if len(payload) <= 1000 else f"{text}…"


def _told(event: Event) -> Mapping[str, Any]:
    return {
        "request_id": event.request_id,
        "function": event.function,
        "accepted_at": event.accepted_at,
        "failures": event.failures,
        "reason": event.reason,
    }


def _images_in_use() -> list[str]:
    """Digests of every version of every function."""
    digests = []
    for _, _, backend in list(lambda_backends.iter_backends()):
        for group in list(backend._lambdas._functions.values()):  # moto's own listing deep-copies
            versions = [fn for fn in (group["latest"], *group["versions"]) if fn is not None]
            digests += [f"sha256:{fn.code_sha_256}" for fn in versions if fn.package_type == "Image"]
    return digests


def _bounds_of_this_host() -> Bounds:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    return Bounds(idle_memory_mib=max(256, memory_mib // 8), asynchronous_memory_mib=max(512, memory_mib * 3 // 4))
