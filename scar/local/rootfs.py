"""Unpacked images on disk: layers in, one folder per image digest out. What a layer may do is `faassupervisor.layers.unpack`'s business."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from faassupervisor.layers.tarstream import LayerError
from faassupervisor.layers.unpack import UnpackLimits, remove_tree, unpack
from scar.errors import ScarError

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_MARKER: Final = "complete.json"
_LIMITS: Final = UnpackLimits()
_MOUNT_POINTS: Final = (("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("sys", 0o555))
_MOUNT_FILES: Final = ("etc/resolv.conf", "etc/hosts")


class RootfsStore:
    """Images unpacked below `folder`, each once; beyond `max_bytes` the least recently used make room."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None, limits: UnpackLimits = _LIMITS) -> None:
        self._folder, self._max_bytes, self._limits = folder, max_bytes, limits

    def ensure(self, image_digest: str, layers: Sequence[Path]) -> Path:
        """The image's root folder, unpacked from its layers (lowest first) unless it is there.

        It appears whole or not at all, also when two processes ask at once or one is killed. Raises ScarError naming the layer.
        """
        matched = _DIGEST.fullmatch(image_digest)
        if matched is None:
            raise ScarError(
                f"{image_digest!r} is not an image digest", fix="It reads sha256: and 64 hexadecimal digits."
            )
        home = self._folder / matched[1]
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked(matched[1]):
            if not (home / _MARKER).exists():
                self._unpack(home, layers)
            os.utime(home / _MARKER)
        if self._max_bytes is not None:
            self.prune(keep={image_digest})
        return home / "rootfs"

    def usage(self) -> int:
        """Bytes of content in all images."""
        return sum(size for _, size, _ in self._images())

    def prune(self, *, keep: Collection[str] = (), max_bytes: int | None = None) -> tuple[str, ...]:
        """Remove the least recently used images, but none of `keep`, until `max_bytes` (or the store's own bound, or 0) is kept."""
        bound = max_bytes if max_bytes is not None else self._max_bytes or 0
        left, removed = self.usage(), []
        for digest, size, _ in sorted(self._images(), key=lambda image: image[2]):
            if left <= bound:
                break
            if digest in keep:
                continue
            name = digest.removeprefix("sha256:")
            with self._locked(name):
                (self._folder / name / _MARKER).unlink(missing_ok=True)
                remove_tree(self._folder / name)
            left -= size
            removed.append(digest)
        return tuple(removed)

    def _images(self) -> list[tuple[str, int, int]]:
        """Digest, bytes and time of last use of every whole image."""
        found = []
        for marker in self._folder.glob(f"*/{_MARKER}"):
            with contextlib.suppress(OSError, ValueError, KeyError):  # another process removes it just now
                found.append(
                    (
                        f"sha256:{marker.parent.name}",
                        int(json.loads(marker.read_text())["bytes"]),
                        marker.stat().st_mtime_ns,
                    )
                )
        return found

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._folder / f"{name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unpack(self, home: Path, layers: Sequence[Path]) -> None:
        making = home.with_name(f"{home.name}.making")
        for leftover in (making, home):  # of a process that was killed: the lock says that nobody is at it now
            remove_tree(leftover)
        with contextlib.ExitStack() as failed:
            failed.callback(remove_tree, making)
            root = making / "rootfs"
            root.mkdir(parents=True)
            for folder in (making, root):
                folder.chmod(0o755)
            try:
                unpack(layers, root, self._limits)
            except LayerError as fault:
                raise ScarError(f"layer {fault.layer} cannot be unpacked: {fault.what}", fix=fault.fix) from fault
            make_mount_points(root)
            size = sum(status.st_size for status in _files(root))
            os.sync()  # the marker must not outlive a power cut that its files did not
            with (making / _MARKER).open("w") as marker:
                json.dump({"bytes": size}, marker)
                marker.flush()
                os.fsync(marker.fileno())
            making.rename(home)
            failed.pop_all()


def make_mount_points(root: Path) -> None:
    """What a read-only view mounts on: made where the image lacks it, left alone where it is something else."""
    for name, mode in _MOUNT_POINTS:
        path = root / name
        if not os.path.lexists(path):
            path.mkdir()
            path.chmod(mode | 0o700)
    if not (root / "etc").is_symlink() and (root / "etc").is_dir():
        for name in _MOUNT_FILES:
            path = root / name
            if not os.path.lexists(path):
                path.touch(0o644)
                path.chmod(0o644)


def _files(root: Path) -> Iterator[os.stat_result]:
    """Every file once, however many names it has."""
    seen: set[int] = set()
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            if status.st_nlink == 1 or status.st_ino not in seen:
                seen |= {status.st_ino} if status.st_nlink > 1 else set()
                yield status
