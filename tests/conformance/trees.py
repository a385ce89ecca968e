"""What lies in a base image? Trees of entries by path, and the small parts of Debian that they are made of."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

from tests.conformance.packages import STABLE, Release, tree

_LIBC: Final = ("ld-*.so*", "libc.so.6", "libc-2.*", "libdl*", "libm.so.6", "libm-2.*", "libpthread*", "librt*", "libutil*",
                "libnss_files*")  # fmt: skip
PROGRAMS: Final = ("cat", "chmod", "cp", "echo", "env", "id", "ls", "mkdir", "sleep", "tr")
_MERGED: Final = ("bin", "lib", "lib64", "sbin")


@dataclass(frozen=True)
class Entry:
    """A file, or with `kind` a directory or a link to `target`."""

    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    owner: int = 0


Tree = Mapping[str, Entry]


def program(content: bytes | str, mode: int = 0o755) -> Entry:
    return Entry(content.encode() if isinstance(content, str) else content, mode)


def text(content: str, mode: int = 0o644) -> Entry:
    return Entry(content.encode(), mode)


def folder(mode: int = 0o755, owner: int = 0) -> Entry:
    return Entry(kind=tarfile.DIRTYPE, mode=mode, owner=owner)


def link(target: str) -> Entry:
    return Entry(kind=tarfile.SYMTYPE, mode=0o777, target=target)


def hard_link(target: str) -> Entry:
    return Entry(kind=tarfile.LNKTYPE, target=target)


TMP: Final[Tree] = {"tmp": folder(0o1777)}
USERS: Final[Tree] = {
    "etc/passwd": text("root:x:0:0:root:/root:/bin/sh\nworker:x:4321:8765:a worker:/home/worker:/bin/sh\n"),
    "etc/group": text("root:x:0:\nworkers:x:8765:\nhelpers:x:999:worker\n"),
}


def tar_of(entries: Tree) -> bytes:
    """One layer, uncompressed; folders on the way are made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in _with_parents(entries):
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.linkname, member.size = (
                entry.kind,
                entry.mode,
                entry.target,
                len(entry.content),
            )
            member.uid = member.gid = entry.owner
            tar.addfile(member, io.BytesIO(entry.content))
    return out.getvalue()


def _with_parents(entries: Tree) -> Iterator[tuple[str, Entry]]:
    above = {str(parent) for path in entries for parent in PurePosixPath(path).parents} - {"."}
    every = {**{path: folder() for path in above}, **entries}
    # Hard links come after what they name.
    yield from sorted(every.items(), key=lambda item: (item[1].kind == tarfile.LNKTYPE, item[0]))


def debian(release: Release, *, merged: str | None) -> Tree:
    """A C library, a shell and some programs of a release; with `merged`, /bin and the like are links that begin with it."""
    entries: dict[str, Entry] = {}
    for name in release.names:
        if name == "libc6":
            entries |= _take(tree(release, name), _LIBC)
        elif name.startswith(("lib", "zlib")) and not name.startswith(("libpython", "libc6")):
            entries |= _take(tree(release, name), ("lib*.so.*",))
    entries |= _take(tree(release, "coreutils"), PROGRAMS)
    entries |= _take(tree(release, "dash"), ("dash",))
    shells = "usr/bin" if "usr/bin/dash" in entries else "bin"
    entries[f"{shells}/sh"] = link("dash")
    entries["etc/debian_version"] = text(f"{release.suite}\n")
    return {**(_merge(entries, merged) if merged is not None else entries), **TMP, **USERS}


def bash() -> Tree:
    return _merge(_take(tree(STABLE, "bash"), ("bash",)))


def perl() -> Tree:
    everything = _take(tree(STABLE, "perl-base"), ("*",))
    return {
        path: entry for path, entry in everything.items() if not path.startswith("usr/share/") and "unicore" not in path
    }


def python() -> Tree:
    modules = _take(tree(STABLE, "libpython3.11-minimal"), ("*",))
    kept = {path: entry for path, entry in modules.items() if not path.startswith(("usr/share/", "etc/"))}
    return {**kept, **_take(tree(STABLE, "python3.11-minimal"), ("python3.11",)), "usr/bin/python3": link("python3.11")}


def busybox(release: Release = STABLE) -> Tree:
    """One static program under the names that the scripts use."""
    (content,) = (path.read_bytes() for path in tree(release, "busybox-static").rglob("bin/busybox"))
    names = (*PROGRAMS, "sh", "uname")
    return {"bin/busybox": program(content), **{f"bin/{name}": link("busybox") for name in names}, **TMP}


def musl() -> Tree:
    loader = tree(STABLE, "musl") / "lib/x86_64-linux-musl/libc.so"
    return {"lib/ld-musl-x86_64.so.1": program(loader.read_bytes())}


def glibc() -> Tree:
    """A C library of its own release and nothing else."""
    entries = _merge(_take(tree(STABLE, "libc6"), _LIBC))
    return {**entries, **TMP, "etc/passwd": text("nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n")}


def _take(package: Path, names: Iterable[str]) -> dict[str, Entry]:
    """Files and links of an unpacked package whose last name matches."""
    wanted = tuple(names)
    found = {}
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package).as_posix()
        if "/gconv/" in relative or not any(fnmatch(path.name, name) for name in wanted):
            continue
        if path.is_symlink():
            found[relative] = link(str(path.readlink()))
        elif path.is_file() and not relative.startswith("usr/share/"):
            found[relative] = Entry(path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def _merge(entries: Mapping[str, Entry], prefix: str = "") -> dict[str, Entry]:
    """/bin, /lib, /lib64 and /sbin become links into /usr: relative ones, or with `prefix` "/" absolute ones."""
    moved = {f"usr/{path}" if path.split("/")[0] in _MERGED else path: entry for path, entry in entries.items()}
    return {**moved, **{name: link(f"{prefix}usr/{name}") for name in _MERGED}}
