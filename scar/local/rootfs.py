"""Unpacked images on disk: layers in, one folder per image digest out. What a layer may do is `faassupervisor.layers.unpack`'s business."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, cast

from faassupervisor.layers.tarstream import LayerError, plain_tar
from faassupervisor.layers.unpack import Unpacking, UnpackLimits
from scar.errors import ScarError
from scar.local.folders import DigestFolders, Held
from scar.local.kept_layers import KeptLayers

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_LIMITS: Final = UnpackLimits()
_MOUNT_POINTS: Final = (("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("sys", 0o555))
_MOUNT_FILES: Final = ("etc/resolv.conf", "etc/hosts")
_MOST_BYTES: Final = 20 * 10**9
_SHARE_OF_DISK: Final = 4
_CHUNK: Final = 1 << 20


def bytes_for_images(folder: Path) -> int:
    """What unpacked images may take below `folder`: 20 GB, on a small disk a quarter of it."""
    while not folder.exists():
        folder = folder.parent
    return min(_MOST_BYTES, shutil.disk_usage(folder).total // _SHARE_OF_DISK)


class RootfsStore:
    """Images unpacked below `folder`, each once; beyond `max_bytes` the least recently used make room."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None, limits: UnpackLimits = _LIMITS) -> None:
        self._folders = DigestFolders(folder)
        self._max_bytes, self._limits = max_bytes, limits
        self._kept = KeptLayers(folder / "layers", limits, _verified_tar)

    def use(self, image_digest: str, layers: Sequence[Path]) -> Held:
        """The image's root folder, unpacked from its layers (lowest first) unless it is there; it stays while it is held.

        A layer whose file is named by a digest (64 hexadecimal digits) has to have it. Raises ScarError naming the layer.
        """
        name = _hex(image_digest)
        held = self._folders.use(name, lambda making: self._unpack(making, layers))
        held.path = held.path / "rootfs"
        if self._max_bytes is not None:
            self._folders.prune(keep={name}, max_bytes=self._max_bytes)
        return held

    def ensure(self, image_digest: str, layers: Sequence[Path]) -> Path:
        """The same folder for somebody who can do with its being removed later."""
        with self.use(image_digest, layers) as held:
            return held.path

    def usage(self) -> int:
        """Bytes of content in all images."""
        return self._folders.usage()

    def prune(self, *, keep: Collection[str] = (), max_bytes: int | None = None) -> tuple[str, ...]:
        """Remove the least recently used images, but none of `keep` and none in use, until `max_bytes` (or the store's own bound, or
        0) is kept; their digests."""
        bound = max_bytes if max_bytes is not None else self._max_bytes or 0
        removed = self._folders.prune(keep={_hex(digest) for digest in keep}, max_bytes=bound)
        return tuple(f"sha256:{name}" for name in removed)

    def _unpack(self, making: Path, layers: Sequence[Path]) -> int:
        root = making / "rootfs"
        root.mkdir()
        root.chmod(0o755)
        unpacking = Unpacking(root, self._limits)
        try:
            for layer in layers:
                if _HEX.fullmatch(layer.name) and self._kept.apply(layer, unpacking):
                    continue
                with _verified_tar(layer) as tar:
                    unpacking.apply(layer.name, tar)
        except LayerError as fault:
            what = f"layer {fault.layer or layer.name} cannot be unpacked: {fault.what}"
            raise ScarError(what, fix=fault.fix) from fault
        except OSError as error:
            raise ScarError(f"layer {layer.name} cannot be unpacked: {error}") from error
        make_mount_points(root)
        return sum(status.st_size for status in _files(root))


def _hex(image_digest: str) -> str:
    matched = _DIGEST.fullmatch(image_digest)
    if matched is None:
        raise ScarError(f"{image_digest!r} is not an image digest", fix="It reads sha256: and 64 hexadecimal digits.")
    return matched[1]


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        taken = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.hash.update(memoryview(buffer)[:taken])
        return int(taken)


@contextlib.contextmanager
def _verified_tar(layer: Path) -> Iterator[IO[bytes]]:
    with _verified(layer) as file, plain_tar(file) as tar:
        yield tar


@contextlib.contextmanager
def _verified(layer: Path) -> Iterator[io.BufferedReader]:
    """The layer's file. Raises LayerError at the end when it is not what its name says: it was changed on disk, or lost bytes."""
    with layer.open("rb", buffering=0) as file:
        hashed = _Hashed(file)
        reader = cast("io.BufferedReader", io.BufferedReader(hashed, _CHUNK))
        yield reader
        if _HEX.fullmatch(layer.name):
            while reader.read(_CHUNK):
                pass
            if hashed.hash.hexdigest() != layer.name:
                fix = "Push the image again: its layer was changed or damaged on this disk."
                raise LayerError("its content is not what its digest says", layer=layer.name, fix=fix)


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
