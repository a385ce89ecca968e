"""What does a function say that its definition does not? Configuration files stand below every definition. None is needed.

`config.yaml` has sections as an item of `functions.aws` has them (`lambda`, `batch` …), and `oscar` with what services of each cluster have
in common. `scar.cfg` is SCAR 4's (JSON), with the same sections below `aws`. They are defaults for every function; what a definition says
wins, lists as a whole. SCAR 4 wrote a file full of its own defaults: what has no meaning any more is named in one warning, an unknown
key in one of its own, and a value that cannot be is an error at its place in the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
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

OURS: Final = ".yaml"  # of the name of a file that is not SCAR 4's
# Sections that say how something is made which a function only has when its definition says so.
_ONLY_IF_GIVEN: Final = ("api_gateway", "function_url")
# One account and one region for all of a function: what SCAR 4 wrote into every section is `lambda`'s, and that is a setting.
_SETTINGS: Final = frozenset({"boto_profile", "region"})
_NOWHERE_TABLE: Final = Table({}, NOWHERE)
# What SCAR 4 wrote into every file: a family that AWS retired, and a template for machines that jobs need no more.
_OPENED: Final = "method"  # SCAR 4 wrote into everybody's file that endpoints are open to the world
_GONE: Final[Mapping[str, object]] = {"instance_types": ["m3.medium"], "launch_template_name": "faas-supervisor"}


HIDDEN: Final = "(hidden)"


@dataclass(frozen=True, slots=True)
class Configuration:
    """`sections` is shaped as one item of `functions.aws`, `clusters` as one of `functions.oscar`. `profile` and `region` are settings
    (scar.settings).
    """

    path: Path
    sections: Table = _NOWHERE_TABLE
    clusters: Table = _NOWHERE_TABLE
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
        aws, clusters = _parts(root, ours=path.suffix == OURS, problems=problems)
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
    return Configuration(path, sections, clusters, profile, region, tuple(sorted(problems.warnings)))


def under(root: Node | None, configuration: Configuration) -> Node | None:
    """A definition whose functions and services fall back on the configuration. What is no list of them stays as it is."""
    functions = root.entries.get("functions") if isinstance(root, Table) else None
    if not isinstance(root, Table) or functions is None or not isinstance(functions.value, Table):
        return root
    filled = _each(functions.value, "aws", lambda node: _function(node, configuration.sections))
    filled = _each(filled, "oscar", lambda node: _services(node, configuration.clusters))
    return _with(root, "functions", replace(functions, value=filled))


def _each(functions: Table, name: str, change: Callable[[Node], Node]) -> Table:
    entry = functions.entries.get(name)
    if entry is None or not isinstance(entry.value, Items):
        return functions
    nodes = tuple(change(node) for node in entry.value.nodes)
    return _with(functions, name, replace(entry, value=replace(entry.value, nodes=nodes)))


def _services(node: Node, clusters: Table) -> Node:
    """An item of `functions.oscar`: services by the name of their cluster."""
    if not isinstance(node, Table):
        return node
    entries = {}
    for name, entry in node.entries.items():
        default = clusters.entries.get(name)
        if default is not None and isinstance(default.value, Table) and isinstance(entry.value, Table):
            entries[name] = replace(entry, value=_merged(entry.value, default.value))
        else:
            entries[name] = entry
    return replace(node, entries=entries)


def _function(node: Node, sections: Table) -> Node:
    if not isinstance(node, Table) or not isinstance(getattr(node.entries.get("lambda"), "value", None), Table):
        return node
    wanted = {
        name: entry for name, entry in sections.entries.items() if name not in _ONLY_IF_GIVEN or name in node.entries
    }
    merged = _merged(node, replace(sections, entries=wanted))
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
            elif (
                field is None
                or field.key.legacy
                or read.plain(entry.value) == _GONE.get(name, _GONE)
                or name == _OPENED
            ):
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


def _parts(root: Node | None, *, ours: bool, problems: Problems) -> tuple[Table, Table]:
    """What the file says of functions, and of clusters. `scar` is SCAR 4's note about itself."""
    if ours and root is not None and not isinstance(root, Table) and not _is_empty(root):
        problems.add(root.place, "", "a table of sections was expected", "For example: `lambda: {memory: 1024}`.")
    if not isinstance(root, Table):
        return _NOWHERE_TABLE, _NOWHERE_TABLE
    clusters = _table(root, "oscar")
    if not ours:
        return _table(root, "aws"), clusters
    return replace(root, entries={name: entry for name, entry in root.entries.items() if name != "oscar"}), clusters


def _table(node: Table, name: str) -> Table:
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
        **dict(_said(configuration, configuration.clusters, "oscar")),
    }


def _said(configuration: Configuration, table: Table, path: str) -> Iterator[tuple[str, tuple[object, str]]]:
    for name, entry in table.entries.items():
        here = below(path, name)
        if isinstance(entry.value, Table) and name != "environment":
            yield from _said(configuration, entry.value, here)
        else:
            value = HIDDEN if name in document.CREDENTIALS else read.plain(entry.value)
            if isinstance(value, dict):
                value = value.get("Variables", value)
            yield here, (value, configuration.origin(entry.place))
