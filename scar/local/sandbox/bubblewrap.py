"""Bubblewrap's command line: the same view as our own program's, for systems that let only known programs make namespaces."""

from __future__ import annotations

from pathlib import Path

from scar.limits import MIB
from scar.local.sandbox.spec import SHM_MIB, Bind, SandboxSpec
from scar.local.sandbox.tree import FILTER_FILE
from scar.local.sandbox.view_files import missing_host_files


def bubblewrap_argv(program: str, spec: SandboxSpec, layer: Path | None, *, filtered: bool = False) -> tuple[str, ...]:
    """`bwrap … -- argv`. The root is the image, read-only, or the copy of it in the layer's `up`. `filtered`: system calls are."""
    root = ("--ro-bind", str(spec.rootfs.resolve())) if layer is None else ("--bind", str(layer / "up"))
    argv = [
        program,
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--die-with-parent",
        "--new-session",
    ]
    argv += ["--uid", str(spec.uid), "--gid", str(spec.gid), "--hostname", spec.hostname, "--cap-drop", "ALL"]
    argv += ["--seccomp", FILTER_FILE] if filtered else []
    argv += [*root, "/", "--proc", "/proc", "--dev", "/dev"]
    if spec.read_only:
        argv += ["--perms", "1777", "--size", str(spec.tmp_mib * MIB), "--tmpfs", "/tmp"]  # noqa: S108  (the sandbox's own)
    if spec.shm_mib != SHM_MIB:
        argv += ["--perms", "1777", "--size", str(spec.shm_mib * MIB), "--tmpfs", "/dev/shm"]  # noqa: S108
    for one in spec.tmpfs:
        argv += ["--perms", "1777", "--size", str(one.size_mib * MIB), "--tmpfs", one.target]
    host_files = tuple(Bind(path, str(path)) for path in missing_host_files(spec))
    for bind in (*spec.binds, *host_files):
        argv += ["--ro-bind" if bind.read_only else "--bind", str(bind.source.resolve(strict=True)), bind.target]
    return (*argv, "--chdir", spec.working_directory, "--", *spec.argv)
