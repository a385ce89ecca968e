"""One attempt of a job, from its image to its exit code: what ECS does with a task.

It runs on a thread of its own. Everything that goes wrong before the program runs ends the attempt in the words of ECS; how the program ended is
told by its exit code. Whoever wants it to end earlier calls `end`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from faassupervisor.hops import ECS_OVERRIDES
from faassupervisor.layers.unpack import remove_tree
from scar.errors import ScarError
from scar.local.batch.credentials import JobCredentials, UnknownRoleError
from scar.local.batch.images import ImageError, Images
from scar.local.batch.job_logs import LogSettings, NoLogGroupError
from scar.local.batch.job_secrets import NoSecretError, secret_values
from scar.local.batch.properties import override_characters
from scar.local.batch.sandboxing import CannotStartError, Places, check_given, spec_of
from scar.local.batch.seat import Seat
from scar.local.functions.configuration import LogSink
from scar.local.iam.authority import Authority
from scar.local.iam.on_behalf import logs_of, refusal_of_pull, refusal_of_secrets, refusal_of_stream
from scar.local.log_streams import Flusher, LogStream
from scar.local.sandbox.lines import Lines
from scar.local.sandbox.spec import Choice, Ended, Sandbox, Serve

EXITED: Final = "Essential container in task exited"
NOT_STARTED: Final = "Task failed to start"
TIMED_OUT: Final = "Job attempt duration exceeded timeout"
OUT_OF_MEMORY: Final = "OutOfMemoryError: Container killed due to memory usage"
TOO_LONG: Final = f"Container Overrides length must be at most {ECS_OVERRIDES.limit}"
_LOOK_S: Final = 0.25
_LAST_WORDS_S: Final = 60.0

End = Literal["terminated", "reclaimed", "abandoned"]


def host_gone(instance: str, *, fargate: bool) -> str:
    """What a job is told whose machine was taken away. Source: batch/latest/userguide/best-practices, fargate-capacity-providers of ECS"""
    return "Your Spot Task was interrupted." if fargate else f"Host EC2 (instance {instance}) terminated."


@dataclass(frozen=True, slots=True)
class Order:
    """All that an attempt needs to know of its job. `container` is the definition's with the overrides merged in; `told` are variables by
    which Batch tells a child of an array, or a node, which one it is."""

    account: str
    region: str
    job_id: str
    number: int
    queue: str
    environment: str
    fargate: bool
    definition_name: str
    definition: Mapping[str, Any]
    request: Mapping[str, Any]
    container: Mapping[str, Any]
    timeout_s: float | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    task: str = field(default_factory=lambda: secrets.token_hex(16))
    instance: str = field(default_factory=lambda: f"i-{secrets.token_hex(8)}f")

    def variables(self) -> dict[str, str]:
        """What Batch tells every job of itself. Source: batch/latest/userguide/job_env_vars"""
        return {
            "AWS_BATCH_JOB_ID": self.job_id,
            "AWS_BATCH_JOB_ATTEMPT": str(self.number),
            "AWS_BATCH_JQ_NAME": self.queue,
            "AWS_BATCH_CE_NAME": self.environment,
            **self.told,
        }

    @property
    def host_gone(self) -> str:
        return host_gone(self.instance, fargate=self.fargate)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. `reason` is the container's, `status_reason` the job's; `final` when it must not be tried again."""

    exit_code: int | None = None
    reason: str = ""
    status_reason: str = EXITED
    final: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What all attempts share. `endpoint` answers where the daemon listens, `serve` lets it listen for a network of sandboxes too; `authority` knows what
    a job's execution role may do, None where IAM is not enforced."""

    images: Images
    engine: Callable[[], Choice]
    log: LogSink
    flusher: Flusher
    credentials: JobCredentials
    endpoint: Callable[[], str]
    serve: Serve
    attempts: Path
    efs: Path
    stop_s: float
    clock: Callable[[], float]
    wake: Callable[[str], None]
    tell: Callable[[str], None] = lambda _: None
    authority: Authority | None = None


