"""Where this user may bound a tree by the kernel's control groups: version 2, version 1, or nowhere (then the warden watches)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from scar.limits import MIB
from scar.local.sandbox.spec import SandboxSpec

NAME_PREFIX: Final = "scar-local-"


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Folders the warden makes (each with the files to write), and where it reads what is used and the kills of the bound."""

    folders: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    usage_file: str
    usage_key: str
    oom_file: str
    oom_key: str


@dataclass(frozen=True, slots=True)
class Groups:
    """Control groups below which trees get their own: `memory` and `pids` are one folder with version 2.

    A group counts the files in the sandbox's /tmp too, which Lambda keeps on disk. So the group's own bound is memory and /tmp together, and
    stands behind the warden, which looks at the processes' memory alone, 4 to 20 times a second.
    """

    version: int
    memory: Path
    pids: Path | None

    def for_tree(self, name: str, spec: SandboxSpec) -> TreeLimits:
        folder = self.memory / name
        bound = None if spec.memory_mib is None else str((spec.memory_mib + spec.tmp_mib) * MIB)
        processes = ("pids.max", str(spec.max_processes + 1))  # and the init
        if self.version == 2:
            settings = [] if self.pids is None else [processes]
            if bound is not None:
                settings += [
                    ("memory.max", bound),
                    ("memory.swap.max", "0"),
                    ("memory.oom.group", "1"),
                ]
            folders = [(str(folder), tuple(settings))]
            return TreeLimits(
                tuple(folders), str(folder / "memory.stat"), "anon ", str(folder / "memory.events"), "oom_kill "
            )
        files = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        folders = [(str(folder), () if bound is None else tuple((file, bound) for file in files))]
        if self.pids is not None:
            folders.append((str(self.pids / name), (processes,)))
        return TreeLimits(
            tuple(folders), str(folder / "memory.stat"), "rss ", str(folder / "memory.oom_control"), "oom_kill "
        )


def find_groups() -> Groups | None:
    """The groups in which this process could make one of its own, proven by making one; None when it may not."""
    try:
        own = _own_groups(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None
    if "memory" in own and _can_bound(own["memory"], "memory.limit_in_bytes"):
        pids = own.get("pids")
        return Groups(1, own["memory"], pids if pids is not None and _can_bound(pids, "pids.max") else None)
    if "" in own:
        # A group with processes cannot hand controllers down (unless it is the root), so a sibling is tried as well.
        for parent in (own[""], own[""].parent):
            if _can_bound(parent, "memory.max") and (parent / "cgroup.procs").exists():
                return Groups(2, parent, parent if _can_bound(parent, "pids.max") else None)
    return None


def _own_groups(membership: str, mounts: str) -> dict[str, Path]:
    """This process's folder per controller; the unified hierarchy's under the empty name."""
    paths: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Path] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in names:
            own = paths.get(name)
            if own is not None and PurePosixPath(own).is_relative_to(root):
                found.setdefault(name, Path(point) / PurePosixPath(own).relative_to(root))
    return found


def _can_bound(parent: Path, file: str) -> bool:
    """Whether a group below `parent` can be made and bounded. Joining it is tried by the first sandbox."""
    folder = parent / f"{NAME_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        (folder / file).write_text(str(64 * MIB if "memory" in file else 64))
        return os.access(parent / "cgroup.procs", os.W_OK)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def sweep_groups(groups: Groups) -> None:
    """Remove the groups of starters that are gone: a warden that was killed itself could not."""
    for parent in {groups.memory, groups.pids or groups.memory}:
        _sweep(sorted(parent.glob(f"{NAME_PREFIX}*")))


def _sweep(folders: Sequence[Path]) -> None:
    for folder in folders:
        starter = folder.name.removeprefix(NAME_PREFIX).partition("-")[0]
        if starter.isdigit() and not Path("/proc", starter).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
