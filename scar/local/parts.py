"""What is plugged into the daemon: the Lambda engine, the registry, Batch, and the choice of what runs containers.

The daemon knows these by their protocols only, so that its tests can plug in something that writes down what it is given.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scar.errors import ScarError
from scar.local.state import State

if TYPE_CHECKING:
    from scar.local.batch.service import Batch
    from scar.local.iam.authority import Authority
    from scar.local.logs import LogSink
    from scar.local.sandbox.spec import Choice, Serve

_log = logging.getLogger("scar.local.daemon")


class FunctionEngine(Protocol):
    """What runs Lambda functions (scar.local.functions)."""

    def install(self) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def invoke(self, function: Any, payload: bytes, *, client_context: str | None = None) -> Any: ...

    def accept(self, function_arn: str, payload: bytes, *, account: str, region: str) -> Any: ...

    def dispatch(self, token: Any) -> None: ...

    def status(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What is plugged into the daemon: the Lambda engine, the registry's WSGI application (None: no registry), what is to be
    said of the sandbox engine, Batch (None: none of ours), and whose token a request to the registry comes with (an access key, and its region)."""

    functions: FunctionEngine
    registry: Any
    engine: Callable[[], Mapping[str, Any]]
    batch: Batch | None = None
    registry_key: Callable[[Mapping[str, Any]], tuple[str, str] | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Around:
    """What the daemon gives to its parts. `endpoint` is known once it listens, and from then on `serve` lets it listen elsewhere too; `persist` saves moto's services of these names;
    `engine` is the container engine asked for, or `auto`; `wake` readies moto for whoever asks it without a request; `authority` knows what roles may do, None where IAM is not enforced."""

    endpoint: Callable[[], str]
    logs: LogSink
    persist: Callable[[Sequence[str]], None]
    engine: str
    wake: Callable[[str], None]
    serve: Serve
    authority: Authority | None = None


class Build(Protocol):
    """Makes the parts of one daemon."""

    def __call__(self, state: State, around: Around, /) -> Parts: ...


class EngineChoice:
    """The sandbox engine: chosen once, in the background from the start on, because really trying one takes a while."""

    def __init__(self, preference: str, scratch: Path) -> None:
        self._preference, self._scratch = preference, scratch
        self._lock = threading.Lock()
        self._chosen: Choice | None = None
        self._refused: ScarError | None = None

    def begin(self) -> None:
        """Choose on a thread of its own; a failure is kept for `told` and for whoever runs a function."""
        threading.Thread(target=self._try, name="engine choice", daemon=True).start()

    def __call__(self) -> Choice:
        """Raises ScarError, with the reason of every rung, when nothing here can run a container."""
        from scar.local.sandbox import choose

        with self._lock:
            if self._chosen is None:
                # Naming `host` is the consent that running without isolation needs.
                try:
                    self._chosen = choose(
                        self._preference, scratch=self._scratch, allow_host=self._preference == "host"
                    )
                except ScarError as error:
                    self._refused = error
                    raise
                self._refused = None
                _log.info("functions run by %s", self._chosen.engine.name)
            return self._chosen

    def told(self) -> Mapping[str, Any]:
        """For the status: the engine and its words on what it keeps apart, or why there is none; empty while being tried."""
        if self._chosen is None:
            return {} if self._refused is None else {"refused": str(self._refused)}
        engine = self._chosen.engine
        return {
            "name": engine.name,
            "isolation": asdict(engine.isolation),
            "passed_over": dict(self._chosen.passed_over),
        }

    def _try(self) -> None:
        try:
            self()
        except ScarError as error:
            _log.warning("no container can be run: %s", error)


def lambda_and_registry(state: State, around: Around) -> Parts:
    """The real ones."""
    from scar.local.batch.jobs import Jobs
    from scar.local.batch.service import SETTLE_S, Batch
    from scar.local.batch.surroundings import Moto
    from scar.local.functions.engine import Functions
    from scar.local.onward import Onward
    from scar.local.registry import RegistryData
    from scar.local.rootfs import RootfsStore, bytes_for_images

    choice = EngineChoice(around.engine, state.folder / "sandboxes")
    registry = RegistryData(state.folder / "registry", endpoint=around.endpoint)
    rootfs = RootfsStore(state.folder / "rootfs", max_bytes=bytes_for_images(state.folder))
    clock = Onward()
    functions = Functions(
        clock=clock,
        state=state.folder / "functions",
        endpoint=around.endpoint,
        log=around.logs,
        registry=registry,
        engine=choice,
        rootfs=rootfs,
        tell=_log.info,
        persist=around.persist,
        authority=around.authority,
        files=state.folder / "efs",
    )
    batch = Batch(
        state.folder / "batch" / "control",
        jobs=lambda regions: Jobs(
            regions,
            clock=clock,
            state=state.folder / "batch",
            efs=state.folder / "efs",
            endpoint=around.endpoint,
            serve=around.serve,
            log=around.logs,
            registry=registry,
            engine=choice,
            rootfs=rootfs,
            invoke=lambda arn, payload, account, region: functions.dispatch(
                functions.accept(arn, payload, account=account, region=region)
            ),
            tell=_log.info,
            persist=around.persist,
            wake=around.wake,
            authority=around.authority,
        ),
        around=lambda region: Moto(region.account, region.region, around.wake),
        settle_s=float(os.environ.get("SCAR_LOCAL_BATCH_SETTLE_S", SETTLE_S)),  # for tests of whoever waits
        persist=around.persist,
    )
    choice.begin()
    return Parts(functions, registry, choice.told, batch, registry.key_of)
