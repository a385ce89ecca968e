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
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final

from faassupervisor.contract import AGENT_ROOT
from scar.errors import ScarError
from scar.package import oci
from scar.package.agent import debian_python, interpreter, models, shipped
from scar.package.agent.debian import PINS
from scar.package.cache import keep_layer
from scar.package.layer import Digests, Directory, Entry, File, Link, write_layer
from scar.package.progress import Tell, ignore

CA_FILE: Final = f"{AGENT_ROOT}/etc/ca-certificates.pem"
_ROOT: Final = AGENT_ROOT.lstrip("/")
_AGENT_PACKAGE: Final = "faassupervisor"
_CLIENT_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3")
_CLIENT_MODULES: Final = ("six",)
_DISTRIBUTIONS: Final = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "urllib3", "six")
_ISOLATED: Final = ("-I", "-S", "-B", "-X", "utf8")


class Origin(Enum):
    """Where the interpreter comes from: the one that runs scar, or Debian's packages (the same bytes for everybody)."""

    RUNNING = "running"
    DEBIAN = "debian"


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


def agent_layer(
    architecture: str | None = None, *, cache: Path, tell: Tell = ignore, origin: Origin | None = None
) -> AgentLayer:
    """The agent for linux/`architecture` (None: this machine's).

    As this release ships it, else from the cache when nothing that it is made of changed, else made now: for this machine's
    architecture from the running Python, for the other one from Debian's packages. `origin` asks for one of the two; what a
    release ships is of Debian's packages. Raises ScarError where the agent cannot be made.
    """
    wanted = host_architecture() if architecture is None else oci.architecture(architecture)
    if origin is not Origin.RUNNING and (ready := shipped.agent(wanted, source_digest())) is not None:
        return AgentLayer(ready.layer, ready.entrypoint, wanted, ready.version)
    if origin is None:
        origin = Origin.RUNNING if wanted == host_architecture() else Origin.DEBIAN
    return built_layer(wanted, origin, cache=cache, tell=tell)


def built_layer(architecture: str, origin: Origin, *, cache: Path, tell: Tell = ignore) -> AgentLayer:
    """The same for `amd64` or `arm64`, from the cache or made now, whatever is shipped."""
    if origin is Origin.RUNNING and architecture != host_architecture():
        raise ScarError(
            f"the agent for {architecture} cannot be made from the running Python, which is for {host_architecture()}",
            fix="Make it from Debian's packages.",
        )
    sources = _find_sources()
    version = _version(origin)
    kept = keep_layer(
        cache / "agent" / _key(architecture, origin, version),
        lambda out: _build(out, architecture, origin, sources, cache=cache, tell=tell),
        is_current=lambda notes: all(_unchanged(*known) for known in notes["inputs"]),
    )
    return AgentLayer(kept.layer, tuple(kept.notes["entrypoint"]), architecture, version)


def source_digest() -> str:
    """Names the agent's sources, what builds the layer, and the pinned packages: what a shipped layer must be made from."""
    hashed = hashlib.sha256()
    here = Path(__file__).parent
    builder = (*sorted(here.glob("*.py")), here.with_name("layer.py"))
    agent = _package(_AGENT_PACKAGE)
    for path in (*builder, PINS, *interpreter.python_files(agent, agent), *_data_files(agent)):
        content = path.read_bytes()
        hashed.update(f"\n{path.name} {len(content)}\n".encode())
        hashed.update(content)
    return hashed.hexdigest()


def _key(architecture: str, origin: Origin, version: str) -> str:
    """What the layer depends on that is quick to know; the inputs' sizes and dates are in the record."""
    base = (sys.version, getattr(sys, "_base_executable", sys.executable)) if origin is Origin.RUNNING else ()
    known = (origin.value, architecture, *base, version, source_digest())
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _version(origin: Origin) -> str:
    python = f"Python {platform.python_version()}" if origin is Origin.RUNNING else debian_python.version()
    return ", ".join([python, *(f"{name} {importlib.metadata.version(name)}" for name in _DISTRIBUTIONS)])


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


def _build(
    out: IO[bytes], architecture: str, origin: Origin, sources: _Sources, *, cache: Path, tell: Tell
) -> tuple[Digests, Mapping[str, Any]]:
    """Write the layer; note what it was made from as (file, size, mtime in ns), so that any change makes it anew."""
    app = [*_app_modules(sources)]
    botocore = sources.package("botocore")
    known = [*models.files(botocore, sources.package("boto3"))]
    data = [*_agent_data(sources)]
    files = [sources.certificates, *(path for path, _ in [*data, *known, *app])]
    with ExitStack() as cleanup:
        if origin is Origin.RUNNING:
            python = interpreter.inspect()
            files += [*python.native_files(), *(path for path, _ in interpreter.stdlib_sources(python))]
        else:  # its packages are pinned: nothing of them can change
            unpacked = debian_python.unpacked(architecture, host_architecture(), cache=cache, tell=tell)
            python = cleanup.enter_context(unpacked)
        inputs = [_stamp(path) for path in files]
        entries = [
            *_entries(python, sources, [*_stdlib_modules(python), *app]),
            *(File(place, path.read_bytes()) for path, place in data),
            *(File(f"{_ROOT}/app/{place}", models.content(path, botocore)) for path, place in known),
        ]
        digests = write_layer([*entries, *_parents(entries)], out)
    tell(digests.size, digests.size, "agent layer built")
    return digests, {"inputs": inputs, "entrypoint": _entrypoint(python.loader_name)}


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _entrypoint(loader: str) -> tuple[str, ...]:
    """Starts the agent wherever the tree lies, with no file of the image: no cache of libraries, no site, no .pyc written.

    Text is UTF-8 whatever locale the image names and has.
    """
    library, python, app = f"{AGENT_ROOT}/lib", f"{AGENT_ROOT}/bin/python3", f"{AGENT_ROOT}/app"
    return (f"{library}/{loader}", "--inhibit-cache", "--library-path", library, python, *_ISOLATED, app)


def _entries(
    python: interpreter.Interpreter,
    sources: _Sources,
    modules: Sequence[tuple[Path, str]],
) -> Iterator[Entry]:
    yield from interpreter.native_entries(python, _ROOT)
    yield from interpreter.compile_sources(python.compiler, modules)
    yield File(CA_FILE.lstrip("/"), sources.certificates.read_bytes())
    yield Link(f"{_ROOT}/app/botocore/cacert.pem", "../../etc/ca-certificates.pem")
    # What an image has under our name is hidden (image-spec, "opaque whiteout"): a file of it would be imported in place of ours.
    yield File(f"{_ROOT}/.wh..wh..opq", b"")


def _parents(entries: Sequence[Entry]) -> Iterator[Directory]:
    # /opt itself is left out: an image may have its own, with its own mode, or a link there.
    known = {entry.path for entry in entries}
    parents = {str(parent) for path in known for parent in Path(path).parents} - {".", "opt"} - known
    return (Directory(path) for path in sorted(parents))


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
        yield path, f"{_ROOT}/app/{sources.agent.name}/{path.relative_to(sources.agent)}"


def _data_files(package: Path) -> Iterator[Path]:
    """What a package holds beside modules."""
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "py.typed":
            yield path
