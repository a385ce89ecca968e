"""A Python taken apart: its files as entries of a layer that needs nothing else of any machine.

`inspect` takes apart the Python that runs us; `debian_python` finds one in unpacked packages.
`inspect` works for what a virtual environment may stand on: a distribution's Python, pyenv, conda,
python-build-standalone; libpython linked in or beside. It needs Linux with the GNU C library.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.package.agent import elf, hermetic
from scar.package.layer import Directory, Entry, File

_CHILD: Final = Path(__file__).with_name("base_python.py")
_CHILD_SECONDS: Final = 120

# Not for a program without a screen, a terminal or a developer. Sizes in the standard library of 3.11, compiled:
# test 30 MB, idlelib 2, tkinter 1, lib2to3 1, ensurepip 3 (wheels), pydoc_data 1, unittest 0.6.
DROPPED_MODULES: Final = frozenset(
    {
        "__phello__", "_aix_support.py", "_osx_support.py", "_pydecimal.py", "_pyio.py", "antigravity.py", "bdb.py",
        "cProfile.py", "cgi.py", "cgitb.py", "curses", "dbm", "distutils", "doctest.py", "ensurepip", "idlelib", "lib2to3",
        "msilib", "nntplib.py", "pdb.py", "profile.py", "pstats.py", "pydoc.py", "pydoc_data", "sitecustomize.py",
        "smtpd.py", "test", "tests", "this.py", "tkinter", "turtle.py", "turtledemo", "unittest", "usercustomize.py",
        "venv", "webbrowser.py", "xmlrpc", "_pyrepl", "idle_test",
    }
)  # fmt: skip
DROPPED_DIRECTORIES: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "lib-dynload"})
DROPPED_EXTENSIONS: Final = (
    "_tkinter", "_curses", "_curses_panel", "_dbm", "_gdbm", "_lsprof", "audioop", "nis", "ossaudiodev", "readline", "spwd",
    "xxlimited", "xxlimited_35", "xxsubtype", "_testbuffer", "_testcapi", "_testclinic", "_testclinic_limited",
    "_testimportmultiple", "_testinternalcapi", "_testlimitedcapi", "_testmultiphase", "_testsinglephase",
    "_testexternalinspection", "_ctypes_test", "_xxtestfuzz", "_xxinterpchannels", "_xxsubinterpreters",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What an interpreter is made of. `libraries` maps the name that programs ask for to the real file.

    `settings_module` is where the standard library looks for its build settings; `settings` are those it needs to run.
    `compiler` starts an interpreter of the same version on this machine: its arguments are to follow.
    """

    platlibdir: str
    binary: Path
    loader: Path
    stdlib: Path
    extensions: tuple[Path, ...]
    libraries: dict[str, Path]
    settings_module: str | None
    settings: Mapping[str, str | int]
    compiler: tuple[str, ...]

    @property
    def loader_name(self) -> str:
        return self.loader.name

    def native_files(self) -> Iterator[Path]:
        yield from (self.binary, self.loader, *self.extensions, *self.libraries.values())


def inspect() -> Interpreter:
    """Take the base interpreter apart by running it. Raises ScarError where no bundle can be made of it."""
    if not sys.platform.startswith("linux"):
        raise ScarError(
            f"the agent is built from a Python for Linux; this one is for {sys.platform}",
            fix="Run scar on Linux, or in a Linux container.",
        )
    compiler = _base_interpreter()
    facts = json.loads(_run_child(compiler, "facts", *DROPPED_EXTENSIONS))
    binary = Path(facts["binary"])
    program = elf.read(binary.read_bytes(), str(binary))
    loader = loader_of(program, binary)
    extensions = tuple(Path(path) for path in facts["extensions"])
    loaded = _loaded(facts["mapped"])
    libraries = closure([binary, *extensions], facts["opened_later"], loader.name, lambda name: _find(name, loaded))
    return Interpreter(
        platlibdir=facts["platlibdir"],
        binary=binary,
        loader=loader,
        stdlib=Path(facts["stdlib"]),
        extensions=extensions,
        libraries=libraries,
        settings_module=facts["settings_module"],
        settings=facts["settings"],
        compiler=compiler,
    )


def loader_of(program: elf.Elf, binary: Path) -> Path:
    """The program's loader; raises ScarError when it is not the GNU C library's."""
    if program.interpreter is None or "musl" in program.interpreter:
        kind = "statically linked" if program.interpreter is None else "linked with musl"
        raise ScarError(
            f"{binary} is {kind}; the agent is built from a Python linked with the GNU C library",
            fix="Run scar with a Python of Debian, Ubuntu, Fedora, conda, pyenv or python-build-standalone.",
        )
    return Path(program.interpreter)


