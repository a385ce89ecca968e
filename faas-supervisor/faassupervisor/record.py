"""One record of an event, from its input object to its outputs: the steps that every mode takes, in Lambda and in Batch.

    stage in ─► run ─► exit code 0 ─► stage out

Who may take them, and what else must be written down between them, is the mode's to say (`modes`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from faassupervisor import contract, environ, lineage, outputs, workspace
from faassupervisor.deadline import Deadline
from faassupervisor.errors import BadEventError, ScriptFailedError, ScriptTimedOutError, StageOutError
from faassupervisor.events import DirectItem, HttpItem, Item, ObjectItem, RawItem, http
from faassupervisor.log import Log
from faassupervisor.runners import Exit, Exited, Killed, OutOfTime, Runner, command, describe, exit_code
from faassupervisor.storage import Fetched, Store, UnknownProviderError, Upload, expect_ours
from faassupervisor.workspace import Workspace

if TYPE_CHECKING:
    from faassupervisor import http_answer
    from faassupervisor.sandbox import Sandbox

EVENT_VARIABLE_BYTES: Final = 100 * 1024  # Linux refuses one environment string of 128 KiB (MAX_ARG_STRLEN)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is asked, by whom, until when. `trace_id` is X-Ray's, handed on to the user's process.

    `function_arn` is our own, None outside Lambda. `killed` says that the platform ended all attempts at this request, and that this
    one only puts it into other hands.
    """

    request_id: str
    payload: bytes
    deadline: Deadline
    trace_id: str | None = None
    function_arn: str | None = None
    killed: bool = False


