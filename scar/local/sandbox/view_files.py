"""Files of this machine that every view gets when the image has none of its own: how names are found on the network."""

from __future__ import annotations

from pathlib import Path


def missing_host_files(rootfs: Path) -> tuple[Path, ...]:
    """Those of `/etc/resolv.conf` and `/etc/hosts` that the image has as an empty file and this machine has."""
    found = []
    for name in ("etc/resolv.conf", "etc/hosts"):
        inside, ours = rootfs / name, Path("/", name)
        if inside.is_file() and not inside.is_symlink() and inside.stat().st_size == 0 and ours.exists():
            found.append(ours)
    return tuple(found)