def native_entries(interpreter: Interpreter, root: str) -> Iterator[Entry]:
    """Loader, libraries, program and extension modules, without search paths of this machine or settings of the image."""
    yield File(f"{root}/lib/{interpreter.loader_name}", hermetic.loader(interpreter.loader.read_bytes()), 0o755)
    for name, path in interpreter.libraries.items():
        yield File(f"{root}/lib/{name}", _free(path))
    yield File(f"{root}/bin/python3", _free(interpreter.binary), 0o755)
    stdlib = f"{root}/{interpreter.platlibdir}/{interpreter.stdlib.name}"
    if interpreter.settings_module is not None:
        settings = f"build_time_vars = {dict(interpreter.settings)!r}\n"
        yield File(f"{stdlib}/{interpreter.settings_module}.py", settings.encode())
    dynload = f"{stdlib}/lib-dynload"
    # Python looks for this directory to find itself, so it is there even when every module is built in.
    yield Directory(dynload)
    for path in interpreter.extensions:
        yield File(f"{dynload}/{path.name}", _free(path))


def _free(path: Path) -> bytes:
    return hermetic.library(elf.portable(path.read_bytes(), str(path)))


def stdlib_sources(interpreter: Interpreter) -> Iterator[tuple[Path, str]]:
    """The modules that are kept: file, and path below the standard library's directory."""
    for path in python_files(interpreter.stdlib, interpreter.stdlib):
        relative = path.relative_to(interpreter.stdlib)
        if not DROPPED_MODULES.intersection(relative.parts) and not relative.name.startswith("_sysconfigdata"):
            yield path, str(relative)


def python_files(directory: Path, root: Path) -> Iterator[Path]:
    """Every source below `directory`, in order; links to directories are not followed out of `root`."""
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            if path.name not in DROPPED_DIRECTORIES and not path.name.startswith("config-") and _inside(path, root):
                yield from python_files(path, root)
        elif path.suffix == ".py":
            yield path


def compile_sources(compiler: Sequence[str], sources: Sequence[tuple[Path, str]]) -> Iterator[File]:
    """A `.pyc` entry for each (source, its place as an absolute path in the image), beside where the source would lie.

    They are compiled by the interpreter that will run them, and never look for their sources.
    """
    work = json.dumps([[str(path), place] for path, place in sources])
    output = _run_child(compiler, "compile", stdin=work.encode())
    position = 0
    for _, place in sources:
        size = int.from_bytes(output[position : position + 4], "little")
        position += 4
        yield File(place.lstrip("/") + "c", output[position : position + size])
        position += size


def closure(
    programs: Iterable[Path], opened_later: Iterable[str], loader_name: str, find: Callable[[str], Path]
) -> dict[str, Path]:
    """Every library that the programs need, directly or through others, and those that are opened while running."""
    wanted = [name for path in programs for name in elf.read(path.read_bytes(), str(path)).needed]
    wanted += opened_later
    found: dict[str, Path] = {}
    while wanted:
        # python-build-standalone needs `$ORIGIN/../lib/libpython…`, which is our place too
        name = Path(wanted.pop()).name
        if name in found or name == loader_name:
            continue
        found[name] = find(name)
        wanted += elf.read(found[name].read_bytes(), str(found[name])).needed
    return dict(sorted(found.items()))


def _base_interpreter() -> tuple[str, ...]:
    # _base_executable is what a virtual environment stands on; -I and -S keep the user's settings and packages out.
    base = getattr(sys, "_base_executable", None) or sys.executable
    return (base, "-I", "-S", "-B")


def _run_child(python: Sequence[str], *arguments: str, stdin: bytes = b"") -> bytes:
    argv = [*python, str(_CHILD), *arguments]
    try:
        child = subprocess.run(argv, input=stdin, capture_output=True, timeout=_CHILD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScarError(f"the interpreter {python[0]} does not run: {error}") from error
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ScarError(f"the interpreter {python[0]} failed with {child.returncode}: {last[0]}")
    return child.stdout


def _loaded(mapped: Iterable[str]) -> Mapping[str, Path]:
    """Where the libraries really lie that the interpreter has loaded, by the names that programs ask for."""
    known = {}
    for path in map(Path, mapped):
        known[elf.read(path.read_bytes(), str(path)).soname or path.name] = path
    return known


def _find(name: str, loaded: Mapping[str, Path]) -> Path:
    try:
        return loaded[name]
    except KeyError:
        raise ScarError(f"{name}, which this Python needs, was not found among the libraries it has loaded") from None


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(root)