class Company(Protocol):
    """Other machines that take part in a run."""

    def around(
        self, record: Record, place: Workspace, marks: Mapping[str, str]
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Have them ready when the block is entered, and free again when it is left; answers more variables for the run.

        Raises AgentError in place of what the block raises when it was they that failed.
        """
        ...


class Record:
    """The steps for one item; `output`, `published` and `job_id` hold what is known when a step fails. `index` counts the event's records.

    `http` is what the caller of an endpoint is answered, of a run that succeeded.
    """

    def __init__(self, sandbox: Sandbox, item: Item, index: int, invocation: Invocation, log: Log) -> None:
        self.sandbox, self.item, self.index, self.invocation, self.log = sandbox, item, index, invocation, log
        self.output = ""
        self.published: tuple[str, ...] = ()
        self.job_id: str | None = None
        self.http: http_answer.Answer | None = None
        self._lineage: tuple[str, ...] = (sandbox.function.spec.name,)

    @property
    def key(self) -> str | None:
        return self.item.key if isinstance(self.item, ObjectItem) else None

    def work(self, left: ExitStack, marks: Mapping[str, str], company: Company | None = None) -> Workspace:
        """Stage in and run with the variables `marks` besides the record's own. What it leaves on disk goes with `left`."""
        inside = self.sandbox.files(self.invocation.deadline, self.log)
        place = left.enter_context(Workspace(self.sandbox.surroundings.temporary))
        variables = {**self.stage_in(place), **marks}
        with company.around(self, place, marks) if company else nullcontext({}) as more:
            self._run(place, {**variables, **more}, self.sandbox.runner(inside, place, self.log))
        return place

    def publish(self, place: Workspace) -> None:
        """Stage out what the run left in its output directory."""
        rules = self.sandbox.function.spec.outputs
        if not rules:
            return
        uploads = outputs.uploads(place.outbox, outputs.find(place.outbox), rules)
        if not uploads:
            self.log.warning("nothing to publish: no file of the output directory matches an output of the function")
            return
        started = time.monotonic()
        if isinstance(self.item, ObjectItem) and self._store(self.item.provider).superseded(
            self.item, self.invocation.deadline
        ):
            uploads = tuple(replace(upload, replaces=False) for upload in uploads)
        for provider in dict.fromkeys(upload.provider for upload in uploads):
            self._publish_at(provider, [upload for upload in uploads if upload.provider == provider])
        left = len(uploads) - len(self.published)
        if left:
            self.log.warning("the object has a newer version: what is there already was not replaced", files=left)
        self.log.info(
            "staged out",
            files=len(self.published),
            bytes=sum(upload.size for upload in uploads),
            seconds=round(time.monotonic() - started, 3),
        )

    def _publish_at(self, provider: str, uploads: Sequence[Upload]) -> None:
        """To one storage; the files of those before it are published by now."""
        before = self.published
        try:
            store = self._store(provider)
            self.published = before + store.publish(uploads, self.invocation.deadline, self._lineage)
        except UnknownProviderError as error:
            raise StageOutError(str(error), published=before) from error
        except StageOutError as error:
            raise StageOutError(error.message, published=before + error.published) from error

    def _store(self, name: str) -> Store:
        provider = self.sandbox.stores.provider(name)
        if provider is not None and not provider.verify:
            self.log.warning("this storage's certificate is not checked: anyone may stand in its place", provider=name)
        return self.sandbox.stores.of(name)

    def stage_in(self, place: Workspace, *, fetch: bool = True) -> Mapping[str, str]:
        """The input file, the event file; answers the variables of this record. Without `fetch` an object stays where it is."""
        item, invocation = self.item, self.invocation
        event_file = place.agent / "event.json"
        event_file.write_bytes(item.event)
        variables = {
            contract.TMP_INPUT_DIR: str(place.inbox),
            contract.TMP_OUTPUT_DIR: str(place.outbox),
            contract.EVENT_FILE: str(event_file),
            contract.REQUEST_ID: invocation.request_id,
            contract.AWS_LAMBDA_REQUEST_ID: invocation.request_id,
            contract.INSTANCE_IP: self.sandbox.instance_ip,
            contract.SCAR_FUNCTION: self.sandbox.function.spec.name,
        }
        if len(item.event) < EVENT_VARIABLE_BYTES and b"\0" not in item.event:
            variables[contract.EVENT] = item.event.decode("utf-8-sig", "replace")
        if invocation.trace_id:
            variables["_X_AMZN_TRACE_ID"] = invocation.trace_id
        match item:
            case ObjectItem():
                variables.update(self._stage_in_object(item, place, fetch=fetch))
            case RawItem(name=name, body=body):
                (place.inbox / name).write_bytes(item.event if body is None else body)
                variables[contract.INPUT_FILE_PATH] = str(place.inbox / name)
            case HttpItem(body=body):
                (place.inbox / "body").write_bytes(body)
                variables[contract.INPUT_FILE_PATH] = str(place.inbox / "body")
                variables.update(http.variables(item))
            case DirectItem():
                pass
            case _:
                assert_never(item)
        return variables

    def _stage_in_object(self, item: ObjectItem, place: Workspace, *, fetch: bool) -> Mapping[str, str]:
        variables = {contract.STORAGE_OBJECT_KEY: item.key, contract.SCAR_BUCKET: item.bucket}
        if fetch:
            target = place.inbox / workspace.safe_name(item.key)
            started = time.monotonic()
            fetched = self._fetch(item, target)
            seconds = round(time.monotonic() - started, 3)
            through = {"lineage": ",".join(fetched.lineage)} if fetched.lineage else {}
            self.log.info("staged in", bucket=item.bucket, key=item.key, bytes=fetched.size, seconds=seconds, **through)
            variables[contract.INPUT_FILE_PATH] = str(target)
        if item.event_time is not None:
            variables[contract.EVENT_TIME] = item.event_time
        if item.sequencer is not None:
            variables[contract.SCAR_SEQUENCER] = item.sequencer
        return variables

    def _fetch(self, item: ObjectItem, target: Path) -> Fetched:
        """Raises LoopError, before anything of the record runs, when the function itself has had a hand in the object."""
        spec = self.sandbox.function.spec
        try:
            expect_ours(item, spec)
            fetched = self._store(item.provider).fetch(item, target, self.invocation.deadline)
        except UnknownProviderError as error:
            raise BadEventError(f"event: {item.bucket}/{item.key}: {error}") from error
        self._lineage = lineage.through(fetched.lineage, spec.name, f"{item.provider}://{item.bucket}/{item.key}")
        return fetched

    def _run(self, place: Workspace, variables: Mapping[str, str], runner: Runner) -> None:
        sandbox, deadline = self.sandbox, self.invocation.deadline
        if deadline.for_process_s() <= 0:
            raise ScriptTimedOutError("no time was left to start the script")
        spec = sandbox.function.spec
        environment = environ.for_process(sandbox.surroundings.variables, spec, variables)
        ended = runner.run(
            self.command(place, environment, runner),
            environment=environment,
            time_s=deadline.for_process_s,
            grace_s=deadline.grace_s,
            adopts_orphans=sandbox.adopts_orphans,
        )
        self.output = ended.log
        self.log.info("script ended", exit_code=exit_code(ended))
        _raise_unless_success(ended)

    def command(self, place: Workspace, environment: Mapping[str, str], runner: Runner) -> command.Command:
        """The script's, or the image's own."""
        function, item = self.sandbox.function, self.item
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
