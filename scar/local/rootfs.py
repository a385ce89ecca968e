"""Unpacked images on disk: layers in, one folder per image digest out, whatever the layers try.

A layer is written by strangers: nothing of it is followed, linked or written outside the folder, and it cannot fill the disk.
Owners, devices, set-user bits and extended attributes are not kept; names, content, modes, times and links are.
"""

# Paths are bare strings here: pathlib would be a third of the time of a large image.

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.limits import LAMBDA_IMAGE_BYTES, MIB
from scar.local.tarstream import CountedStream, Entry, TarError, entries, open_layer, padding

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_WHITEOUT, _OPAQUE, _METADATA = ".wh.", ".wh..wh..opq", ".wh..wh."
_MARKER: Final = "complete.json"
_LINKS_FOLLOWED: Final = 40
_LATEST_TIME_S: Final = 1 << 33
_MOUNT_POINTS: Final = (("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("sys", 0o555))
_MOUNT_FILES: Final = ("etc/resolv.conf", "etc/hosts")


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an image may cost to unpack, all its layers together."""

    total_bytes: int = LAMBDA_IMAGE_BYTES
    entries: int = 1_000_000
    header_bytes: int = MIB
    path_depth: int = 255
    path_bytes: int = 4095  # Linux: PATH_MAX


class RootfsStore:
    """Images unpacked below `folder`, each once; beyond `max_bytes` the least recently used make room."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None, limits: UnpackLimits = UnpackLimits()) -> None:
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
            unpack(layers, root, self._limits)
            make_mount_points(root)
            size = sum(status.st_size for status in _files(root))
            os.sync()  # the marker must not outlive a power cut that its files did not
            with (making / _MARKER).open("w") as marker:
                json.dump({"bytes": size}, marker)
                marker.flush()
                os.fsync(marker.fileno())
            making.rename(home)
            failed.pop_all()


def unpack(layers: Sequence[Path], root: Path, limits: UnpackLimits) -> None:
    """Apply layers, lowest first, to an empty folder that nobody else writes to."""
    budget, count = [limits.total_bytes], [limits.entries]
    for layer in layers:
        try:
            with open_layer(layer) as source:
                _Layer(root, limits, count).apply(CountedStream(source, budget))
        except TarError as fault:
            raise ScarError(f"layer {layer.name} cannot be unpacked: {fault.what}", fix=fault.fix) from fault
        except OSError as error:
            raise ScarError(f"layer {layer.name} cannot be unpacked: {error}") from error


class _Layer:
    """One layer on its way into `root`. `_made` remembers what it wrote itself: a whiteout takes away lower layers' files only."""

    def __init__(self, root: Path, limits: UnpackLimits, count: list[int]) -> None:
        self._root, self._limits, self._count = str(root), limits, count
        self._made: set[str] = set()

    def apply(self, stream: CountedStream) -> None:
        for entry in entries(stream, header_bytes_limit=self._limits.header_bytes):
            self._count[0] -= 1
            if self._count[0] < 0:
                raise TarError(f"the image has more than {self._limits.entries} entries")
            self._place(entry, stream)

    def _place(self, entry: Entry, stream: CountedStream) -> None:
        steps = self._steps(entry.name)
        if not steps:
            if entry.kind != "folder":
                raise TarError(f"{entry.name!r} would replace the root")
            return
        *above, last = steps
        if last.startswith(_WHITEOUT):
            self._white_out(above, last)
            _skip(stream, entry.size)
            return
        path = f"{self._folder(above)}/{last}"
        match entry.kind:
            case "folder":
                self._make_folder(path, entry)
            case "file":
                self._write_file(path, entry, stream)
            case "symlink":
                if not entry.link:
                    raise TarError(f"{entry.name!r} is a link to nothing")
                self._clear(path)
                os.symlink(entry.link, path)
            case "hardlink":
                self._link(path, entry)
            case "special":
                self._clear(path)
                return
        self._made.add(path)

    def _steps(self, name: str) -> list[str]:
        """The name's parts; `..` stops at the root, and so does a leading slash."""
        if len(os.fsencode(name)) > self._limits.path_bytes or name.count("/") > self._limits.path_depth:
            raise TarError(f"the name {name[:60]!r}… is too long")
        steps: list[str] = []
        for step in name.split("/"):
            if step == "..":
                steps = steps[:-1]
            elif step not in {"", "."}:
                steps.append(step)
        return steps

    def _folder(self, steps: Sequence[str]) -> str:
        """The real folder that `steps` lead to, made where it is missing. Links are followed as if `root` were `/`."""
        found = self._find(steps, make=True)
        assert found is not None
        return found

    def _find(self, steps: Sequence[str], *, make: bool = False) -> str | None:
        done: list[str] = []
        left, followed = list(reversed(steps)), 0
        while left:
            if len(done) > self._limits.path_depth:
                raise TarError(f"{'/'.join(steps)[:60]!r}… leads too deep")
            step = left.pop()
            if step == "..":
                done = done[:-1]
                continue
            path = "/".join((self._root, *done, step))
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                if not make:
                    return None
                os.mkdir(path, 0o755)
                self._made.add(path)
                done.append(step)
                continue
            if stat.S_ISDIR(mode):
                done.append(step)
                continue
            if not stat.S_ISLNK(mode):
                if make:
                    raise TarError(f"{'/'.join(steps)!r} leads through a file")
                return None
            followed += 1
            if followed > _LINKS_FOLLOWED:
                raise TarError(f"{'/'.join(steps)!r} leads through too many links")
            link = os.readlink(path)
            if link.startswith("/"):
                done = []
            left += [part for part in reversed(link.split("/")) if part not in {"", "."}]
        return "/".join((self._root, *done))

    def _make_folder(self, path: str, entry: Entry) -> None:
        if os.path.islink(path) or not os.path.isdir(path):
            self._clear(path)
            os.mkdir(path)
        os.chmod(path, entry.mode & 0o1777 | 0o700)

    def _write_file(self, path: str, entry: Entry, stream: CountedStream) -> None:
        self._clear(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            left = entry.size
            while left:
                chunk = stream.read_exactly(min(left, MIB))
                file.write(chunk)
                left -= len(chunk)
            readable = 0o500 if entry.mode & 0o111 else 0o400
            os.fchmod(descriptor, entry.mode & 0o777 | readable)
            changed = min(entry.mtime, _LATEST_TIME_S)
            os.utime(descriptor, (changed, changed))
        stream.read_exactly(padding(entry.size))

    def _link(self, path: str, entry: Entry) -> None:
        steps = self._steps(entry.link)
        folder = self._find(steps[:-1]) if steps else None
        target = f"{folder}/{steps[-1]}" if folder is not None else ""
        try:
            mode = os.lstat(target).st_mode
        except OSError:
            mode = 0
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise TarError(f"{entry.name!r} is a hard link to {entry.link!r}, which is no file of the image")
        if target != path:
            self._clear(path)
            os.link(target, path, follow_symlinks=False)

    def _clear(self, path: str) -> None:
        """Take away what is at `path`, if anything: the later entry counts."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            remove_tree(Path(path))
        else:
            os.unlink(path)

    def _white_out(self, above: Sequence[str], name: str) -> None:
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in {"", ".", ".."}:
            raise TarError(f"{'/'.join((*above, name))!r} would take away its own folder")
        folder = self._find(above)
        if folder is None:
            return
        if name == _OPAQUE:
            for child in os.listdir(folder):
                self._remove_lower(f"{folder}/{child}")
        elif not name.startswith(_METADATA):
            self._remove_lower(f"{folder}/{hidden}")

    def _remove_lower(self, path: str) -> None:
        """Remove what lower layers left at `path`; what this layer wrote there, before or below, stays."""
        try:
            folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return
        if not folder:
            if path not in self._made:
                os.unlink(path)
            return
        for child in os.listdir(path):
            self._remove_lower(f"{path}/{child}")
        if path not in self._made and not os.listdir(path):
            os.rmdir(path)


def _skip(stream: CountedStream, size: int) -> None:
    left = size + padding(size)
    while left:
        left -= len(stream.read_exactly(min(left, MIB)))


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


def remove_tree(folder: Path) -> None:
    """Remove a folder whatever its modes say; absent is fine."""
    if not os.path.lexists(folder):
        return
    os.chmod(folder, 0o700)
    for inner, names, _ in os.walk(folder):  # opens each name after it was seen here
        for name in names:
            path = f"{inner}/{name}"
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)
