"""The agent layer: an interpreter with its own loader and libraries, and the agent on it, under /opt/scar.

    bin/python3        the interpreter
    lib/               its loader, its libraries, the standard library (compiled)
    app/               the agent and the AWS client libraries that it uses
    etc/               certificate authorities

It is started through its own loader, so nothing of the user's image is needed to run it, not even a C library, and
nothing of the image's environment reaches it. The same inputs give the same bytes, so that a registry holds it once.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor.contract import AGENT_ROOT
from scar.errors import ScarError
from scar.package import interpreter, oci
from scar.package.layer import Digests, Directory, Entry, File, Link, file_layer, write_layer

Tell = Callable[[int, int, str], None]  # (bytes done, bytes in all, of what)

CA_FILE: Final = f"{AGENT_ROOT}/etc/ca-certificates.pem"
_BUILDER: Final = 1  # raised when the same inputs shall give another layer
_ROOT: Final = AGENT_ROOT.lstrip("/")
_AGENT_PACKAGE: Final = "faassupervisor"
_CLIENT_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3")
_CLIENT_MODULES: Final = ("six",)
_DISTRIBUTIONS: Final = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "urllib3", "six")
_SERVICES: Final = ("s3", "sts", "batch", "lambda", "logs", "ecr", "sso", "sso-oidc")
_SHARED_MODELS: Final = ("_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json")


@dataclass(frozen=True, slots=True)
class AgentLayer:
    """`entrypoint` starts the agent in an image that holds the layer; `version` is for people."""

    layer: oci.Layer
    entrypoint: tuple[str, ...]
    architecture: str
    version: str


@dataclass(frozen=True, slots=True)
class _Record:
    """What the cache remembers beside a layer. `inputs` are (file, size, mtime in ns): any change builds anew."""

    digests: Digests
    entrypoint: tuple[str, ...]
    version: str
    inputs: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Sources:
    """The agent and the client libraries, as they are installed here."""

    agent: Path
    packages: tuple[Path, ...]
    modules: tuple[Path, ...]
    certificates: Path

    @property
    def botocore_data(self) -> Path:
        return next(path for path in self.packages if path.name == "botocore") / "data"


def ignore(done_bytes: int, total_bytes: int, what: str) -> None:
    """A Tell for those who need no progress."""


def host_architecture() -> str:
    """This machine's, in the words of image manifests: `amd64` or `arm64`."""
    return oci.architecture(platform.machine())


def agent_layer(architecture: str | None = None, *, cache: Path, tell: Tell = ignore) -> AgentLayer:
    """The agent for linux/`architecture` (None: this machine's), from the cache when nothing that it is made of changed.

    Raises ScarError for another architecture than this machine's, and where this Python cannot be bundled.
    """
    wanted = host_architecture() if architecture is None else oci.architecture(architecture)
    if wanted != host_architecture():
        raise ScarError(
            f"the agent for {wanted} cannot be built on {host_architecture()}: it is made from the running Python",
            fix=f"Run `scar init` on a {wanted} machine, or set `architectures` to this machine's.",
        )
    sources = _find_sources()
    version = _version()
    directory = cache / "agent" / _key(sources, version)
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "lock"):
        record = _cached(directory)
        if record is None:
            record = _build(directory, sources, version, tell)
    return AgentLayer(file_layer(directory / "layer.tar.gz", record.digests), record.entrypoint, wanted, record.version)


def _key(sources: _Sources, version: str) -> str:
    """What the layer depends on that is quick to know; the inputs' sizes and dates are in the record."""
    hashed = hashlib.sha256(f"{_BUILDER}\n{sys.version}\n{version}\n".encode())
    hashed.update(str(getattr(sys, "_base_executable", sys.executable)).encode())
    for path in interpreter.python_files(sources.agent, sources.agent):
        content = path.read_bytes()
        hashed.update(f"\n{path.relative_to(sources.agent)} {len(content)}\n".encode())
        hashed.update(content)
    return hashed.hexdigest()[:32]


def _version() -> str:
    installed = (f"{name} {importlib.metadata.version(name)}" for name in _DISTRIBUTIONS)
    return f"Python {platform.python_version()}, " + ", ".join(installed)


def _find_sources() -> _Sources:
    packages = tuple(_package(name) for name in _CLIENT_PACKAGES)
    certifi = importlib.util.find_spec("certifi")
    botocore = packages[_CLIENT_PACKAGES.index("botocore")]
    # botocore prefers certifi's newer list where it is installed; so does the bundle.
    authorities = Path(certifi.origin or "") if certifi else None
    return _Sources(
        agent=_package(_AGENT_PACKAGE),
        packages=packages,
        modules=tuple(_package(name) for name in _CLIENT_MODULES),
        certificates=authorities.with_name("cacert.pem") if authorities else botocore / "cacert.pem",
    )


