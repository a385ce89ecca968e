"""What does a zip function run in? Lambda's folders, made of this machine's own programs, libraries and Python.

    /usr /bin /lib …    this machine's, read-only        /var/task    the function's code
    /var/lang           the Python that runs SCAR        /opt         its layers
    /var/runtime        our bootstrap, boto3             /etc         made here: passwd, certificates

Nothing else of the machine is there: no /home, no /root, none of its /etc but how libraries and alternatives are found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import secrets
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor.layers.unpack import remove_tree
from scar.errors import ScarError
from scar.local.rootfs import make_mount_points
from scar.local.sandbox.spec import Bind

WRAPPER: Final = "AWS_LAMBDA_EXEC_WRAPPER"  # lambda/latest/dg/runtimes-modify
_TASK, _RUNTIME, _LANG = "/var/task", "/var/runtime", "/var/lang"
_BOOTSTRAP: Final = f"{_RUNTIME}/bootstrap.py"
# What Lambda's Python runtimes have beside the standard library (lambda/latest/dg/python-package).
_LIBRARIES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
_TOP: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SHARED_ETC: Final = ("ld.so.cache", "alternatives")
_USERS: Final = "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
_GROUPS: Final = "root:x:0:\nsbx_user1051:x:990:\n"
_NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\n"
_CERTIFICATES: Final = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt")


@dataclass(frozen=True, slots=True)
class ManagedRuntime:
    """A root folder, what is bound into it, and the interpreter's path there."""

    root: Path
    binds: tuple[Bind, ...]
    python: str
    version: str

    def argv(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The runtime's command line, behind the function's wrapper when it names one."""
        wrapper = environment.get(WRAPPER)
        return (*((wrapper,) if wrapper else ()), self.python, _BOOTSTRAP)


def environment_of(runtime: str, handler: str) -> dict[str, str]:
    """lambda/latest/dg/configuration-envvars; the function's own may replace what Lambda does not reserve."""
    return {
        "_HANDLER": handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
        "LAMBDA_TASK_ROOT": _TASK,
        "LAMBDA_RUNTIME_DIR": _RUNTIME,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": f"{_LANG}/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": f"{_LANG}/lib:/lib64:/usr/lib64:{_RUNTIME}:{_RUNTIME}/lib:{_TASK}:{_TASK}/lib:/opt/lib",
        "PYTHONPATH": _RUNTIME,
    }


def make_runtime(folder: Path) -> ManagedRuntime:
    """Make the root below `folder`, or find it there. Raises ScarError when this machine has no /usr to lend."""
    if not any(os.access(shell, os.X_OK) for shell in ("/usr/bin/sh", "/bin/sh")):
        raise ScarError("zip functions need this machine's /bin/sh, which is not there", fix="Use `runtime: image`.")
    plan = _Plan()
    root = folder / plan.name()
    if not root.exists():
        made = folder / f"{root.name}.{secrets.token_hex(4)}"
        made.mkdir(parents=True)
        plan.make(made)
        try:
            made.rename(root)
        except OSError:  # another process was first
            remove_tree(made)
    for other in folder.iterdir():
        if other.name != root.name:  # of another Python, another SCAR, or a process that was killed
            remove_tree(other)
    return ManagedRuntime(root, plan.binds, plan.python, platform.python_version())


class _Plan:
    """What goes into the root: folders, links and files made in it, and what is bound over its mount points."""

    def __init__(self) -> None:
        self.folders = ["usr", "var/task", _LANG.strip("/"), _RUNTIME.strip("/"), "opt", "mnt", "run"]
        self.links: dict[str, str] = {}
        self.files: dict[str, bytes] = {
            "etc/passwd": _USERS.encode(),
            "etc/group": _GROUPS.encode(),
            "etc/nsswitch.conf": _NSSWITCH.encode(),
            _BOOTSTRAP.strip("/"): Path(__file__).with_name("bootstrap.py").read_bytes(),
        }
        self._bound = [Bind(Path("/usr"), "/usr")]
        self._add_system()
        self.python = self._add_python()
        self._add_libraries()
        certificates = _certificates()
        self.files |= dict.fromkeys(_CERTIFICATES, certificates)

    @property
    def binds(self) -> tuple[Bind, ...]:
        return tuple(self._bound)

    def name(self) -> str:
        """Another one whenever anything in it is another: SCAR, this machine's layout, its Python."""
        told = [self.folders, self.links, {name: content.hex() for name, content in self.files.items()}]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    def make(self, root: Path) -> None:
        root.chmod(0o755)
        for name in self.folders:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, target in self.links.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)
        for name, content in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            (root / name).chmod(0o644)
        make_mount_points(root)
        for inner in root.rglob("*"):
            if inner.is_dir() and not inner.is_symlink() and inner.name != "tmp":
                inner.chmod(0o755)

    def _add_system(self) -> None:
        for name in _TOP:
            ours = Path("/", name)
            if ours.is_symlink():
                self.links[name] = str(ours.readlink())
            elif ours.is_dir():
                self._bind(ours, f"/{name}")
        libraries = _system_libraries()
        if libraries is not None and "lib64" not in self.folders:
            # Lambda's own search path names /lib64, and there, as on Amazon Linux, the C library has to be: behind it comes the code's lib.
            self.links["lib64"] = str(libraries).lstrip("/")
        for name in _SHARED_ETC:
            if Path("/etc", name).exists():
                self._bind(Path("/etc", name), f"/etc/{name}")

    def _add_python(self) -> str:
        """Its path inside. One below /usr is there already; another one's whole prefix is bound to where Lambda has its own."""
        program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        prefix = Path(sys.base_prefix).resolve()
        if prefix.is_relative_to("/usr"):
            self.folders.append("var/lang/bin")
            names = ("python3", f"python{sys.version_info.major}.{sys.version_info.minor}")
            self.links |= {f"var/lang/bin/{name}": str(program) for name in names}
            self.links["var/lang/lib"] = str(prefix / "lib")
            return f"{_LANG}/bin/{names[1]}"
        if not program.is_relative_to(prefix) or prefix == Path("/"):
            raise ScarError(f"zip functions cannot use this Python: {program} is outside its own prefix {prefix}")
        self._bound.append(Bind(prefix, _LANG))
        return f"{_LANG}/{program.relative_to(prefix)}"

    def _add_libraries(self) -> None:
        for name in _LIBRARIES:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                continue  # six is no longer needed by newer versions of the others
            origin = Path(spec.origin)
            source = origin.parent if origin.name == "__init__.py" else origin
            self._bind(source, f"{_RUNTIME}/{source.name}")

    def _bind(self, source: Path, target: str) -> None:
        self._bound.append(Bind(source, target))
        if source.is_dir():
            self.folders.append(target.strip("/"))
        else:
            self.files[target.strip("/")] = b""


def _system_libraries() -> Path | None:
    """The folder below /usr that holds both the C library and its loader, when /lib64 is not that folder already."""
    for folder in _folders_of_libraries():
        if (folder / "libc.so.6").exists() and any(folder.glob("ld-linux*.so.*")):
            return folder
    return None


def _folders_of_libraries() -> Iterator[Path]:
    yield Path("/usr/lib64")
    yield Path("/usr/lib", f"{platform.machine()}-linux-gnu")
    yield Path("/usr/lib")


def _certificates() -> bytes:
    """Those that this machine trusts, else the ones that botocore brings."""
    for path in (ssl.get_default_verify_paths().cafile, *(f"/{name}" for name in _CERTIFICATES)):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    import botocore

    return Path(botocore.__file__).with_name("cacert.pem").read_bytes()
