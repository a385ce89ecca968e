"""Which program runs, decided without a shell: the script's interpreter from its first line, or the image's own command.

The script is handed to its interpreter as an argument, so it needs no execute bit, the file system may be `noexec`, and the image
needs neither `/bin/sh` nor `/usr/bin/env` unless the script itself asks for them.

`real` answers which file a name means to the user's process (None: none): the runner's business, the name itself where agent and
process see the same files.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor.contract import ImageProcess
from faassupervisor.errors import CannotStartError

_SHELL: Final = "/bin/sh"
_ELF: Final = b"\x7fELF"
_FIRST_LINE_BYTES: Final = 4096
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126

Real = Callable[[str], str | None]


def as_named(name: str) -> str | None:
    return name if os.access(name, os.F_OK) else None


@dataclass(frozen=True, slots=True)
class Command:
    """`program` is the file that is executed; `arguments` begin with the name that it sees itself as."""

    program: str
    arguments: tuple[str, ...]


def of_script(
    script: Path, arguments: Sequence[str], environment: Mapping[str, str], *, function: str, real: Real = as_named
) -> Command:
    """The command that runs a script: by its `#!` line, as a program of its own when it is one, else by the shell.

    Raises CannotStartError with 127 when the interpreter is not in the image.
    """
    with script.open("rb") as file:
        head = file.read(_FIRST_LINE_BYTES)
    if head.startswith(_ELF):
        return Command(str(script), (str(script), *arguments))
    words = interpreter(head) if head.startswith(b"#!") else [_shell(environment, real)]
    if not words:
        raise CannotStartError("the script's first line names no interpreter after '#!'", exit_code=_NOT_FOUND)
    program = find(words[0], environment, real)
    if program is None:
        raise CannotStartError(
            f"the script asks for {words[0]!a}, which the image of function {function!r} does not have",
            exit_code=_NOT_FOUND,
        )
    return Command(program, (*words, str(script), *arguments))


def of_image(
    image: ImageProcess,
    arguments: Sequence[str] | None,
    environment: Mapping[str, str],
    *,
    function: str,
    real: Real = as_named,
) -> Command:
    """The image's ENTRYPOINT with its CMD, or with `arguments` in place of CMD, as `docker run` has it."""
    words = (*image.entrypoint, *(image.command if arguments is None else arguments))
    if not words:
        raise CannotStartError(
            f"function {function!r} has no script, and its image has neither ENTRYPOINT nor CMD: there is nothing to run",
            exit_code=_NOT_FOUND,
        )
    program = find(words[0], environment, real)
    if program is None:
        raise CannotStartError(f"the image of function {function!r} has no program {words[0]!a}", exit_code=_NOT_FOUND)
    return Command(program, words)


def find(name: str, environment: Mapping[str, str], real: Real = as_named) -> str | None:
    """The file that a name means: itself when it has a slash, else the first executable one on the process's own PATH."""
    if "/" in name:
        file = real(name)
        if file is None:
            return None
        if not os.access(file, os.X_OK):
            raise CannotStartError(f"{name!a} is not executable", exit_code=_NOT_EXECUTABLE)
        return name
    for directory in environment.get("PATH", "").split(":"):
        candidate = str(Path(directory or ".", name))
        file = real(candidate)
        if file is not None and os.access(file, os.X_OK) and Path(file).is_file():
            return candidate
    return None


def first_line(head: bytes) -> list[str]:
    """The words of a `#!` line as Linux splits them: a program and at most one argument."""
    return head[2:].split(b"\n", 1)[0].decode("utf-8", "surrogateescape").strip().split(None, 1)


def interpreter(head: bytes) -> list[str]:
    """The words of a script's first line; `env` is resolved here."""
    words = first_line(head)
    if not words or Path(words[0]).name != "env" or len(words) == 1:
        return words
    rest = words[1].strip()
    if rest.startswith(("-S", "--split-string")):
        try:
            return shlex.split(rest.removeprefix("-S").removeprefix("--split-string").removeprefix("="))
        except ValueError as error:
            raise CannotStartError(f"the script's first line cannot be split: {error}", exit_code=_NOT_FOUND) from error
    # Other options of env, and NAME=VALUE, are its own business.
    return words if rest.startswith("-") or "=" in rest else [rest]


def _shell(environment: Mapping[str, str], real: Real) -> str:
    file = real(_SHELL)
    if (file is not None and os.access(file, os.X_OK)) or find("sh", environment, real) is None:
        return _SHELL
    return "sh"
