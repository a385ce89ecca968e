"""The ladder: ways to run a program in an unpacked image on this machine, best first, each believed only after it ran one.

`choose` climbs it. Nothing here knows Lambda or Batch; `spec.py` says what is asked of an engine and what it promises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from scar.errors import ScarError, UsageError
from scar.local.sandbox.containers import Docker, Podman
from scar.local.sandbox.host import Host
from scar.local.sandbox.namespaces import Namespaces
from scar.local.sandbox.proot import PRoot
from scar.local.sandbox.spec import Bind, Choice, Ended, Engine, Isolation, Sandbox, SandboxSpec

__all__ = ["ENGINES", "Bind", "Choice", "Ended", "Engine", "Isolation", "Sandbox", "SandboxSpec", "choose"]

Factory = Callable[[Path, Mapping[str, str]], Engine]

# Name → factory of an engine, given a folder for its own files and the process environment; in the order in which auto tries them.
ENGINES: Final[Mapping[str, Factory]] = MappingProxyType(
    {
        "namespaces": lambda scratch, environ: Namespaces(scratch),
        "proot": lambda scratch, environ: PRoot(scratch, program=environ.get("SCAR_PROOT")),
        "podman": lambda scratch, environ: Podman(scratch, environ=environ),
        "docker": lambda scratch, environ: Docker(scratch, environ=environ),
        "host": lambda scratch, environ: Host(scratch),
    }
)
_FIX: Final = {
    "namespaces": "Allow unprivileged user namespaces, or install bubblewrap (`apt install bubblewrap`), or run as root.",
    "proot": "Install it (`apt install proot`), or name a newer one in SCAR_PROOT; it needs ptrace, which some containers forbid.",
    "podman": "Install it (`apt install podman`) and see that `podman run` works for this user.",
    "docker": "Start the Docker daemon and see that `docker run` works for this user.",
    "host": "The folder for sandboxes must be one from which programs may run.",
}
_FIX_ANY: Final = (
    "Install podman (`apt install podman`) or proot (`apt install proot`), or allow unprivileged user namespaces."
)


def choose(
    preference: str = "auto", *, scratch: Path, allow_host: bool = False, environ: Mapping[str, str] | None = None
) -> Choice:
    """The engine named, or with `auto` the first that works; `host`, which keeps nothing apart, only when it is allowed.

    `scratch` is a folder for the engines' own files; as root it must be one that other users can enter, or only namespaces work.
    `environ` (the process's own when None) says PATH and SCAR_PROOT. Raises ScarError with every reason and what to install.
    """
    environ = os.environ if environ is None else environ
    scratch.mkdir(parents=True, exist_ok=True)
    if preference != "auto":
        return Choice(_named(preference, scratch, environ))
    passed_over: dict[str, str] = {}
    for name, factory in ENGINES.items():
        if name == "host" and not allow_host:
            continue
        engine = factory(scratch, environ)
        reason = engine.probe()
        if reason is None:
            return Choice(engine, MappingProxyType(passed_over))
        passed_over[name] = reason
    reasons = "\n  ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    raise ScarError(f"no sandbox engine works here:\n  {reasons}", fix=_FIX_ANY)


def _named(name: str, scratch: Path, environ: Mapping[str, str]) -> Engine:
    if name not in ENGINES:
        raise UsageError(f"there is no sandbox engine {name!r}", fix=f"Use auto or one of {', '.join(ENGINES)}.")
    engine = ENGINES[name](scratch, environ)
    reason = engine.probe()
    if reason is not None:
        raise ScarError(f"the sandbox engine {name} does not work here: {reason}", fix=_FIX[name])
    return engine
