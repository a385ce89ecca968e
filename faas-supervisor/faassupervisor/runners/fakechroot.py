"""Runner `fakechroot`: the image's own program under the image's own loader, with Debian's libfakechroot between it and the files.

The kernel would start a program's loader by its absolute path, which is the machine's: so we execute the loader ourselves, as
libfakechroot does for whatever the process starts in its turn. What is linked statically or against musl would not be held by the
library and see the machine's files: it is refused. (So would be what a program starts after it has emptied its own environment by
hand, as `env -i` does: nothing tells us of that.)
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from faassupervisor import elf
from faassupervisor.contract import RootFilesystem
from faassupervisor.errors import CannotStartError
from faassupervisor.roots.inside import Inside
from faassupervisor.runners import Exit, Setting, process
from faassupervisor.runners.command import Command, first_line

_LIBRARY: Final = "libfakechroot.so"
_LIBRARIES: Final = ((2, 34), (2, 14))  # the least glibc that each build of the library needs
_ARGV0_SINCE: Final = (2, 33)  # the loader's --argv0
_MOST_WORDS: Final = 1000  # libfakechroot's execve drops what goes beyond 1024, the loader's own words included
_NESTED_SCRIPTS: Final = 4  # Linux: fs/exec.c, bprm->recursion depth
_HEAD_BYTES: Final = 4096
_CANNOT: Final = 126
_DEFAULT_FOLDERS: Final = (
    "/usr/local/lib", "/lib/{0}-linux-gnu", "/usr/lib/{0}-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip


class Fakechroot:
    """See `faassupervisor.runners` for what a runner promises."""

    def __init__(self, setting: Setting) -> None:
        image, inside = setting.spec.root, setting.inside
        assert image is not None
        assert inside is not None
        self._image, self._inside, self._setting = image, inside, setting
        self._glibc = _version(image)
        self._directory, self._seen_directory = str(setting.place.root), str(setting.place.root)
        named = setting.spec.image.working_directory
        real = inside.real(named) if named else None
        if real is not None and Path(real).is_dir():
            self._directory, self._seen_directory = real, named

    def real(self, name: str) -> str | None:
        return self._inside.real(name if name.startswith("/") else f"{self._seen_directory}/{name}")

    def visible(self, script: Path) -> Path:
        """A copy in the record's private place: the function layer is not in the image."""
        copy = self._setting.place.agent / "script"
        if script != copy:
            copy.write_bytes(script.read_bytes())
            copy.chmod(0o700)
        return copy

    def run(
        self,
        command: Command,
        *,
        environment: Mapping[str, str],
        time_s: Callable[[], float],
        grace_s: Callable[[], float],
        adopts_orphans: bool,
    ) -> Exit:
        return process.run(
            self._loaded(command),
            environment=self._environment(environment),
            working_directory=Path(self._directory),
            write=self._setting.log.write,
            time_s=time_s,
            grace_s=grace_s,
            adopts_orphans=adopts_orphans,
        )

    def _loaded(self, command: Command) -> Command:
        """The same command, started by the image's loader."""
        file, command = self._program(command)
        if len(command.arguments) > _MOST_WORDS:
            raise CannotStartError(
                f"the command has {len(command.arguments)} words; outside an image function a process can be given {_MOST_WORDS}: "
                "put them into a file",
                exit_code=_CANNOT,
            )
        loader = self._loader()
        name = ["--argv0", command.arguments[0]] if self._glibc >= _ARGV0_SINCE else []
        return Command(loader, (loader, *name, file, *command.arguments[1:]))

    def _program(self, command: Command) -> tuple[str, Command]:
        """The file to load, after following `#!` lines as the kernel would."""
        for _ in range(_NESTED_SCRIPTS + 1):
            file = self._existing(command.program)
            head = self._head(command.program, file)
            if not head.startswith(b"#!"):
                self._expect_loadable(command.program, file)
                return file, command
            words = first_line(head)
            if not words or not words[0].startswith("/"):
                raise CannotStartError(f"{command.program!a}: its first line names no interpreter", exit_code=_CANNOT)
            command = Command(words[0], (*words, command.program, *command.arguments[1:]))
        raise CannotStartError(f"{command.program!a}: scripts that interpret one another", exit_code=_CANNOT)

    def _existing(self, program: str) -> str:
        file = self.real(program)
        if file is None or not Path(file).is_file():
            raise CannotStartError(
                f"{program!a} cannot be started: it, or its interpreter, is not in the image", exit_code=127
            )
        if not os.access(file, os.X_OK):
            raise CannotStartError(f"{program!a} is not executable", exit_code=_CANNOT)
        # Where the name leads to the same file on its own, it is better: a program may look at how it was called.
        named = f"{self._inside.root}{program}"
        return named if program.startswith("/") and os.path.realpath(named) == os.path.realpath(file) else file

    def _head(self, program: str, file: str) -> bytes:
        try:
            with Path(file).open("rb") as opened:
                return opened.read(_HEAD_BYTES)
        except PermissionError as error:
            why = self._inside.barred.get(os.path.realpath(file), error.strerror)
            raise _refusal(program, why) from None

    def _expect_loadable(self, program: str, file: str) -> None:
        why = elf.why_not(file, os.uname().machine)
        if why is None:
            wanted = elf.interpreter(file) or ""
            if self._inside.real(wanted) is None:
                why = f"its loader {wanted!a} is not in the image"
        if why is not None:
            raise _refusal(program, why)

    def _loader(self) -> str:
        loader = self._inside.real(self._image.loader)
        if loader is None or not os.access(loader, os.X_OK):
            raise CannotStartError(f"the image's loader {self._image.loader!a} is not in it", exit_code=_CANNOT)
        return loader

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        loader, inside = self._loader(), self._inside
        folders = ":".join(self._folders(environment.get("LD_LIBRARY_PATH", "")))
        added = {
            "FAKECHROOT": "true",
            "FAKECHROOT_BASE": inside.root,
            "FAKECHROOT_ELFLOADER": loader,
            "FAKECHROOT_EXCLUDE_PATH": ":".join(inside.shared),
            "LD_LIBRARY_PATH": folders,
            "FAKECHROOT_LDLIBPATH": folders,
            "LD_PRELOAD": ":".join((self._library(), *self._preloaded(environment.get("LD_PRELOAD", "")))),
        }
        # Not FAKECHROOT_ELFLOADER_OPT_ARGV0: with it libfakechroot loses the last two arguments of every `#!` script that a process
        # starts (execve.c, the words after the loader's are moved by too few). A nested program sees its whole path as its name.
        kept = {name: value for name, value in environment.items() if not name.startswith("FAKECHROOT")}
        return {**kept, **added}

    def _library(self) -> str:
        for least in _LIBRARIES:
            if self._glibc >= least:
                library = self._setting.libraries / f"{least[0]}.{least[1]}" / _LIBRARY
                if not library.is_file():
                    raise CannotStartError(f"the agent's own {library} is missing", exit_code=_CANNOT)
                return str(library)
        raise CannotStartError(
            f"the image's glibc {self._image.glibc} is older than 2.14: deploy the function with `runtime: image`",
            exit_code=_CANNOT,
        )

    def _preloaded(self, value: str) -> Iterator[str]:
        """The image's own LD_PRELOAD, as far as the image has it."""
        for name in value.replace(":", " ").split():
            file = self._inside.real(name) if "/" in name else name
            if file is None:
                self._setting.log.warning("LD_PRELOAD names a library that the image does not have", library=name)
            else:
                yield file

    def _folders(self, own: str) -> Iterator[str]:
        """Where the loader looks, in its order: LD_LIBRARY_PATH, /etc/ld.so.conf, the defaults; each folder once, under its real name."""
        defaults = [folder.format(os.uname().machine) for folder in _DEFAULT_FOLDERS]
        seen: set[str] = set()
        for folder in (*own.split(":"), *_configured(self._inside, "/etc/ld.so.conf"), *defaults):
            real = self._inside.real(folder) if folder.startswith("/") else None
            if real is not None and real not in seen and Path(real).is_dir() and ":" not in real:
                seen.add(real)
                yield real


