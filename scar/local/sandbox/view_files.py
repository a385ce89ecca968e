"""Files of this machine that every view gets when the image has none of its own: how names are found on the network."""

from __future__ import annotations

from pathlib import Path

from scar.local.sandbox.spec import SandboxSpec


def missing_host_files(spec: SandboxSpec) -> tuple[Path, ...]:
    """Those of `/etc/resolv.conf` and `/etc/hosts` that the image has as an empty file, this machine has and nothing is bound over."""
    found = []
    for name in ("etc/resolv.conf", "etc/hosts"):
        inside, ours = spec.rootfs / name, Path("/", name)
        if any(bind.target == str(ours) for bind in spec.binds):
            continue
        if inside.is_file() and not inside.is_symlink() and inside.stat().st_size == 0 and ours.exists():
            found.append(ours)
    return tuple(found)
