"""Applying the layers of an image to a folder, whatever the layers try.

A layer is written by strangers: nothing of it is followed, linked or written outside the folder, and it cannot fill the disk.
Owners, devices, set-user bits and extended attributes are not kept; names, content, modes, times and links are.
"""

# Paths are bare strings here: pathlib would be a third of the time of a large image.

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from faassupervisor.layers.tarstream import TOO_LARGE, CountedStream, Entry, LayerError, entries, open_layer, padding

_MIB: Final = 1 << 20
IMAGE_BYTES: Final = 10 * 1024 * _MIB  # AWS Lambda developer guide, quotas: an image's uncompressed size
_WHITEOUT, _OPAQUE, _METADATA = ".wh.", ".wh..wh..opq", ".wh..wh."
_LINKS_FOLLOWED: Final = 40
_LATEST_TIME_S: Final = 1 << 33


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an image may cost to unpack, all its layers together."""

    total_bytes: int = IMAGE_BYTES
    entries: int = 1_000_000
    header_bytes: int = _MIB
    path_depth: int = 255
    path_bytes: int = 4095  # Linux: PATH_MAX


class Contents(Protocol):
    """What the files of a layer hold, asked for in the order of its entries."""

    def write(self, path: str, entry: Entry) -> None:
        """Make the file at `path`, where nothing is."""
        ...

    def skip(self, entry: Entry) -> None:
        """Pass over what nobody wants."""
        ...


class Unpacking:
    """An image on its way into `root`, an empty folder that nobody else writes to. The limits hold for all its layers together.

    `relative_links` is for a root that will be used without being made `/`: a symbolic link is written as `relative_link` has it.
    """

    def __init__(self, root: Path, limits: UnpackLimits, *, relative_links: bool = False) -> None:
        self._root, self._limits, self._relative_links = root, limits, relative_links
        self._budget, self._count = [limits.total_bytes], [limits.entries]

    def apply(self, name: str, source: IO[bytes]) -> None:
        """Apply the next layer (lowest first), given as a plain tar. Raises LayerError naming it."""
        stream = CountedStream(source, self._budget)
        self._apply(name, entries(stream, header_bytes_limit=self._limits.header_bytes), StreamedContents(stream))

    def apply_read(self, name: str, read: Iterable[Entry], contents: Contents) -> None:
        """The same for a layer that was read before: its entries in their order, and what its files hold."""
        self._apply(name, self._counted(read), contents)

    def _counted(self, read: Iterable[Entry]) -> Iterator[Entry]:
        for entry in read:
            self._budget[0] -= entry.size
            if self._budget[0] < 0:
                raise LayerError(TOO_LARGE)
            yield entry

    def _apply(self, name: str, found: Iterable[Entry], contents: Contents) -> None:
        try:
            layer = _Layer(self._root, self._limits, self._count, relative_links=self._relative_links)
            layer.apply(found, contents)
        except LayerError as fault:
            raise LayerError(fault.what, layer=name, fix=fault.fix) from fault
        except OSError as error:
            raise LayerError(str(error), layer=name) from error


def unpack(layers: Sequence[Path], root: Path, limits: UnpackLimits) -> None:
    """Apply layers that lie in files, lowest first; each is a tar, plain or compressed with gzip."""
    unpacking = Unpacking(root, limits)
    for layer in layers:
        with _opened(layer) as source:
            unpacking.apply(layer.name, source)


@contextmanager
def _opened(layer: Path) -> Iterator[IO[bytes]]:
    try:
        with open_layer(layer) as source:
            yield source
    except LayerError as fault:
        raise LayerError(fault.what, layer=layer.name, fix=fault.fix) from fault
    except OSError as error:
        raise LayerError(str(error), layer=layer.name) from error


def steps_of(name: str) -> list[str]:
    """A path's parts; `..` stops at the root, and so does a leading slash."""
    steps: list[str] = []
    for step in name.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in {"", "."}:
            steps.append(step)
    return steps


