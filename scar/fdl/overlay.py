"""What flags say, laid over what a file says: the flag wins, lists as a whole, and every value keeps its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from scar.fdl.places import NOWHERE, Entry, Items, Node, Place, Scalar, Table

# Of these a function has one only: a flag for one of them takes the place of what the file says of the other.
_RIVALS: Final[Mapping[str, str]] = {"image": "image_file", "image_file": "image"}


def table_of(values: Mapping[str, Node]) -> Table:
    """Nodes by key path (`lambda.container.image`) as a table of tables; each table is at the place of the first of its values."""
    inner: dict[str, dict[str, Node]] = {}
    entries: dict[str, Entry] = {}
    for path, node in values.items():
        name, _, rest = path.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = node
        else:
            entries[name] = Entry(node.place, node)
    for name, below in inner.items():
        table = table_of(below)
        entries[name] = Entry(table.place, table)
    places = [entry.place for entry in entries.values()]
    return Table(entries, places[0] if places else NOWHERE)


def over(root: Node | None, flags: Table, name: str | None, place: Place) -> Node | None:
    """The definition with `flags` (shaped as an item of `functions.aws`) over each of its functions, or over the one called `name`.

    A single function without a name is called so. What is no list of functions stays as it is, for the reader to complain.
    """
    functions = _below(root, "functions")
    aws = _below(functions, "aws")
    if not isinstance(root, Table) or not isinstance(functions, Table) or not isinstance(aws, Items):
        return root
    nameless = [index for index, node in enumerate(aws.nodes) if name_of(node) is None]
    called = [index for index, node in enumerate(aws.nodes) if name is None or name_of(node) == name]
    nodes = list(aws.nodes)
    if name is not None and not called and len(nameless) == 1:
        called = nameless
        flags = laid(table_of({"lambda.name": Scalar(name, "text", place)}), flags)
    for index in called:
        node = nodes[index]
        if isinstance(node, Table):
            nodes[index] = laid(flags, node)
    return _with(root, "functions", _with(functions, "aws", replace(aws, nodes=tuple(nodes))))


def alone(flags: Table) -> Table:
    """A definition of one function, of which the flags say everything."""
    return table_of({"functions.aws": Items((flags,), flags.place)})


def name_of(node: Node) -> str | None:
    """The name of an item of `functions.aws`."""
    name = _below(_below(node, "lambda"), "name")
    return name.text if isinstance(name, Scalar) and name.kind != "null" else None


def laid(above: Table, below: Table) -> Table:
    """Both tables in one. What stands in both is the upper one's, table by table; the whole is where the lower one is."""
    entries = {name: entry for name, entry in below.entries.items() if _RIVALS.get(name) not in above.entries}
    for name, entry in above.entries.items():
        given = entries.get(name)
        if given is not None and isinstance(given.value, Table) and isinstance(entry.value, Table):
            entries[name] = replace(given, value=laid(entry.value, given.value))
        else:
            entries[name] = entry
    return Table(entries, below.place)


def _below(node: Node | None, step: str) -> Node | None:
    entry = node.entries.get(step) if isinstance(node, Table) else None
    return None if entry is None else entry.value


def _with(table: Table, name: str, value: Node) -> Table:
    return replace(table, entries={**table.entries, name: replace(table.entries[name], value=value)})
