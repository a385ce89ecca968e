"""Where a function's image runs: Lambda of the local AWS with each engine, a plain container, a sandbox without any engine.

Every runtime answers the same record, `Ran`, so that one table of expectations serves all of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from faassupervisor.contract import AGENT_ROOT, Failure, Reply
from scar.fdl.load import load
from scar.fdl.model import Function
from scar.local.rootfs import RootfsStore
from scar.local.sandbox import Bind, Engine, SandboxSpec
from scar.package import function_image
from scar.package.oci import Image
from scar.package.registry import Registry
from scar.package.registry.push import push
from tests.conformance.cases import Case
from tests.e2e.conftest import Local

BUCKET: Final = "conformance"
AS_ROOT: Final = os.geteuid() == 0
_PRIVATE: Final = re.compile(r"/tmp/scar-run-[0-9a-f]{16}")
_UNPACKED: Final = re.compile(r"/tmp/scar-root-[0-9a-f]{16}")
_RUN_S: Final = 60


@dataclass(frozen=True)
class Ran:
    """How a run ended: as a shell would tell it, what was published, and the facts that the process wrote down."""

    exit_code: int
    kind: str | None
    message: str
    output: str
    published: Mapping[str, bytes]

    @property
    def facts(self) -> dict[str, str]:
        lines = self.published["facts"].decode().splitlines()
        facts = dict(line.split("=", 1) for line in lines)
        if _PRIVATE.fullmatch(facts["cwd"]):
            facts["cwd"] = "private"
        return facts


class Runtime(Protocol):
    """`expected` changes what must be seen where this runtime may differ, and says why it may."""

    def run(self, case: Case, event: bytes) -> Ran: ...

    def expected(self, case: Case) -> dict[str, str]: ...


@dataclass
class World:
    """One local AWS with every function in it, a bucket, and the functions' images as files for whoever wants them."""

    local: Local
    folder: Path
    cache: Path
    files: dict[str, Path] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    _images: dict[str, Image] = field(default_factory=dict)
    _engine: str = ""
    _client: Any = None

    @property
    def s3(self) -> Any:
        self._client = self._client or self.local.client("s3")
        return self._client

    def read(self, definition: str, functions: Sequence[Mapping[str, Any]]) -> tuple[Function, ...]:
        """Write a definition file, and what it says."""
        path = self.local.folder / definition
        path.write_text(json.dumps({"functions": {"aws": [{"lambda": body} for body in functions]}}))
        return load(path).functions

    def deploy(self, definition: str, functions: Sequence[Mapping[str, Any]]) -> None:
        """`scar init` of all functions of a file at once."""
        self.functions |= {fn.name: fn for fn in self.read(definition, functions)}
        self.local.must("init", "-f", definition, timeout_s=300)

    def image(self, function: str) -> Image:
        """The function's image, made again in this process."""
        if function not in self._images:
            self._images[function] = function_image(self.functions[function], cache=self.cache)
        return self._images[function]

    def use(self, engine: str) -> None:
        """The same state under another engine."""
        if engine == self._engine:
            return
        if self._engine:
            self.local.must("local", "down")
        self.local.engine = self._engine = engine
        self._client = None
        self.local.must("local", "up")

    def published(self, function: str) -> dict[str, bytes]:
        """What the function has put into its folder since it was asked last."""
        found = {}
        for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{function}/").get("Contents", ()):
            key = item["Key"]
            found[key.removeprefix(f"{function}/")] = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            self.s3.delete_object(Bucket=BUCKET, Key=key)
        return found

    def ran(self, function: str, answer: bytes) -> Ran:
        """The agent's answer and what was published, together."""
        document = json.loads(answer)
        published = self.published(function)
        if "errorType" not in document:
            reply = Reply.from_json(answer)
            return Ran(0, None, "", "".join(run.output for run in reply.runs), published)
        failure = Failure.from_json(answer)
        output = "".join(run.output for run in failure.runs)
        return Ran(failure.exit_code, failure.kind, failure.message, output, published)


@dataclass
class Lambda:
    """The local AWS's Lambda on one engine. Lambda knows no USER: all runs are its own user's."""

    world: World
    engine: str

    def run(self, case: Case, event: bytes) -> Ran:
        function = self.function(case)
        answer = self.world.local.client("lambda").invoke(FunctionName=function, Payload=event)
        return self.world.ran(function, answer["Payload"].read())

    def function(self, case: Case) -> str:
        return case.function

    def expected(self, case: Case) -> dict[str, str]:
        return {**case.expected, "user": "993:990"}


@dataclass
class Zip(Lambda):
    """The same with `runtime: python3.x`: the image unpacked in /tmp and run through fakechroot, where Lambda forbids all else."""

    def function(self, case: Case) -> str:
        return case.zip_function

    def run(self, case: Case, event: bytes) -> Ran:
        """fakechroot is itself an LD_PRELOAD, and tells the image's loader where the libraries lie: all after it is the image's own."""
        ran = Lambda.run(self, case, event)
        if "facts" not in ran.published:
            return ran
        facts = ran.published["facts"].decode()
        facts = re.sub(r"(?m)^LD_PRELOAD=/var/task/fakechroot/[0-9.]+/libfakechroot\.so:?", "LD_PRELOAD=", facts)
        facts = _UNPACKED.sub("", facts)
        facts = re.sub(r"(?m)^(LD_LIBRARY_PATH=.*?):?(?:(?:/usr)?/lib(?:64|/x86_64-linux-gnu)?(?::|$))+$", r"\1", facts)
        return replace(ran, published={**ran.published, "facts": facts.encode()})