def _configured(inside: Inside, file: str, depth: int = 0) -> Iterator[str]:
    """The folders that an ld.so.conf names, those of the files that it includes in their place."""
    real = inside.real(file)
    if real is None or not Path(real).is_file() or depth > _NESTED_SCRIPTS:
        return
    for line in Path(real).read_text("utf-8", "surrogateescape").splitlines():
        words = shlex.split(line, comments=True) if "'" not in line and '"' not in line else []
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for found in _matching(inside, str(Path(file).parent / pattern)):
                    yield from _configured(inside, found, depth + 1)
        elif words and words[0].startswith("/"):
            yield words[0].partition("=")[0]


def _matching(inside: Inside, pattern: str) -> Sequence[str]:
    folder, _, name = pattern.rpartition("/")
    real = inside.real(folder)
    if real is None or not Path(real).is_dir():
        return ()
    return [
        f"{folder}/{found}"
        for found in sorted(entry.name for entry in Path(real).iterdir())
        if fnmatchcase(found, name)
    ]


def _version(image: RootFilesystem) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in image.glibc.split("."))
    except ValueError as error:
        raise CannotStartError(
            f"function spec: root: glibc {image.glibc!a} is no version", exit_code=_CANNOT
        ) from error


def _refusal(program: str, why: str | None) -> CannotStartError:
    return CannotStartError(
        f"{program!a} cannot be run here: {why}. Only programs that load the image's glibc can, outside an image function: "
        "deploy the function with `runtime: image`",
        exit_code=_CANNOT,
    )