class Attempt:
    """`running` is told the log stream's name once the program runs; `seat` is asked for just before. Without it: this machine's network."""

    def __init__(
        self, order: Order, tools: Tools, *, running: Callable[[str], None], seat: Callable[[], Seat] | None = None
    ) -> None:
        self.order = order
        self._tools, self._running = tools, running
        self._seat = seat or (lambda: Seat(tools.endpoint(), f"ip-10-0-{order.task[:4]}"))
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._asked: End | None = None
        self._kill_at = float("inf")

    @property
    def asked(self) -> End | None:
        """Who wanted it to end, if anybody did."""
        return self._asked

    def end(self, how: End) -> None:
        """Terminated: SIGTERM, and SIGKILL when that does not help; the others at once. Returns before it has ended; again is fine."""
        with self._lock:
            if self._asked is not None and how == "terminated":
                return
            self._asked = how
            sandbox = self._sandbox
            self._kill_at = time.monotonic() + (self._tools.stop_s if how == "terminated" else 0.0)
        if sandbox is not None and how == "terminated":
            sandbox.terminate()
        elif sandbox is not None:
            sandbox.kill()

    def run(self) -> Ending:
        """Returns when nothing of it is left; raises nothing."""
        try:
            with ExitStack() as stack:
                return self._run(stack)
        except (ImageError, CannotStartError, NoLogGroupError, NoSecretError) as error:
            return self._ended_as_asked(Ending(reason=str(error)[:255], status_reason=NOT_STARTED))
        except UnknownRoleError as error:
            return self._ended_as_asked(Ending(status_reason=str(error)))
        except (ScarError, OSError) as error:
            reason = f"CannotStartContainerError: {error}"[:255]
            return self._ended_as_asked(Ending(reason=reason, status_reason=NOT_STARTED))
        finally:
            remove_tree(self._scratch)

    @property
    def _scratch(self) -> Path:
        return self._tools.attempts / self.order.task

    def _run(self, stack: ExitStack) -> Ending:
        order, tools, seat = self.order, self._tools, self._seat()
        added = {**order.variables(), **seat.told}
        if override_characters(order.definition, order.request, added) > ECS_OVERRIDES.limit:
            return Ending(status_reason=TOO_LONG)
        engine = tools.engine().engine
        check_given(order.container, engine)
        execution = order.container.get("executionRoleArn")
        if refusal := refusal_of_pull(tools.authority, execution, str(order.container.get("image") or "")):
            raise ImageError(f"CannotPullContainerError: {refusal}")
        image = tools.images.take(str(order.container.get("image") or ""))
        stack.callback(image.held.close)
        spec = spec_of(
            order.container,
            image,
            {**self._below(seat), **self._own(), **added, **seat.hints, **self._role(seat, stack)},
            definition=order.definition,
            request=order.request,
            places=Places(efs=tools.efs, scratch=self._scratch),
            hostname=seat.hostname,
            place=seat.place,
        )
        settings = LogSettings.of(order.container, order.definition_name, order.account, order.region)
        settings.check()
        sink = self._log_sink(settings)
        stream = LogStream(sink, settings.group, settings.stream(order.task), tools.flusher, tools.clock)
        with self._lock:
            if self._asked is not None:
                return self._ended_as_asked(Ending(status_reason=NOT_STARTED))
            sandbox = self._sandbox = engine.start(spec)
        image.held.close()
        lines = Lines(sandbox.output, lambda told: stream.write(*told))
        self._running(stream.name)
        ended, timed_out = self._wait(sandbox)
        lines.drain(to_end=True, patience_s=_LAST_WORDS_S)
        stream.flush()
        reason = OUT_OF_MEMORY if ended.out_of_memory else ""
        code = 137 if ended.out_of_memory else ended.exit_code
        if timed_out:
            return Ending(code, reason, TIMED_OUT, final=True)
        return self._ended_as_asked(Ending(code, reason))

    def _wait(self, sandbox: Sandbox) -> tuple[Ended, bool]:
        """How it ended, and whether because it had taken too long."""
        timeout_s = self.order.timeout_s
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        timed_out = False
        while True:
            now = time.monotonic()
            if now >= deadline and self._asked is None:
                timed_out, deadline = True, float("inf")
                self.end("terminated")
            if now >= self._kill_at:
                sandbox.kill()
            left = min(deadline, self._kill_at) - now
            ended = sandbox.wait(max(0.0, min(left, _LOOK_S if self._asked else 1.0)))
            if ended is not None:
                return ended, timed_out

    def _ended_as_asked(self, ending: Ending) -> Ending:
        if self._asked == "reclaimed":
            return Ending(status_reason=self.order.host_gone)
        if self._asked == "terminated":
            return Ending(ending.exit_code, ending.reason, "", final=True)
        return ending

    def _below(self, seat: Seat) -> dict[str, str]:
        """What the definition and the submission may say otherwise."""
        order = self.order
        below = {"AWS_ENDPOINT_URL": seat.endpoint, "AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
        if order.fargate:  # ECS's agent tells the region there, on EC2 it does not
            below |= {
                "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
                "AWS_REGION": order.region,
                "AWS_DEFAULT_REGION": order.region,
            }
        return below

    def _log_sink(self, settings: LogSettings) -> LogSink:
        """Raises NoLogGroupError when the execution role may not make the stream."""
        tools, role = self._tools, self.order.container.get("executionRoleArn")
        if tools.authority is None or not role:
            return tools.log
        if refusal := refusal_of_stream(tools.authority, role, settings.group, settings.stream(self.order.task)):
            raise NoLogGroupError(f"ResourceInitializationError: failed to create Cloudwatch log stream: {refusal}")
        return logs_of(tools.log, tools.authority, role, tools.tell)

    def _own(self) -> dict[str, str]:
        order = self.order
        role, place = order.container.get("executionRoleArn"), f"arn:aws:ssm:{order.region}:{order.account}"
        if refusal := refusal_of_secrets(self._tools.authority, role, order.container, place):
            raise NoSecretError(f"ResourceInitializationError: unable to pull secrets: {refusal}")
        plain = {entry["name"]: entry.get("value", "") for entry in order.container.get("environment") or ()}
        return {**plain, **secret_values(order.container, order.account, order.region, self._tools.wake)}

    def _role(self, seat: Seat, stack: ExitStack) -> dict[str, str]:
        order, credentials = self.order, self._tools.credentials
        role = order.container.get("jobRoleArn")
        if not role:
            return {}
        name, token = credentials.issue(account=order.account, region=order.region, role=str(role))
        stack.callback(credentials.revoke, name)
        return seat.credentials(name, token)