@dataclass
class Plain:
    """The image's ENTRYPOINT with `--event -`: how Batch, Fargate or anybody else starts it. The answer is on standard output."""

    world: World

    def variables(self) -> dict[str, str]:
        given = self.world.local.aws_environ
        return {name: given[name] for name in given if name.startswith("AWS_")}

    def finished(self, function: str, exit_code: int, out: bytes, log: str) -> Ran:
        """The answer is the last line; the process's own exit code has to say the same."""
        lines = out.splitlines()
        assert lines, f"{function} answered nothing, exit code {exit_code}:\n{log}"
        try:
            ran = self.world.ran(function, lines[-1])
        except ValueError as error:
            raise AssertionError(f"{function} did not answer, exit code {exit_code}:\n{out!r}\n{log}") from error
        assert ran.exit_code == exit_code
        return ran


@dataclass
class Podman(Plain):
    """A container engine on the image as a registry gave it. `options` are more words for `podman run`."""

    registry: str
    options: tuple[str, ...] = ()
    started_as: str = "0:0"
    pulled: dict[str, str] = field(default_factory=dict)

    def run(self, case: Case, event: bytes) -> Ran:
        function = case.function
        variables = [word for name, value in self.variables().items() for word in ("--env", f"{name}={value}")]
        argv = ["podman", "run", "--rm", "-i", "--network=host", *self.options, *variables, self._pull(function)]
        done = subprocess.run([*argv, "--event", "-"], input=event, capture_output=True, timeout=_RUN_S, check=False)
        return self.finished(function, done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def expected(self, case: Case) -> dict[str, str]:
        """Who starts as root becomes the image's USER; anybody else cannot become another."""
        return {**case.expected, "user": case.user if self.started_as == "0:0" else self.started_as}

    def _pull(self, function: str) -> str:
        if function not in self.pulled:
            image = self.world.image(function)
            result = push(image, Registry(self.registry), f"conformance/{function}")
            name = f"{self.registry}/conformance/{function}@{result.digest}"
            subprocess.run(["podman", "pull", "-q", "--tls-verify=false", name], check=True, capture_output=True)
            self.pulled[function] = name
        return self.pulled[function]


_FROM_A_FILE: Final = 'import os, sys; os.dup2(os.open("/the-event", os.O_RDONLY), 0); os.execv(sys.argv[1], [*sys.argv[1:], "--event", "-"])'


@dataclass
class Unpacked(Plain):
    """The image unpacked into a folder and run in a sandbox of the kernel's own: no engine, no root."""

    engine: Engine
    rootfs: RootfsStore
    read_only: bool = False

    def run(self, case: Case, event: bytes) -> Ran:
        image = self.world.image(case.function)
        config = json.loads(b"".join(image.config.open()))["config"]
        entrypoint = tuple(config["Entrypoint"])
        assert entrypoint[-1] == f"{AGENT_ROOT}/app"
        with tempfile.NamedTemporaryFile(dir=self.world.folder) as file:
            file.write(event)
            file.flush()
            Path(file.name).chmod(0o644)
            spec = SandboxSpec(
                rootfs=self._unpack(image),
                argv=(*entrypoint[:-1], "-c", _FROM_A_FILE, *entrypoint),
                environment={**dict(item.split("=", 1) for item in config["Env"]), **self.variables()},
                working_directory=config["WorkingDir"],
                read_only=self.read_only,
                binds=(Bind(Path(file.name), "/the-event"),),
            )
            with ExitStack() as stack:
                sandbox = self.engine.start(spec)
                stack.callback(sandbox.output.close)
                stack.callback(sandbox.kill)
                out = sandbox.output.read()
                ended = sandbox.wait(_RUN_S)
        assert ended is not None
        return self.finished(case.function, ended.exit_code, out, out.decode(errors="replace"))

    def expected(self, case: Case) -> dict[str, str]:
        """The user is the sandbox's own, never root."""
        return {**case.expected, "user": "993:990"}

    def _unpack(self, image: Image) -> Path:
        return unpacked(image, self.rootfs, self.world.folder / "blobs")


@dataclass
class Emulated(Plain):
    """An image for another processor: PRoot gives every program of it to an emulator, with no right of root's."""

    emulator: str

    def run(self, case: Case, event: bytes) -> Ran:
        image = self.world.image(case.function)
        config = json.loads(b"".join(image.config.open()))["config"]
        root = unpacked(image, RootfsStore(self.world.folder / "foreign"), self.world.folder / "blobs")
        proot = ["proot", "-q", self.emulator, "-r", str(root), "-b", "/proc", "-b", "/dev", "-w", config["WorkingDir"]]
        done = subprocess.run(
            [*proot, *config["Entrypoint"], "--event", "-"],
            input=event,
            env={**dict(item.split("=", 1) for item in config["Env"]), **self.variables()},
            executable=shutil.which("proot"),
            capture_output=True,
            timeout=_RUN_S,
            check=False,
        )
        return self.finished(case.function, done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def expected(self, case: Case) -> dict[str, str]:
        return {**case.expected, "user": f"{os.getuid()}:{os.getgid()}"}


def unpacked(image: Image, rootfs: RootfsStore, blobs: Path) -> Path:
    """The image's root folder; its layers become files in `blobs`."""
    blobs.mkdir(exist_ok=True)
    files = []
    for layer in image.layers:
        place = blobs / layer.blob.descriptor.digest[7:]
        if not place.exists():
            place.write_bytes(b"".join(layer.blob.open()))
        files.append(place)
    return rootfs.ensure(image.digest, files)
