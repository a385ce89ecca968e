"""Debian's Python for either architecture, unpacked from its packages: found by its files, because it may not run here.

Modules are compiled by Debian's Python for this machine, run from its own unpacked files: byte code is the same on every
architecture, but not in every version.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from scar.errors import ScarError
from scar.package.agent import elf
from scar.package.agent.base_python import BUILD_SETTINGS, OPENED_LATER
from scar.package.agent.debian import Group, fetch, packages
from scar.package.agent.debian_archive import unpack_packages
from scar.package.agent.interpreter import DROPPED_EXTENSIONS, Interpreter, closure, loader_of
from scar.package.progress import Tell

_MINOR: Final = "3.11"
_PROGRAM: Final = f"usr/bin/python{_MINOR}"


def version() -> str:
    """For people: which Python of which Debian package."""
    package = next(package for package in packages(Group.PYTHON, "amd64") if package.name == f"python{_MINOR}-minimal")
    return f"Python {package.version.partition('-')[0]} (Debian {package.version})"


@contextmanager
def unpacked(architecture: str, host: str, *, cache: Path, tell: Tell) -> Iterator[Interpreter]:
    """Debian's Python for linux/`architecture`, as long as the block runs; `host` is this machine's architecture."""
    # In the cache, because programs are started from here: a temporary folder may forbid that.
    with TemporaryDirectory(dir=cache, prefix="debian-python-") as folder:
        roots = {name: _unpack(name, Path(folder, name), cache, tell) for name in {architecture, host}}
        running = _interpreter(roots[host], compiler=())
        yield _interpreter(roots[architecture], compiler=_started(running, _library_folders(roots[host])))


def _unpack(architecture: str, root: Path, cache: Path, tell: Tell) -> Path:
    unpack_packages([fetch(package, cache=cache, tell=tell) for package in packages(Group.PYTHON, architecture)], root)
    return root


def _started(python: Interpreter, libraries: list[Path]) -> tuple[str, ...]:
    path = ":".join(map(str, libraries))
    return (str(python.loader), "--inhibit-cache", "--library-path", path, str(python.binary), "-I", "-S", "-B")


def _interpreter(root: Path, *, compiler: tuple[str, ...]) -> Interpreter:
    folders = _library_folders(root)
    binary, stdlib = root / _PROGRAM, root / f"usr/lib/python{_MINOR}"
    refused = set(DROPPED_EXTENSIONS)
    extensions = tuple(
        path for path in sorted(stdlib.glob("lib-dynload/*.so")) if path.name.partition(".")[0] not in refused
    )
    loader = _find(loader_of(elf.read(binary.read_bytes(), str(binary)), binary).name, folders)
    # Beside it lies a link with the name that others' Pythons ask for; Debian's asks for the file's own.
    settings = next(path for path in stdlib.glob("_sysconfigdata_*.py") if not path.is_symlink())
    return Interpreter(
        platlibdir="lib",
        binary=binary,
        loader=loader,
        stdlib=stdlib,
        extensions=extensions,
        libraries=closure([binary, *extensions], OPENED_LATER, loader.name, lambda name: _find(name, folders)),
        settings_module=settings.stem,
        settings=_settings(settings),
        compiler=compiler,
    )


def _library_folders(root: Path) -> list[Path]:
    return [folder for pattern in ("lib/*-linux-gnu", "usr/lib/*-linux-gnu") for folder in sorted(root.glob(pattern))]


def _find(name: str, folders: list[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise ScarError(
        f"{name}, which Debian's Python needs, is in none of the pinned packages", fix="Pin its package too."
    )


def _settings(path: Path) -> Mapping[str, str | int]:
    """Build settings that are asked for while running; the file is one assignment of a dictionary, read without running it."""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign):
            known = ast.literal_eval(node.value)
            return {name: known[name] for name in BUILD_SETTINGS if known.get(name) is not None}
    raise ScarError("no build settings are found", where=str(path))
