"""The image `scratch`: nothing but what a Python script needs around the agent's own interpreter.

Its programs and libraries are links into the agent layer, so it is of use with that layer on top only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from faassupervisor.contract import AGENT_ROOT
from scar.package import oci
from scar.package.agent import CA_FILE
from scar.package.derive import CREATED, assemble
from scar.package.layer import Directory, Entry, File, Link, layer_of

_LIBRARIES: Final = f"{AGENT_ROOT}/lib"
# Where the kernel looks for the loader of a program, and the loader for libraries: Debian's and Fedora's places.
_LIBRARY_LINKS: Final[Mapping[str, tuple[str, ...]]] = {
    "amd64": ("lib64", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"),
    "arm64": ("lib64", "usr/lib64", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"),
}
_LOADER_LINKS: Final[Mapping[str, Mapping[str, str]]] = {
    "amd64": {},
    "arm64": {"lib/ld-linux-aarch64.so.1": f"{_LIBRARIES}/ld-linux-aarch64.so.1"},
}
_DIRECTORIES: Final = ("bin", "dev", "etc", "etc/ssl", "etc/ssl/certs", "home", "lib", "opt", "proc", "root", "sys", "usr",
                       "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "var")  # fmt: skip
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_FILES: Final = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}
# `#!/usr/bin/env python3` names a program, so there must be one; the kernel follows a script's own first line as well.
_ENV: Final = b"""#!/usr/bin/python3 -ISB
import os
import sys

words = sys.argv[1:]
if words and words[0].startswith("-S"):
    import shlex

    words = [*shlex.split(words[0][2:]), *words[1:]]
while words and "=" in words[0]:
    name, _, value = words.pop(0).partition("=")
    os.environ[name] = value
if not words:
    sys.stdout.writelines(f"{name}={value}\\n" for name, value in os.environ.items())
    raise SystemExit(0)
os.environ.setdefault("PATH", os.defpath)  # Python finds itself by PATH
try:
    os.execvp(words[0], words)
except OSError as error:
    sys.stderr.write(f"env: {words[0]}: {error.strerror}\\n")
    raise SystemExit(127 if isinstance(error, FileNotFoundError) else 126)
"""
_ENVIRONMENT: Final = (
    "PATH=/usr/local/bin:/usr/bin:/bin",
    f"SSL_CERT_FILE=/{_CERTIFICATES}",
    # boto3 for the user's scripts is the agent's own. The derived image's process environment keeps it for them.
    f"PYTHONPATH={AGENT_ROOT}/app",
)


def scratch(architecture: str) -> oci.Image:
    """An image for scripts of Python: `/usr/bin/python3`, `/usr/bin/env`, certificates, users, `/tmp`; no shell."""
    architecture = oci.architecture(architecture)
    layer = layer_of(_entries(architecture))
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": {"Env": list(_ENVIRONMENT), "Cmd": ["/usr/bin/python3"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": CREATED, "created_by": "scar: scratch"}],
    }
    return assemble(config, (layer,))


def _entries(architecture: str) -> Iterator[Entry]:
    yield from (Directory(path) for path in _DIRECTORIES)
    yield Directory("tmp", 0o1777)
    yield Directory("var/tmp", 0o1777)
    yield from (File(path, content) for path, content in _FILES.items())
    yield File("usr/bin/env", _ENV, 0o755)
    yield from (Link(path, _LIBRARIES) for path in _LIBRARY_LINKS[architecture])
    yield from (Link(path, target) for path, target in _LOADER_LINKS[architecture].items())
    yield from (Link(path, f"{AGENT_ROOT}/bin/python3") for path in ("usr/bin/python3", "usr/local/bin/python3"))
    yield Link(_CERTIFICATES, CA_FILE)