class _Layer:
    """One layer on its way into `root`. `_made` remembers what it wrote itself: a whiteout takes away lower layers' files only."""

    def __init__(self, root: Path, limits: UnpackLimits, count: list[int], *, relative_links: bool) -> None:
        self._root, self._limits, self._count, self._relative_links = str(root), limits, count, relative_links
        self._made: set[str] = set()
        self._last: tuple[Sequence[str], str] | None = None  # where the last entry's folder really is

    def apply(self, found: Iterable[Entry], contents: Contents) -> None:
        for entry in found:
            self._count[0] -= 1
            if self._count[0] < 0:
                raise LayerError(f"the image has more than {self._limits.entries} entries")
            self._place(entry, contents)

    def _place(self, entry: Entry, contents: Contents) -> None:
        steps = self._steps(entry.name)
        if not steps:
            if entry.kind != "folder":
                raise LayerError(f"{entry.name!r} would replace the root")
            return
        *above, last = steps
        if last.startswith(_WHITEOUT):
            self._white_out(above, last)
            contents.skip(entry)
            return
        folder = self._folder(above)
        path = f"{folder}/{last}"
        match entry.kind:
            case "folder":
                self._make_folder(path, entry)
            case "file":
                self._clear(path)
                contents.write(path, entry)
            case "symlink":
                if not entry.link:
                    raise LayerError(f"{entry.name!r} is a link to nothing")
                self._clear(path)
                depth = folder.count("/", len(self._root))
                os.symlink(relative_link(entry.link, depth) if self._relative_links else entry.link, path)
            case "hardlink":
                self._link(path, entry)
            case "special":
                self._clear(path)
                return
        self._made.add(path)

    def _steps(self, name: str) -> list[str]:
        if len(os.fsencode(name)) > self._limits.path_bytes or name.count("/") > self._limits.path_depth:
            raise LayerError(f"the name {name[:60]!r}… is too long")
        return steps_of(name)

    def _folder(self, steps: Sequence[str]) -> str:
        """The real folder that `steps` lead to, made where it is missing. Links are followed as if `root` were `/`."""
        if self._last is not None and self._last[0] == steps:
            return self._last[1]
        found = self._find(steps, make=True)
        assert found is not None
        self._last = (steps, found)
        return found

    def _find(self, steps: Sequence[str], *, make: bool = False) -> str | None:
        done: list[str] = []
        left, followed = list(reversed(steps)), 0
        while left:
            if len(done) > self._limits.path_depth:
                raise LayerError(f"{'/'.join(steps)[:60]!r}… leads too deep")
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
                    raise LayerError(f"{'/'.join(steps)!r} leads through a file")
                return None
            followed += 1
            if followed > _LINKS_FOLLOWED:
                raise LayerError(f"{'/'.join(steps)!r} leads through too many links")
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

    def _link(self, path: str, entry: Entry) -> None:
        steps = self._steps(entry.link)
        folder = self._find(steps[:-1]) if steps else None
        target = f"{folder}/{steps[-1]}" if folder is not None else ""
        try:
            mode = os.lstat(target).st_mode
        except OSError:
            mode = 0
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise LayerError(f"{entry.name!r} is a hard link to {entry.link!r}, which is no file of the image")
        if target != path:
            self._clear(path)
            os.link(target, path, follow_symlinks=False)

    def _clear(self, path: str) -> None:
        """Take away what is at `path`, if anything: the later entry counts."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        self._last = None
        if stat.S_ISDIR(mode):
            remove_tree(Path(path))
        else:
            os.unlink(path)

    def _white_out(self, above: Sequence[str], name: str) -> None:
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in {"", ".", ".."}:
            raise LayerError(f"{'/'.join((*above, name))!r} would take away its own folder")
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
        self._last = None
        if not folder:
            if path not in self._made:
                os.unlink(path)
            return
        for child in os.listdir(path):
            self._remove_lower(f"{path}/{child}")
        if path not in self._made and not os.listdir(path):
            os.rmdir(path)


class StreamedContents:
    """Files as a tar brings them, one after the other."""

    def __init__(self, stream: CountedStream) -> None:
        self._stream = stream

    def write(self, path: str, entry: Entry) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            left = entry.size
            while left:
                chunk = self._stream.read_exactly(min(left, _MIB))
                left -= len(chunk)
                rest = memoryview(chunk)
                while rest:  # a disk that is nearly full takes a part, and says so only when asked for more
                    rest = rest[file.write(rest) :]
            readable = 0o500 if entry.mode & 0o111 else 0o400
            os.fchmod(descriptor, entry.mode & 0o777 | readable)
            changed = min(entry.mtime, _LATEST_TIME_S)
            os.utime(descriptor, (changed, changed))
        self._stream.read_exactly(padding(entry.size))

    def skip(self, entry: Entry) -> None:
        left = entry.size + padding(entry.size)
        while left:
            left -= len(self._stream.read_exactly(min(left, _MIB)))


def relative_link(link: str, depth: int) -> str:
    """What a link in a real folder `depth` levels below the root has to say to lead, from there, where it leads in the image.

    An absolute one begins at the root, and `..` at its beginning stops there. A `..` further on stays: where it leads depends on
    links that later layers may still change.
    """
    absolute = link.startswith("/")
    steps = [step for step in link.split("/") if step not in {"", "."}]
    up = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
    if not absolute and up <= depth:
        return link
    return "/".join([".."] * depth + steps[up:]) or "."


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
