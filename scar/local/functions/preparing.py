"""What is started for a function version? Its image's process in its image, or a runtime with its code in Lambda's folders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.local.folders import Held
from scar.local.functions.code import CodeStore
from scar.local.functions.configuration import CannotRunError, Configuration, ImageProcess, Rootfs, ZipPackage
from scar.local.functions.managed import ManagedRuntime, environment_of, make_runtime
from scar.local.functions.unzip import BadCodeError
from scar.local.registry import RegistryData
from scar.local.sandbox.spec import Bind, Engine

_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_IMAGE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": _PATH,
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
}
_NO_VIEW: Final = frozenset({"host"})  # engines that run a program where it lies: /var/task would be this machine's


@dataclass(frozen=True, slots=True)
class Prepared:
    """A process and all it needs. `environment` is what lies below the function's own; `held` keeps the folders until it runs."""

    rootfs: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    binds: tuple[Bind, ...] = ()
    held: tuple[Held, ...] = field(default=())


class Preparing:
    """`folder` is for the roots of managed runtimes, `files` for what access points of EFS hold; `tell` takes a line for the daemon's log."""

    def __init__(
        self,
        *,
        registry: RegistryData,
        rootfs: Rootfs,
        code: CodeStore,
        folder: Path,
        files: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._registry, self._rootfs, self._code = registry, rootfs, code
        self._folder, self._files, self._tell = folder, files, tell
        self._lock = threading.Lock()
        self._runtime: ManagedRuntime | None = None

    def prepare(self, configuration: Configuration, engine: Engine) -> Prepared:
        """Raises CannotRunError. Whoever gets the answer closes what it holds."""
        mounted = self._mounted(configuration, engine)
        if configuration.package is None:
            made = self._image(configuration)
        else:
            made = self._zip(configuration, configuration.package, engine)
        return replace(made, binds=(*made.binds, *mounted))

    def _mounted(self, configuration: Configuration, engine: Engine) -> tuple[Bind, ...]:
        """The folder of each access point, which jobs that mount it share."""
        if configuration.files and engine.name in _NO_VIEW:
            raise CannotRunError(
                f"{configuration.name} mounts a file system, which the sandbox engine {engine.name} cannot: it shows a program "
                "this machine's folders as they are. Use another engine (`--engine auto`).",
                lasting=True,
            )
        binds = []
        for arn, path in configuration.files:
            folder = self._files / arn.rpartition("/")[2]
            try:
                if not folder.exists():
                    folder.mkdir(parents=True, exist_ok=True)
                    folder.chmod(0o777)  # whoever the function runs as may write, as through an access point of its own
            except OSError as error:
                raise CannotRunError(f"{configuration.name}: {folder}: {error.strerror}") from error
            binds.append(Bind(folder, path, read_only=False))
        return tuple(binds)

    def _image(self, configuration: Configuration) -> Prepared:
        try:
            image = self._registry.stored(configuration.image_digest)
        except LookupError as error:
            raise CannotRunError(f"the image of {configuration.name} cannot be read: {error}") from error
        process = ImageProcess.parse(image.config)
        argv = (*(configuration.entry_point or process.entry_point), *(configuration.command or process.command))
        if not argv:
            raise CannotRunError(f"the image of {configuration.name} has neither ENTRYPOINT nor CMD", lasting=True)
        try:
            held = self._rootfs.use(image.digest, image.layers)
        except (ScarError, OSError) as error:
            raise CannotRunError(str(error)) from error
        return Prepared(
            rootfs=held.path,
            argv=argv,
            environment={**_IMAGE_ENVIRONMENT, **dict(entry.partition("=")[::2] for entry in process.environment)},
            working_directory=configuration.working_directory or process.working_directory,
            held=(held,),
        )

    def _zip(self, configuration: Configuration, package: ZipPackage, engine: Engine) -> Prepared:
        if not package.runtime.startswith("python"):
            raise CannotRunError(
                f"{configuration.name} has the runtime {package.runtime}; of zip functions the local AWS runs those in Python. "
                "Deploy it as a container image (`runtime: image`).",
                lasting=True,
            )
        if engine.name in _NO_VIEW:
            raise CannotRunError(
                f"{configuration.name} is a zip function, which the sandbox engine {engine.name} cannot run: it shows a program "
                "this machine's folders as they are. Use another engine (`--engine auto`).",
                lasting=True,
            )
        with ExitStack() as failed:
            try:
                runtime = self._managed(package.runtime)
                code = failed.enter_context(self._code.use(package.digest))
                binds, held = [*runtime.binds, Bind(code.path, "/var/task")], [code]
                if package.layers:
                    layers = failed.enter_context(self._code.use_together(package.layers))
                    binds.append(Bind(layers.path, "/opt"))
                    held.append(layers)
            except (ScarError, OSError) as error:
                raise CannotRunError(str(error)) from error
            except (LookupError, BadCodeError) as error:
                raise CannotRunError(f"{configuration.name}: {error}", lasting=True) from error
            failed.pop_all()
        return Prepared(
            rootfs=runtime.root,
            argv=runtime.argv(dict(configuration.environment)),
            environment=environment_of(package.runtime, package.handler),
            working_directory="/var/task",
            binds=tuple(binds),
            held=tuple(held),
        )

    def _managed(self, asked: str) -> ManagedRuntime:
        with self._lock:
            if self._runtime is None:
                self._runtime = make_runtime(self._folder)
                self._tell(
                    f"zip functions run on this machine's Python ({self._runtime.version}), first asked: {asked}"
                )
            return self._runtime
