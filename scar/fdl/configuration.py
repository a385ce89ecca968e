"""What does a function say that its definition does not? The configuration file of SCAR 4 (`scar.cfg`, JSON) stands below every definition.

None is needed. A section of it (`aws.lambda`, `aws.batch` …) gives defaults to the section of the same name of every function; what a
definition says wins, lists as a whole. SCAR 4 wrote a file full of its own defaults: what has no meaning any more is named in one
warning, an unknown key in one of its own, and a value that cannot be is an error at its place in the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from scar.errors import FdlError, Problem
from scar.fdl import document, read
from scar.fdl.key import Field, keys_of
from scar.fdl.load import text_of
from scar.fdl.model import Function
from scar.fdl.places import (
    NOWHERE,
    Entry,
    Items,
    Node,
    Place,
    Problems,
    Scalar,
    Table,
    TooManyProblemsError,
    below,
    from_plain,
    shown,
)

# Notes of SCAR 4 about itself, and what its own way of working needed.
_NOTES: Final = frozenset({"scar", "oscar"})
# One account and one region for all of a function: what SCAR 4 wrote into every section is `lambda`'s, and that is a setting.
_SETTINGS: Final = frozenset({"boto_profile", "region"})
_NOWHERE_TABLE: Final = Table({}, NOWHERE)
# What SCAR 4 wrote into every file: a family that AWS retired, and a template for machines that jobs need no more.
_GONE: Final[Mapping[str, object]] = {"instance_types": ["m3.medium"], "launch_template_name": "faas-supervisor"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """`sections` is shaped as one item of `functions.aws`. `profile` and `region` are settings (scar.settings)."""

    path: Path
    sections: Table = _NOWHERE_TABLE
    profile: str | None = None
    region: str | None = None
    warnings: tuple[Problem, ...] = ()

    def origin(self, place: Place) -> str:
        return f"{self.path}:{place.line}"


def load(path: Path) -> Configuration:
    """Raises FdlError with every value that cannot be, each at its place in the file."""
    problems = Problems.of(str(path))
    try:
        root = document.compose(text_of(path), problems)
        sifted = _Sifted(problems)
        aws = _table(_table(root, "", sifted), "aws", sifted) if isinstance(root, Table) else _NOWHERE_TABLE
        sections = sifted.section(Function, aws, "aws")
        if not problems.errors:
            _check(sections, problems, path.absolute().parent)
    except TooManyProblemsError:
        raise FdlError(tuple(problems.errors)) from None
    if problems.errors:
        raise FdlError(tuple(problems.errors))
    sifted.tell()
    said = aws.entries.get("lambda")
    profile, region = (_text(said.value if said else None, name) for name in ("boto_profile", "region"))
    if profile == "default":  # as SCAR 4 called the choice that boto makes by itself
        profile = None
    return Configuration(path, sections, profile, region, tuple(sorted(problems.warnings)))


def under(root: Node | None, configuration: Configuration) -> Node | None:
    """A definition whose every function falls back on the configuration. What is no list of functions stays as it is."""
    if not isinstance(root, Table) or not configuration.sections.entries:
        return root
    functions = root.entries.get("functions")
    aws = functions.value.entries.get("aws") if functions and isinstance(functions.value, Table) else None
    if functions is None or aws is None or not isinstance(functions.value, Table) or not isinstance(aws.value, Items):
        return root
    nodes = tuple(_function(node, configuration.sections) for node in aws.value.nodes)
    filled = _with(functions.value, "aws", replace(aws, value=replace(aws.value, nodes=nodes)))
    return _with(root, "functions", replace(functions, value=filled))


def _function(node: Node, sections: Table) -> Node:
    if not isinstance(node, Table) or not isinstance(getattr(node.entries.get("lambda"), "value", None), Table):
        return node
    merged = _merged(node, sections)
    mode = _text(merged.entries["lambda"].value, "execution_mode")
    if mode in {None, "lambda"} and "batch" not in node.entries:  # a function without jobs is told nothing about them
        merged = replace(merged, entries={name: entry for name, entry in merged.entries.items() if name != "batch"})
    return merged


def _merged(above: Table, defaults: Table) -> Table:
    entries = dict(above.entries)
    for name, default in defaults.entries.items():
        given = entries.get(name)
        if given is None or (isinstance(given.value, Scalar) and given.value.kind == "null"):
            # At the place of what is above it: the problem of a mixture is to be looked for in the definition.
            entries[name] = Entry(above.place, _at(default.value, above.place))
        elif isinstance(given.value, Table) and isinstance(default.value, Table):
            entries[name] = replace(given, value=_merged(given.value, default.value))
    return replace(above, entries=entries)


def _at(node: Node, place: Place) -> Node:
    match node:
        case Table(entries):
            return Table({name: Entry(place, _at(entry.value, place)) for name, entry in entries.items()}, place)
        case Items(nodes):
            return Items(tuple(_at(one, place) for one in nodes), place)
        case Scalar():
            return replace(node, place=place)


def _with(table: Table, name: str, entry: Entry) -> Table:
    return replace(table, entries={**table.entries, name: entry})


class _Sifted:
    """Keeps what means something, and remembers what does not."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._meaningless: list[tuple[Place, str]] = []

    def section(self, kind: type[Any], table: Table, path: str) -> Table:
        fields = {name: field for field in keys_of(kind) for name in field.names}
        retired: Mapping[str, str] = getattr(kind, "RETIRED", {})
        kept: dict[str, Entry] = {}
        for name, entry in table.entries.items():
            field = fields.get(name)
            if name in _SETTINGS or _is_empty(entry.value):
                continue
            if field is None and name not in retired:
                self._unknown(name, entry, path, tuple(fields))
            elif field is None or field.key.legacy or read.plain(entry.value) == _GONE.get(name, _GONE):
                self.meaningless(entry.place, below(path, name))
            elif not _is_default(field, entry.value):
                kept[name] = replace(entry, value=self._value(field, entry.value, below(path, name)))
        return replace(table, entries=kept)

    def meaningless(self, place: Place, path: str) -> None:
        self._meaningless.append((place, path))

    def tell(self) -> None:
        if self._meaningless:
            named = ", ".join(path for _, path in self._meaningless)
            place = self._meaningless[0][0]
            self._problems.warn(
                place, "", f"these have no effect any more: {named}", "Remove them, or leave them there."
            )

    def _value(self, field: Field, node: Node, path: str) -> Node:
        if field.shape.kind == "section" and field.shape.section and isinstance(node, Table):
            return self.section(field.shape.section, node, path)
        return node

    def _unknown(self, name: str, entry: Entry, path: str, known: tuple[str, ...]) -> None:
        guesses = difflib.get_close_matches(name[:64], known, 1)
        fix = f"Did you mean `{guesses[0]}`?" if guesses else "Remove it."
        self._problems.warn(entry.place, below(path, name), f"unknown key `{shown(name)}`, which has no effect", fix)


