"""One invocation from its payload to its answer: the agent's story, in order.

    payload ─events.parse─► items;  for each: (image ready) Workspace ─stage in─► run ─► exit code 0 ─stage out─► Run

A record that fails publishes nothing and stops no other record; at the end the invocation fails with the first failure. What one record
leaves behind (files, processes, variables) is gone before the next one starts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from faassupervisor import contract, environ, events, outputs, workspace
from faassupervisor.contract import Failure, Reply, Run
from faassupervisor.deadline import Deadline
from faassupervisor.errors import (
    AgentError,
    BadEventError,
    NotReusableError,
    ScriptFailedError,
    ScriptTimedOutError,
    StageOutError,
)
from faassupervisor.events import DirectItem, Item, ObjectItem, RawItem, Refused, Skipped
from faassupervisor.function import Function
from faassupervisor.log import Log
from faassupervisor.runners import (
    RUNNERS,
    Exit,
    Exited,
    Killed,
    OutOfTime,
    Runner,
    Setting,
    command,
    describe,
    exit_code,
    tree,
)
from faassupervisor.storage import Stores
from faassupervisor.workspace import Workspace

if TYPE_CHECKING:
    from faassupervisor.roots.inside import Inside
    from faassupervisor.roots.root import Root

EVENT_VARIABLE_BYTES: Final = 100 * 1024  # Linux refuses one environment string of 128 KiB (MAX_ARG_STRLEN)
LAST_LINES: Final = 20
_MODES: Final = frozenset({"lambda"})
# Lambda's init phase has a whole processor whatever the memory size, so that a small function gets its image several times sooner than
# at its first event. But it ends after 10 s (lambda/latest/dg/lambda-runtime-environment) and then begins again as part of
# the first event. So we stop before, and try only what fits: at 100 MB/s, which one stream and one processor reach.
_INIT_S: Final = 7.0
_INIT_BYTES: Final = 600 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is asked, by whom, until when. `trace_id` is X-Ray's, handed on to the user's process."""

    request_id: str
    payload: bytes
    deadline: Deadline
    trace_id: str | None = None


class Sandbox:
    """What stays from one invocation to the next: the function, the clients, and what lay in the temporary directory at the start."""

    def __init__(self, surroundings: environ.Surroundings, function: Function) -> None:
        self.surroundings = surroundings
        self.function = function
        self.stores = Stores(surroundings.variables)
        self.adopts_orphans = tree.become_keeper()
        self.instance_ip = environ.instance_ip()
        self.reusable = True
        workspace.sweep(surroundings.temporary)
        self._kept = workspace.names(surroundings.temporary)
        self._root = self._make_root()

    def sweep(self, log: Log) -> None:
        """Leave the temporary directory as it was at the start, as far as it is ours."""
        temporary = self.surroundings.temporary
        try:
            removed = (
                workspace.remove_all_but(temporary, self._kept | (self._root.names() if self._root else frozenset()))
                if self.surroundings.owns_temporary
                else workspace.sweep(temporary)
            )
        except OSError as error:
            raise NotReusableError(
                f"{temporary} could not be cleaned: {error.strerror}: this sandbox is given up"
            ) from error
        if removed:
            log.debug("removed what was left in the temporary directory", entries=removed)

    def warm(self, log: Log) -> None:
        """Make the clients that the function will surely need, and unpack its image, while nobody waits yet.

        What cannot be done in time, or fails, is left to the first event, whose caller can be told.
        """
        for storage in (*self.function.spec.inputs, *self.function.spec.outputs):
            self.stores.of(storage.provider)
        root = self.function.spec.root
        if root is not None and root.unpacked_bytes <= _INIT_BYTES:
            try:
                self.files(Deadline(_INIT_S, 0), log)
            except AgentError as error:
                log.warning("the image is not unpacked yet: the first event does it", reason=error.message)

    def files(self, deadline: Deadline, log: Log) -> Inside | None:
        """The image's files as they were built; None where the agent runs inside the image. See `Root.ready`."""
        return self._root.ready(deadline, log) if self._root else None

    def runner(self, inside: Inside | None, place: Workspace, log: Log) -> Runner:
        make = RUNNERS["fakechroot" if inside else "process"]
        return make(Setting(self.function.spec, place, log, inside, self.surroundings.fakechroot))

    def _make_root(self) -> Root | None:
        image = self.function.spec.root
        if image is None:
            return None
        from faassupervisor.roots.root import Root

        return Root(image, self.surroundings.temporary, self.stores)


