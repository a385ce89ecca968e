"""Can the zip runtime hold an image? Which C library it has, what it unpacks to, and which of its programs would not see it.

fakechroot works inside the C library: a program that was linked without one, or with another one, would run outside of the image and
see Lambda's own files instead. So every executable file of the image is looked at, each layer streamed once, as the layers leave it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final, cast

from faassupervisor.layers.tarstream import CountedStream, Entry, LayerError, entries, padding
from faassupervisor.layers.unpack import steps_of
from scar.errors import ScarError
from scar.limits import LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.cache import in_cache, written_whole
from scar.package.compress import plain
from scar.package.progress import Tell, ignore
from scar.package.zips.programs import GlibcVersion, Program, Streaming, judge

_FORMAT: Final = 1  # of what is kept; raised whenever the same image would be judged otherwise
_WHITEOUT, _OPAQUE, _METADATA = ".wh.", ".wh..wh..opq", ".wh..wh."
_LINKS_FOLLOWED: Final = 40
_ENTRIES: Final = 1_000_000
_HEADER_BYTES: Final = 1 << 20
# glibc brings these along: static, because they repair a system whose libraries are broken. Nothing runs them in a container.
_HARMLESS: Final = frozenset({"ldconfig", "ldconfig.real", "sln", "build-locale-archive"})


@dataclass(frozen=True, slots=True)
class Unfit:
    """A program that would not see the image, and why: `static`, `musl` …"""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found. `programs` are the executable files by path (kind, and a script's `#!` words), `links` the symbolic links.

    `unpacked_bytes` is the most that the files take while the layers are applied. `loader` and `glibc` are None without the GNU C library.
    """

    unpacked_bytes: int
    loader: str | None
    glibc: str | None
    unfit: tuple[Unfit, ...]
    programs: Mapping[str, tuple[str, str]]
    links: Mapping[str, str]

    def find(self, path: str) -> str | None:
        """The executable file that an absolute path leads to."""
        found = _resolved(path, self.links)
        return found if found in self.programs else None


def scan(image: oci.Image, architecture: str, *, cache: Path, tell: Tell = ignore) -> Scan:
    """What is in the image for linux/`architecture`, remembered in `cache` by the image's digest.

    Raises ScarError when a layer cannot be read or is not what its digest says.
    """
    architecture = oci.architecture(architecture)
    directory = cache / "scans" / f"{_FORMAT}-{architecture}-{image.digest.replace(':', '-')}"
    record = directory / "scan.json"
    with in_cache(directory):
        with suppress(OSError, ValueError, LookupError, TypeError):  # absent or cut: looked at anew
            return _from_json(json.loads(record.read_bytes()))
        found = _scan(image, architecture, tell)
        with written_whole(record) as out:
            out.write(json.dumps(asdict(found)).encode())
    return found


def _from_json(raw: Mapping[str, object]) -> Scan:
    fields = cast("dict[str, object]", dict(raw))
    fields["unfit"] = tuple(Unfit(**item) for item in cast("list[dict[str, str]]", fields["unfit"]))
    programs = cast("dict[str, list[str]]", fields["programs"])
    fields["programs"] = {path: (kind, words) for path, (kind, words) in programs.items()}
    return Scan(**fields)  # type: ignore[arg-type]  # a record that we wrote


def _scan(image: oci.Image, architecture: str, tell: Tell) -> Scan:
    tree = _Tree()
    done = 0
    for layer in image.layers:

        def counted(blob: oci.Blob = layer.blob) -> Iterator[bytes]:
            nonlocal done
            for chunk in blob.open():
                done += len(chunk)
                tell(done, image.size, "scan")
                yield chunk

        name = layer.blob.descriptor.digest
        try:
            tree.apply(cast("IO[bytes]", _Reader(plain(counted(), name))))
        except LayerError as fault:
            raise ScarError(f"the layer cannot be unpacked: {fault.what}", where=name, fix=fault.fix) from fault
    return _judged(tree, architecture)


def _judged(tree: _Tree, architecture: str) -> Scan:
    programs: dict[str, tuple[_File, Program]] = {}
    links: dict[str, str] = {}
    libraries: dict[str, str] = {}
    for path, node in tree.walk():
        if isinstance(node, str):
            links[path] = node
        else:
            if node.program is not None:
                programs[path] = (node, node.program)
            if node.glibc is not None:
                libraries[path] = node.glibc
    loader = _loader(programs, links, architecture)
    return Scan(
        unpacked_bytes=tree.most_bytes,
        loader=loader,
        glibc=_glibc(loader, links, libraries) if loader else None,
        unfit=tuple(_unfit(programs, architecture)),
        programs={path: (program.kind, program.interpreter) for path, (_, program) in programs.items()},
        links=links,
    )