def _check(sections: Table, problems: Problems, folder: Path) -> None:
    """As the only function of a definition, named and with an image, each value has to be one that could be written there."""
    named = {"name": "configuration", "container": {"image": "scratch"}}
    one = _merged(sections, _plain({"lambda": named}))
    whole = _plain({"functions": {"aws": []}})
    functions = whole.entries["functions"]
    assert isinstance(functions.value, Table)
    listed = _with(functions.value, "aws", Entry(NOWHERE, Items((one,), NOWHERE)))
    read.Reading(problems, folder).file(_with(whole, "functions", replace(functions, value=listed)), None)


def _plain(value: Mapping[str, object]) -> Table:
    node = from_plain(value)
    assert isinstance(node, Table)
    return node


def _table(node: Node | None, name: str, sifted: _Sifted) -> Table:
    """The table called `name`, or the table itself for ''. What stands beside it is not for us."""
    if not isinstance(node, Table):
        return _NOWHERE_TABLE
    if not name:
        for note in sorted(_NOTES & node.entries.keys()):
            if note != "scar":
                sifted.meaningless(node.entries[note].place, note)
        return node
    entry = node.entries.get(name)
    return entry.value if entry and isinstance(entry.value, Table) else _NOWHERE_TABLE


def _text(node: Node | None, name: str) -> str | None:
    entry = node.entries.get(name) if isinstance(node, Table) else None
    return entry.value.text if entry and isinstance(entry.value, Scalar) and entry.value.kind == "text" else None


def _is_empty(node: Node) -> bool:
    match node:
        case Table(entries):
            return all(_is_empty(entry.value) for entry in entries.values())
        case Items(nodes):
            return not nodes
        case Scalar(text, kind):
            return kind == "null" or (kind == "text" and not text)


def _is_default(field: Field, node: Node) -> bool:
    """Whether it says what goes without saying; SCAR 4 wrote that too."""
    value = read.plain(node)
    if isinstance(value, list):
        return tuple(value) == field.default
    return value == field.default or (isinstance(value, int | str) and str(value) == field.default)


def defaults() -> Iterator[tuple[str, object]]:
    """Every key of a function with the value that it has when nobody says anything, in the order of the reference."""
    yield from _defaults(Function, "aws")


def _defaults(kind: type[Any], path: str) -> Iterator[tuple[str, object]]:
    for field in keys_of(kind):
        here = below(path, field.name)
        if field.key.legacy:
            continue
        if field.shape.kind == "section" and field.shape.section:
            yield from _defaults(field.shape.section, here)
        elif not field.required:
            yield here, field.default


def said(configuration: Configuration | None) -> Mapping[str, tuple[object, str]]:
    """Key path → value and place, for all that the configuration says."""
    if configuration is None:
        return {}
    settings = {"aws.lambda.boto_profile": configuration.profile, "aws.lambda.region": configuration.region}
    return {
        **dict(_said(configuration, configuration.sections, "aws")),
        **{key: (value, str(configuration.path)) for key, value in settings.items() if value is not None},
    }


def _said(configuration: Configuration, table: Table, path: str) -> Iterator[tuple[str, tuple[object, str]]]:
    for name, entry in table.entries.items():
        here = below(path, name)
        if isinstance(entry.value, Table) and name != "environment":
            yield from _said(configuration, entry.value, here)
        else:
            value = read.plain(entry.value)
            if isinstance(value, dict):
                value = value.get("Variables", value)
            yield here, (value, configuration.origin(entry.place))
