"""Values with their places: what a definition file holds before anyone asks what it means.

`document.compose` makes them from YAML text, `from_plain` from Python values that came from elsewhere (line 0: no place to show).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from scar import limits
from scar.errors import Problem

ScalarKind = Literal["text", "whole", "number", "truth", "null", "broken"]  # broken: already complained about
MOST_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file, counted from 1; line 0 is nowhere in particular. `source` is given for what is not in the definition file:
    the flag that said it.
    """

    line: int
    column: int
    source: str = ""


NOWHERE: Final = Place(0, 0)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: `text` as written, `kind` as YAML 1.2's core schema understands it."""

    text: str
    kind: ScalarKind
    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    nodes: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place, and its value."""

    place: Place
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, in the order it was written, merge keys done."""

    entries: Mapping[str, Entry]
    place: Place


Node: TypeAlias = Scalar | Items | Table


class TooManyProblemsError(Exception):
    """There is no use in looking on."""


@dataclass(slots=True)
class Problems:
    """Collects what is wrong, and what is merely worth saying, with one file. At most `MOST_PROBLEMS` are kept."""

    file: str
    errors: dict[Problem, None]
    warnings: dict[Problem, None]

    @classmethod
    def of(cls, file: str) -> Problems:
        return cls(file, {}, {})

    def add(self, place: Place, path: str, what: str, fix: str | None = None) -> None:
        """Note an error. Raises TooManyProblemsError once there are as many as anyone would read."""
        if len(self.errors) >= MOST_PROBLEMS:
            last = Problem(self.file, place.line, place.column, "", "there are more problems; the rest is not shown")
            self.errors[last] = None
            raise TooManyProblemsError
        self.errors[self._problem(place, path, what, fix)] = None

    def warn(self, place: Place, path: str, what: str, fix: str | None = None) -> None:
        if len(self.warnings) < MOST_PROBLEMS:
            self.warnings[self._problem(place, path, what, fix)] = None

    def _problem(self, place: Place, path: str, what: str, fix: str | None) -> Problem:
        if place.source:  # who typed a flag did not ask which key it stands for
            return Problem(place.source, 0, 0, "", what, fix)
        return Problem(self.file, place.line, place.column, path, what, fix)


PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def shown(text: str) -> str:
    """A piece of someone's file for a message: one line, at most 60 characters, nothing that a terminal would act on."""
    short = text if len(text) <= 60 else f"{text[:57]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)


def below(path: str, step: str | int) -> str:
    """The key path one step further: `functions.aws[0].lambda`."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    name = step if PLAIN_KEY.fullmatch(step) else f"'{shown(step)}'"
    return f"{path}.{name}" if path else name


class UnplaceableError(ValueError):
    """A Python value that no definition could hold. `path` is the key path to it."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(what)
        self.path, self.what = path, what


def from_plain(value: object, path: str = "", depth: int = 0) -> Node:
    """Python values as nodes without places. Raises UnplaceableError for types that a file has no form for, and for endless nesting."""
    if depth > limits.DEFINITION_DEPTH:
        raise UnplaceableError(path, f"values are nested more than {limits.DEFINITION_DEPTH} deep")
    if isinstance(value, Mapping):
        entries = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise UnplaceableError(path, f"a key is a {type(key).__name__}, text was expected")
            entries[key] = Entry(NOWHERE, from_plain(item, below(path, key), depth + 1))
        return Table(entries, NOWHERE)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Items(
            tuple(from_plain(item, below(path, index), depth + 1) for index, item in enumerate(value)), NOWHERE
        )
    return Scalar(*_plain_scalar(value, path), NOWHERE)


def _plain_scalar(value: object, path: str) -> tuple[str, ScalarKind]:
    if value is None:
        return "null", "null"
    if isinstance(value, bool):
        return ("true" if value else "false"), "truth"
    if isinstance(value, int):
        return str(value), "whole"
    if isinstance(value, float):
        return repr(value), "number"
    if isinstance(value, str):
        return value, "text"
    raise UnplaceableError(path, f"{type(value).__name__} is not something that a definition can hold")
