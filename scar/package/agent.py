"""The agent layer: an interpreter with its own loader and libraries, and the agent on it, under /opt/scar.

    bin/python3        the interpreter
    lib/               its loader, its libraries, the standard library (compiled)
    app/               the agent and the AWS client libraries that it uses
    etc/               certificate authorities

It is started through its own loader, so nothing of the user's image is needed to run it, not even a C library, and
nothing of the image's environment reaches it. The same inputs give the same bytes, so that a registry holds it once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from faassupervisor.contract import AGENT_ROOT
from scar.errors import ScarError
from scar.package import interpreter, oci
from scar.package.cache import keep_layer
from scar.package.layer import Digests, Directory, Entry, File, Link, write_layer
from scar.package.progress import Tell, ignore

CA_FILE: Final = f"{AGENT_ROOT}/etc/ca-certificates.pem"
_BUILDER_FILES: Final = ("agent.py", "agent_main.py", "base_python.py", "elf.py", "interpreter.py", "layer.py")
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
class _Sources:
    """The agent and the client libraries, as they are installed here."""

    agent: Path
    packages: tuple[Path, ...]
    modules: tuple[Path, ...]
    certificates: Path

    def package(self, name: str) -> Path:
        return self.packages[_CLIENT_PACKAGES.index(name)]


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
    kept = keep_layer(
        cache / "agent" / _key(sources, version),
        lambda out: _build(out, sources, tell),
        is_current=lambda notes: all(_unchanged(*known) for known in notes["inputs"]),
    )
    return AgentLayer(kept.layer, tuple(kept.notes["entrypoint"]), wanted, version)


def _key(sources: _Sources, version: str) -> str:
    """What the layer depends on that is quick to know; the inputs' sizes and dates are in the record."""
    base = getattr(sys, "_base_executable", sys.executable)
    hashed = hashlib.sha256(f"{sys.version}\n{base}\n{version}\n".encode())
    builder = (Path(__file__).with_name(name) for name in _BUILDER_FILES)
    agent = sources.agent
    for path in (*builder, *interpreter.python_files(agent, agent), *_data_files(agent)):
        content = path.read_bytes()
        hashed.update(f"\n{path.name} {len(content)}\n".encode())
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


def _unchanged(path: str, size: int, mtime_ns: int) -> bool:
    try:
        now = os.stat(path)  # noqa: PTH116 — a thousand files each time: Path.stat alone doubles what a cached layer costs
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (size, mtime_ns)


def _build(out: IO[bytes], sources: _Sources, tell: Tell) -> tuple[Digests, Mapping[str, Any]]:
    """Write the layer; note what it was made from as (file, size, mtime in ns), so that any change makes it anew."""
    python = interpreter.inspect()
    modules = [*_stdlib_modules(python), *_app_modules(sources)]
    data = [*_model_files(sources), *_agent_data(sources)]
    files = [*python.native_files(), sources.certificates, *(path for path, _ in [*data, *modules])]
    inputs = [_stamp(path) for path in files]
    digests = write_layer(_entries(python, sources, modules, data), out)
    tell(digests.size, digests.size, "agent layer built")
    return digests, {"inputs": inputs, "entrypoint": _entrypoint(python.loader_name)}


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
    data: Sequence[tuple[Path, str]],
) -> Iterator[Entry]:
    entries: list[Entry] = [*interpreter.native_entries(python, _ROOT), *interpreter.compile_sources(modules)]
    entries += (File(place.lstrip("/"), path.read_bytes()) for path, place in data)
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


def _agent_data(sources: _Sources) -> Iterator[tuple[Path, str]]:
    for path in _data_files(sources.agent):
        yield path, f"{AGENT_ROOT}/app/{sources.agent.name}/{path.relative_to(sources.agent)}"


def _data_files(package: Path) -> Iterator[Path]:
    """What a package holds beside modules."""
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "py.typed":
            yield path


def _model_files(sources: _Sources) -> Iterator[tuple[Path, str]]:
    """What the client libraries know of the services that the agent calls, and S3's resource for users' scripts."""
    botocore, boto3 = sources.package("botocore"), sources.package("boto3")
    directories = [botocore / "data" / service for service in _SERVICES] + [boto3 / "data" / "s3"]
    files = [botocore / "data" / name for name in _SHARED_MODELS]
    files += (path for directory in directories for path in sorted(directory.rglob("*")) if path.is_file())
    for path in files:
        if not path.name.startswith("examples-"):
            package = botocore if path.is_relative_to(botocore) else boto3
            yield path, f"{AGENT_ROOT}/app/{package.name}/{path.relative_to(package)}"