def _package(name: str) -> Path:
    """The directory of a package, or the file of a module, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ScarError(f"the Python package {name} is not installed", fix="Install scar with its dependencies.")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes at once: the second waits and finds what the first has built."""
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cached(directory: Path) -> _Record | None:
    try:
        raw = json.loads((directory / "record.json").read_bytes())
        record = _Record(
            digests=Digests(**raw["digests"]),
            entrypoint=tuple(raw["entrypoint"]),
            version=raw["version"],
            inputs=tuple((path, size, mtime) for path, size, mtime in raw["inputs"]),
        )
        with (directory / "layer.tar.gz").open("rb") as layer:
            intact = "sha256:" + hashlib.file_digest(layer, "sha256").hexdigest() == record.digests.digest
    except (OSError, ValueError, KeyError, TypeError):  # absent, cut or not ours: built anew
        return None
    return record if intact and all(map(_unchanged, record.inputs)) else None


def _unchanged(known: tuple[str, int, int]) -> bool:
    path, size, mtime_ns = known
    try:
        now = os.stat(path)
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (size, mtime_ns)


def _build(directory: Path, sources: _Sources, version: str, tell: Tell) -> _Record:
    for left_over in directory.glob("*.new"):
        left_over.unlink()
    python = interpreter.inspect()
    modules = [*_stdlib_modules(python), *_app_modules(sources)]
    models = list(_model_files(sources))
    files = [*python.native_files(), sources.certificates, *models, *(path for path, _ in modules)]
    inputs = tuple(_stamp(path) for path in files)
    with tempfile.NamedTemporaryFile(dir=directory, suffix=".new", delete=False) as out:
        digests = write_layer(_entries(python, sources, modules, models), out)
        out.flush()
        os.fsync(out.fileno())
    record = _Record(digests, _entrypoint(python.loader_name), version, inputs)
    pending = directory / "record.json.new"
    pending.write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")
    Path(out.name).replace(directory / "layer.tar.gz")
    pending.replace(directory / "record.json")
    tell(digests.size, digests.size, "agent layer built")
    return record


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _entrypoint(loader: str) -> tuple[str, ...]:
    """Starts the agent wherever the tree lies, with no file of the image: no cache of libraries, no site, no .pyc written."""
    library, python, app = f"{AGENT_ROOT}/lib", f"{AGENT_ROOT}/bin/python3", f"{AGENT_ROOT}/app"
    return (f"{library}/{loader}", "--inhibit-cache", "--library-path", library, python, "-I", "-S", "-B", app)


def _entries(
    python: interpreter.Interpreter,
    sources: _Sources,
    modules: Sequence[tuple[Path, str]],
    models: Sequence[Path],
) -> Iterator[Entry]:
    entries: list[Entry] = [*interpreter.native_entries(python, _ROOT), *interpreter.compile_sources(modules)]
    data = f"{_ROOT}/app/botocore/data"
    entries += (File(f"{data}/{path.relative_to(sources.botocore_data)}", path.read_bytes()) for path in models)
    entries.append(File(CA_FILE.lstrip("/"), sources.certificates.read_bytes()))
    entries.append(Link(f"{_ROOT}/app/botocore/cacert.pem", "../../etc/ca-certificates.pem"))
    # /opt itself is left out: an image may have its own, with its own mode, or a link there.
    known = {entry.path for entry in entries}
    parents = {str(parent) for path in known for parent in Path(path).parents} - {".", "opt"} - known
    return iter([*entries, *(Directory(path) for path in parents)])


def _stdlib_modules(python: interpreter.Interpreter) -> Iterator[tuple[Path, str]]:
    place = f"{AGENT_ROOT}/{python.platlibdir}/{python.stdlib.name}"
    for path, relative in interpreter.stdlib_sources(python):
        yield path, f"{place}/{relative}"


def _app_modules(sources: _Sources) -> Iterator[tuple[Path, str]]:
    app = f"{AGENT_ROOT}/app"
    yield Path(__file__).with_name("agent_main.py"), f"{app}/__main__.py"
    for package in (sources.agent, *sources.packages):
        for path in interpreter.python_files(package, package):
            yield path, f"{app}/{package.name}/{path.relative_to(package)}"
    for module in sources.modules:
        yield module, f"{app}/{module.name}"


def _model_files(sources: _Sources) -> Iterator[Path]:
    data = sources.botocore_data
    yield from (data / name for name in _SHARED_MODELS)
    for service in _SERVICES:
        yield from sorted(path for path in (data / service).rglob("*") if path.is_file())
