"""From a definition file, its text, or values from flags to functions that can be designed: everything is checked, every problem told.

`document` turns text into values with places, `read` holds them against the model, `rules` looks at what no single key shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scar import limits
from scar.errors import FdlError, Problem
from scar.fdl import document, read, rules
from scar.fdl.files import Look, look_at
from scar.fdl.model import Function
from scar.fdl.places import NOWHERE, Node, Place, Problems, TooManyProblemsError, UnplaceableError, from_plain
from scar.fdl.rules_nodes import with_room
from scar.fdl.rules_settled import settled
from scar.fdl.services import Service

Below = Callable[[Node | None], Node | None]  # `configuration.under`


def _nothing(root: Node | None) -> Node | None:
    return root


@dataclass(frozen=True, slots=True)
class Definition:
    """What a definition file asks for. `warnings` are accepted things that have no effect."""

    functions: tuple[Function, ...]
    services: tuple[Service, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load(path: Path, *, below: Below = _nothing, environ: Mapping[str, str] = read.NO_ENVIRONMENT) -> Definition:
    """Read every function that a YAML file defines; paths in it are resolved against its folder. `below` adds what it leaves open.

    `environ` is what `${env.NAME}` is looked up in, where the language has it.
    Raises FdlError with all problems found, each at its line and column. A file of 1 MiB of anything takes at most about a second.
    """
    return parse(text_of(path), str(path), path.absolute().parent, below=below, environ=environ)


def parse(
    text: str,
    file: str,
    folder: Path,
    *,
    look: Look = look_at,
    below: Below = _nothing,
    environ: Mapping[str, str] = read.NO_ENVIRONMENT,
) -> Definition:
    """The functions that `text` defines. `look` answers what is at a path that the text names; nothing else is touched.

    `file` is what messages call the text; `folder` is what relative paths start from. Raises FdlError as `load` does.
    """
    problems = Problems.of(file)
    try:
        root = below(document.compose(text, problems))
        return _definition(root, read.Reading(problems, folder, environ), Path(file), look)
    except TooManyProblemsError:
        raise FdlError(tuple(problems.errors)) from None


def made(
    root: Node,
    file: str,
    folder: Path,
    *,
    look: Look = look_at,
    environ: Mapping[str, str] = read.NO_ENVIRONMENT,
) -> Definition:
    """The functions that nodes from elsewhere define: from flags, for example. Raises FdlError as `load` does."""
    problems = Problems.of(file)
    try:
        return _definition(root, read.Reading(problems, folder, environ), None, look)
    except TooManyProblemsError:
        raise FdlError(tuple(problems.errors)) from None


def validate(
    raw: Mapping[str, object],
    file: str = "command line",
    *,
    folder: Path | None = None,
    look: Look = look_at,
    environ: Mapping[str, str] = read.NO_ENVIRONMENT,
) -> Definition:
    """The functions that plain values define, shaped as a file would be: `{"functions": {"aws": [{"lambda": {…}}]}}`.

    The same checks as for a file; problems name `file` and the key path. `folder` (by default the current one) is what relative
    paths start from. Raises FdlError.
    """
    problems = Problems.of(file)
    try:
        try:
            root = from_plain(raw)
        except UnplaceableError as error:
            problems.add(NOWHERE, error.path, error.what)
            root = None
        return _definition(root, read.Reading(problems, folder or Path.cwd(), environ), None, look)
    except TooManyProblemsError:
        raise FdlError(tuple(problems.errors)) from None


def _definition(root: Node | None, reading: read.Reading, source: Path | None, look: Look) -> Definition:
    functions: tuple[Function, ...] = ()
    services: tuple[Service, ...] = ()
    problems = reading.problems
    if root is not None:
        functions, services = reading.file(root, source)
        functions = with_room(tuple(settled(functions, reading)), reading)
        rules.check(functions, services, reading, look)
    if problems.errors:
        raise FdlError(tuple(problems.errors))
    return Definition(functions, services, tuple(sorted(problems.warnings)))


def text_of(path: Path) -> str:
    """The file's text without a byte order mark. Raises FdlError when it is not a readable file of at most 1 MiB of UTF-8."""
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                _refuse(path, "is not a file", "Name a definition file, not a device or a pipe.")
            content = stream.read(limits.DEFINITION_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        _refuse(path, f"cannot be read: {reason}", "Name a definition file that exists and that you may read.")
    if len(content) > limits.DEFINITION_BYTES:
        _refuse(
            path,
            f"is larger than {limits.DEFINITION_BYTES // limits.MIB} MiB",
            "A definition names its scripts and images; it does not hold them.",
        )
    return _decoded(path, content)


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe that nobody writes to would wait for ever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _decoded(path: Path, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(path, "is written in UTF-16", "Save it as UTF-8.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        _refuse(path, f"byte 0x{content[error.start]:02x} is not UTF-8", "Save the file as UTF-8.", place)


def _refuse(path: Path, what: str, fix: str, place: Place = NOWHERE) -> NoReturn:
    raise FdlError((Problem(str(path), place.line, place.column, "", what, fix),))
