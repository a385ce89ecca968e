"""Roots and engines for the sandbox's tests: a root of links into this machine's /usr, and every engine that can be tried here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scar.local.sandbox import Bind, Engine, Sandbox, SandboxSpec
from scar.local.sandbox.containers import Podman
from scar.local.sandbox.host import Host
from scar.local.sandbox.namespaces import Namespaces
from scar.local.sandbox.proot import PRoot

AS_ROOT = os.geteuid() == 0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
ORDINARY_UID = 12_345

ENGINES: dict[str, Callable[[Path], Engine]] = {
    **({"root": lambda scratch: Namespaces(scratch, variants=("root",))} if AS_ROOT else {}),
    **(
        {"root, watched": lambda scratch: Namespaces(scratch, variants=("root",), control_groups=False)}
        if AS_ROOT
        else {}
    ),
    "user": lambda scratch: Namespaces(scratch, variants=("user",), control_groups=False),
    **({} if AS_ROOT else {"bwrap": lambda scratch: Namespaces(scratch, variants=("bwrap",))}),
    "proot": PRoot,
    **({"podman": Podman} if AS_ROOT else {}),  # rootless podman needs sub-uids, which a bare test user has not
    "host": Host,
}
WALLS = [name for name in ENGINES if name not in {"proot", "host"}]


@dataclass
class Runner:
    """Runs shell scripts in one engine and takes away what it started."""

    engine: Engine
    root: Path
    started: list[Sandbox] = field(default_factory=list)

    def start(self, script: str, **changes: object) -> Sandbox:
        binds = (Bind(Path("/usr"), "/usr"), *changes.pop("binds", ()))  # type: ignore[misc]
        argv = changes.pop("argv", ("/bin/sh", "-c", script))
        spec = SandboxSpec(rootfs=self.root, argv=argv, environment=ENVIRONMENT, binds=binds, **changes)  # type: ignore[arg-type]
        self.started.append(self.engine.start(spec))
        return self.started[-1]

    def run(self, script: str, **changes: object) -> tuple[int, str]:
        """Exit code and output."""
        sandbox = self.start(script, **changes)
        said = sandbox.output.read().decode()
        ended = sandbox.wait(20)
        assert ended is not None
        return ended.exit_code, said


def processes_with(mark: str) -> list[str]:
    """Command lines of this machine's processes that hold a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if mark in line:
                found.append(line)
    return found


def python_for_everyone() -> str:
    """An interpreter that an ordinary user may run: ours may lie in root's home."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run(
                [candidate, "-c", "import ctypes"], user=ORDINARY_UID if AS_ROOT else None, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    raise AssertionError("no Python that an ordinary user may run")