def supervise(sandbox: Sandbox, invocation: Invocation, log: Log) -> Reply | Failure:
    """Run everything an event asks for. Failures are answers; only a defect of the agent raises."""
    spec = sandbox.function.spec
    if spec.mode not in _MODES:
        message = f"function {spec.name!r}: mode {spec.mode!r} is not served by this agent"
        return _failure([(AgentError(message), None)], (), invocation.request_id)
    try:
        sandbox.sweep(log)
        outcomes = events.parse(invocation.payload)
    except AgentError as error:
        return _failure([(error, None)], (), invocation.request_id)

    runs: list[Run] = []
    skipped: list[str] = []
    failures: list[tuple[AgentError, Run | None]] = []
    for outcome in outcomes:
        match outcome:
            case Skipped(reason=reason):
                log.info("skipped a record", reason=reason)
                skipped.append(reason)
            case Refused(reason=reason, key=key):
                log.error("refused a record", reason=reason)
                failures.append((BadEventError(f"event: {reason}"), None))
                runs.append(Run(key, 1))
            case _:
                run, failed = _one(sandbox, outcome, invocation, log)
                runs.append(run)
                if failed is not None:
                    log.error("a record failed", kind=failed.kind, message=failed.message, key=run.key)
                    failures.append((failed, run))
    if failures:
        return _failure(failures, tuple(runs), invocation.request_id)
    return Reply(invocation.request_id, tuple(runs), tuple(skipped))


def _one(sandbox: Sandbox, item: Item, invocation: Invocation, log: Log) -> tuple[Run, AgentError | None]:
    """One record in a workspace of its own."""
    started = time.monotonic()
    work = _Record(sandbox, item, invocation, log)
    failure: AgentError | None = None
    try:
        work.process()
    except AgentError as error:
        failure = error
    except OSError as error:
        failure = AgentError(f"this record could not be served: {error.strerror or error}: {error.filename!a}")
    if isinstance(failure, NotReusableError):
        sandbox.reusable = False
    try:
        sandbox.sweep(log)
    except NotReusableError as error:
        failure = failure or error
    code = failure.exit_code if failure else 0
    if isinstance(failure, StageOutError):
        work.published = failure.published
    key = item.key if isinstance(item, ObjectItem) else None
    return Run(key, code, work.published, work.output, round(time.monotonic() - started, 3)), failure


