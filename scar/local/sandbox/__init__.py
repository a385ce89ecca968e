"""The ladder: ways to run a program in an unpacked image on this machine, best first, each believed only after it ran one.

`choose` climbs it. Nothing here knows Lambda or Batch; `spec.py` says what is asked of an engine and what it promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from scar.errors import ScarError, UsageError
from scar.local.sandbox.namespaces import Namespaces
from scar.local.sandbox.spec import Bind, Choice, Ended, Engine, Isolation, Sandbox, SandboxSpec

__all__ = ["ENGINES", "Bind", "Choice", "Ended", "Engine", "Isolation", "Sandbox", "SandboxSpec", "choose"]

ENGINES: Final[Mapping[str, Callable[[Path], Engine]]] = MappingProxyType(
    {
        "namespaces": Namespaces,
    }
)
_INSTALL: Final = "Install podman (`apt install podman`), or proot (`apt install proot`), or allow user namespaces."


def choose(preference: str = "auto", *, scratch: Path, allow_host: bool = False) -> Choice:
    """The engine named, or with `auto` the first that works; `host`, which keeps nothing apart, only when it is allowed.

    `scratch` is a folder for the engines' own files. Raises ScarError with every reason and what to install when none works.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    if preference != "auto":
        if preference not in ENGINES:
            raise UsageError(
                f"there is no sandbox engine {preference!r}", fix=f"Use auto or one of {', '.join(ENGINES)}."
            )
        engine = ENGINES[preference](scratch)
        reason = engine.probe()
        if reason is not None:
            raise ScarError(f"the sandbox engine {preference} does not work here: {reason}", fix=_INSTALL)
        return Choice(engine)
    passed_over: dict[str, str] = {}
    for name, factory in ENGINES.items():
        if name == "host" and not allow_host:
            continue
        engine = factory(scratch)
        reason = engine.probe()
        if reason is None:
            return Choice(engine, MappingProxyType(passed_over))
        passed_over[name] = reason
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    raise ScarError(f"no sandbox engine works here: {reasons}", fix=_INSTALL)