def _loader(programs: Mapping[str, tuple[_File, Program]], links: Mapping[str, str], architecture: str) -> str | None:
    """The loader that most programs ask for, of those that are there."""
    asked = Counter(
        program.interpreter
        for _, program in programs.values()
        if program.kind == "dynamic" and program.architecture == architecture and _is_glibcs(program.interpreter)
    )
    return next((name for name, _ in asked.most_common() if _resolved(name, links) in programs), None)


def _glibc(loader: str, links: Mapping[str, str], libraries: Mapping[str, str]) -> str | None:
    """The version of the C library that lies beside the loader, or else of the only one there is."""
    for beside in (loader, _resolved(loader, links) or loader):
        place = _resolved(f"{beside.rpartition('/')[0]}/libc.so.6", links)
        if place is not None and place in libraries:
            return libraries[place]
    folders = [f"{folder}/libc.so.6" for folder in _library_folders(loader)]
    for place in (_resolved(folder, links) for folder in folders):
        if place is not None and place in libraries:
            return libraries[place]
    return next(iter(libraries.values())) if len(set(libraries.values())) == 1 else None


def _library_folders(loader: str) -> Sequence[str]:
    triplet = "aarch64-linux-gnu" if "aarch64" in loader else "x86_64-linux-gnu"
    return (f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib64", "/usr/lib64", "/lib", "/usr/lib")


def _unfit(programs: Mapping[str, tuple[_File, Program]], architecture: str) -> Iterator[Unfit]:
    """Each file once, however many names it has."""
    seen: set[int] = set()
    for path, (file, program) in sorted(programs.items()):
        why = _why_unfit(program, architecture)
        if why and id(file) not in seen and path.rpartition("/")[2] not in _HARMLESS:
            seen.add(id(file))
            yield Unfit(path, why)


def _why_unfit(program: Program, architecture: str) -> str | None:
    if program.kind not in ("static", "dynamic"):
        return None
    if program.architecture != architecture:
        return f"for {program.architecture or 'another processor'}"
    if program.kind == "static":
        return "static"
    if _is_glibcs(program.interpreter):
        return None
    return "musl" if "ld-musl" in program.interpreter else f"started by {program.interpreter}"


def _is_glibcs(interpreter: str) -> bool:
    name = interpreter.rpartition("/")[2]
    return name.startswith(("ld-linux", "ld-2.", "ld.so"))


def _resolved(path: str, links: Mapping[str, str]) -> str | None:
    """The path with every link followed inside the image; None when they lead in circles."""
    left, done, followed = list(reversed(steps_of(path))), list[str](), 0
    while left:
        step = left.pop()
        if step == "..":
            done = done[:-1]
            continue
        done.append(step)
        link = links.get("/" + "/".join(done))
        if link is None:
            continue
        followed += 1
        if followed > _LINKS_FOLLOWED:
            return None
        done = [] if link.startswith("/") else done[:-1]
        left += [part for part in reversed(link.split("/")) if part not in {"", "."}]
    return "/" + "/".join(done)


@dataclass(eq=False, slots=True)
class _File:
    """A regular file under one name or several."""

    size: int
    program: Program | None = None
    glibc: str | None = None
    names: int = 1
    layer: int = 0


@dataclass(eq=False, slots=True)
class _Folder:
    layer: int = 0
    inside: dict[str, _Node] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Link:
    target: str
    layer: int = 0


_Node = _File | _Folder | _Link


class _Tree:
    """The files as the layers leave them, by the rules of `faassupervisor.layers.unpack`, which the agent unpacks by."""

    def __init__(self) -> None:
        self._root = _Folder()
        self._layer = 0
        self._left = _ENTRIES
        self._bytes = 0
        self.most_bytes = 0

    def walk(self) -> Iterator[tuple[str, _File | str]]:
        """Every file, and every link as its target, by path."""
        waiting: list[tuple[str, _Folder]] = [("", self._root)]
        while waiting:
            at, folder = waiting.pop()
            for name, node in folder.inside.items():
                path = f"{at}/{name}"
                match node:
                    case _Folder():
                        waiting.append((path, node))
                    case _Link(target):
                        yield path, target
                    case _File():
                        yield path, node

    def apply(self, source: IO[bytes]) -> None:
        self._layer += 1
        stream = CountedStream(source, [LAMBDA_IMAGE_BYTES])
        for entry in entries(stream, header_bytes_limit=_HEADER_BYTES):
            self._left -= 1
            if self._left < 0:
                raise LayerError(f"the image has more than {_ENTRIES} entries")
            self._place(entry, stream)

    def _place(self, entry: Entry, stream: CountedStream) -> None:
        steps = steps_of(entry.name)
        if not steps or steps[-1].startswith(_WHITEOUT):
            if steps:
                self._white_out(steps[:-1], steps[-1])
            _pass_by(stream, entry.size)
            return
        *above, last = steps
        folder = self._folder(above)
        old = folder.inside.get(last)
        match entry.kind:
            case "folder":
                if not isinstance(old, _Folder):
                    self._drop(folder, last)
                    folder.inside[last] = _Folder()
                folder.inside[last].layer = self._layer
            case "file":
                self._drop(folder, last)
                folder.inside[last] = self._file(last, entry, stream)
            case "symlink":
                self._drop(folder, last)
                folder.inside[last] = _Link(entry.link, self._layer)
            case "hardlink":
                self._hard_link(folder, last, entry)
            case "special":
                self._drop(folder, last)

    def _file(self, name: str, entry: Entry, stream: CountedStream) -> _File:
        file = _File(entry.size, layer=self._layer)
        version = GlibcVersion() if name == "libc.so.6" or name.startswith("libc-2.") else None
        if entry.mode & 0o111 or version is not None:
            content = Streaming(stream.read_exactly, entry.size, watch=version.see if version else None)
            file.program = judge(content)
            content.finish()
            stream.read_exactly(padding(entry.size))
            file.glibc = version.version if version else None
        else:
            _pass_by(stream, entry.size)
        self._bytes += entry.size
        self.most_bytes = max(self.most_bytes, self._bytes)
        return file

    def _hard_link(self, folder: _Folder, name: str, entry: Entry) -> None:
        steps = steps_of(entry.link)
        place = self._folder(steps[:-1], make=False) if steps else None
        target = place.inside.get(steps[-1]) if place is not None else None
        if not isinstance(target, _File | _Link):
            raise LayerError(f"{entry.name!r} is a hard link to {entry.link!r}, which is no file of the image")
        if target is folder.inside.get(name):
            return
        self._drop(folder, name)
        if isinstance(target, _File):
            target.names += 1
            target.layer = self._layer
        folder.inside[name] = target

    def _folder(self, steps: Sequence[str], *, make: bool = True) -> _Folder:
        """The folder that `steps` lead to, links followed as if the tree were `/`. What is missing is made, or stands for itself."""
        done, left, followed = [self._root], list(reversed(steps)), 0
        while left:
            step = left.pop()
            if step == "..":
                done = done[:-1] or [self._root]
                continue
            node = done[-1].inside.get(step)
            if node is None:
                node = _Folder(self._layer)
                if make:
                    done[-1].inside[step] = node
            if isinstance(node, _Folder):
                done.append(node)
                continue
            if isinstance(node, _File):
                raise LayerError(f"{'/'.join(steps)!r} leads through a file")
            followed += 1
            if followed > _LINKS_FOLLOWED:
                raise LayerError(f"{'/'.join(steps)!r} leads through too many links")
            if node.target.startswith("/"):
                done = [self._root]
            left += [part for part in reversed(node.target.split("/")) if part not in {"", "."}]
        return done[-1]

    def _white_out(self, above: Sequence[str], name: str) -> None:
        folder = self._folder(above, make=False)
        if name == _OPAQUE:
            for child in [*folder.inside]:
                self._drop_lower(folder, child)
        elif not name.startswith(_METADATA):
            self._drop_lower(folder, name.removeprefix(_WHITEOUT))

    def _drop_lower(self, folder: _Folder, name: str) -> None:
        """Remove what lower layers left under a name; what this layer wrote stays."""
        node = folder.inside.get(name)
        if isinstance(node, _Folder):
            for child in [*node.inside]:
                self._drop_lower(node, child)
            if node.inside:
                return
        if node is not None and node.layer != self._layer:
            self._drop(folder, name)

    def _drop(self, folder: _Folder, name: str) -> None:
        node = folder.inside.pop(name, None)
        waiting = [node] if node is not None else []
        while waiting:
            match waiting.pop():
                case _Folder(inside=inside):
                    waiting += inside.values()
                case _File() as file:
                    file.names -= 1
                    self._bytes -= 0 if file.names else file.size
                case _:
                    pass


def _pass_by(stream: CountedStream, size: int) -> None:
    left = size + padding(size)
    while left:
        left -= len(stream.read_exactly(min(left, oci.CHUNK)))


class _Reader:
    """Chunks as the file that a tar is read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest, self._at = chunks, b"", 0

    def read(self, size: int) -> bytes:
        if self._at == len(self._rest):
            self._rest, self._at = next(self._chunks, b""), 0
        taken = self._rest[self._at : self._at + size]
        self._at += len(taken)
        return taken