class _Record:
    """The steps for one item; `output` and `published` hold what is known when a step fails."""

    def __init__(self, sandbox: Sandbox, item: Item, invocation: Invocation, log: Log) -> None:
        self._sandbox, self._item, self._invocation, self._log = sandbox, item, invocation, log
        self.output = ""
        self.published: tuple[str, ...] = ()

    def process(self) -> None:
        inside = self._sandbox.files(self._invocation.deadline, self._log)
        with ExitStack() as stack:
            place = stack.enter_context(Workspace(self._sandbox.surroundings.temporary))
            variables = self._stage_in(place)
            self._run(place, variables, self._sandbox.runner(inside, place, self._log))
            self._stage_out(place)

    def _stage_in(self, place: Workspace) -> Mapping[str, str]:
        """The input file, the event file; answers the variables of this record."""
        item, invocation = self._item, self._invocation
        event_file = place.agent / "event.json"
        event_file.write_bytes(item.event)
        variables = {
            contract.TMP_INPUT_DIR: str(place.inbox),
            contract.TMP_OUTPUT_DIR: str(place.outbox),
            contract.EVENT_FILE: str(event_file),
            contract.REQUEST_ID: invocation.request_id,
            contract.AWS_LAMBDA_REQUEST_ID: invocation.request_id,
            contract.INSTANCE_IP: self._sandbox.instance_ip,
            contract.SCAR_FUNCTION: self._sandbox.function.spec.name,
        }
        if len(item.event) < EVENT_VARIABLE_BYTES and b"\0" not in item.event:
            variables[contract.EVENT] = item.event.decode("utf-8-sig", "replace")
        if invocation.trace_id:
            variables["_X_AMZN_TRACE_ID"] = invocation.trace_id
        match item:
            case ObjectItem():
                variables.update(self._stage_in_object(item, place))
            case RawItem(name=name):
                (place.inbox / name).write_bytes(item.event)
                variables[contract.INPUT_FILE_PATH] = str(place.inbox / name)
            case DirectItem():
                pass
            case _:
                assert_never(item)
        return variables

    def _stage_in_object(self, item: ObjectItem, place: Workspace) -> Mapping[str, str]:
        target = place.inbox / workspace.safe_name(item.key)
        started = time.monotonic()
        size = self._sandbox.stores.of(item.provider).fetch(item, target, self._invocation.deadline)
        self._log.info(
            "staged in", bucket=item.bucket, key=item.key, bytes=size, seconds=round(time.monotonic() - started, 3)
        )
        variables = {
            contract.INPUT_FILE_PATH: str(target),
            contract.STORAGE_OBJECT_KEY: item.key,
            contract.SCAR_BUCKET: item.bucket,
        }
        if item.event_time is not None:
            variables[contract.EVENT_TIME] = item.event_time
        if item.sequencer is not None:
            variables[contract.SCAR_SEQUENCER] = item.sequencer
        return variables

    def _run(self, place: Workspace, variables: Mapping[str, str], runner: Runner) -> None:
        sandbox, deadline = self._sandbox, self._invocation.deadline
        if deadline.for_process_s() <= 0:
            raise ScriptTimedOutError("no time was left to start the script")
        spec = sandbox.function.spec
        environment = environ.for_process(sandbox.surroundings.variables, spec, variables)
        ended = runner.run(
            self._command(place, environment, runner),
            environment=environment,
            time_s=deadline.for_process_s,
            grace_s=deadline.grace_s,
            adopts_orphans=sandbox.adopts_orphans,
        )
        self.output = ended.log
        self._log.info("script ended", exit_code=exit_code(ended))
        _raise_unless_success(ended)

    def _command(self, place: Workspace, environment: Mapping[str, str], runner: Runner) -> command.Command:
        function, item = self._sandbox.function, self._item
        arguments = item.arguments if isinstance(item, DirectItem) else None
        script = function.script
        if isinstance(item, DirectItem) and item.script is not None:
            script = place.agent / "script"
            script.write_bytes(item.script)
            script.chmod(0o700)
        name = function.spec.name
        if script is None:
            return command.of_image(function.spec.image, arguments, environment, function=name, real=runner.real)
        return command.of_script(runner.visible(script), arguments or (), environment, function=name, real=runner.real)

    def _stage_out(self, place: Workspace) -> None:
        rules = self._sandbox.function.spec.outputs
        if not rules:
            return
        uploads = outputs.uploads(place.outbox, outputs.find(place.outbox), rules)
        if not uploads:
            self._log.warning("nothing to publish: no file of the output directory matches an output of the function")
            return
        started = time.monotonic()
        self.published = self._sandbox.stores.of(rules[0].provider).publish(uploads, self._invocation.deadline)
        self._log.info(
            "staged out",
            files=len(uploads),
            bytes=sum(upload.size for upload in uploads),
            seconds=round(time.monotonic() - started, 3),
        )


def _raise_unless_success(ended: Exit) -> None:
    match ended:
        case Exited(code=0):
            return
        case Exited() | Killed():
            raise ScriptFailedError(describe(ended), exit_code=exit_code(ended))
        case OutOfTime():
            raise ScriptTimedOutError(describe(ended))
        case _:
            assert_never(ended)


def _failure(failures: list[tuple[AgentError, Run | None]], runs: tuple[Run, ...], request_id: str) -> Failure:
    """The first failure speaks for all; it says how many there were."""
    error, run = failures[0]
    message = error.message if len(runs) <= 1 else f"{error.message} ({len(failures)} of {len(runs)} records failed)"
    lines = tuple(run.output.splitlines()[-LAST_LINES:]) if run is not None else ()
    return Failure(error.kind, message, error.exit_code, lines, runs, request_id)
