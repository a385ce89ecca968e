"""From YAML text to values with places, whatever the text is.

The language is YAML 1.2's core schema: `no`, `on` and `1_000` are text, only true and false are truth values, and there are no tags
but the core ones. PyYAML's parser gives events; they are counted and their depth is watched as they come, so neither a bomb of
aliases nor a hundred thousand brackets takes more than a moment. Keys may not repeat; `<<` merges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import yaml
from yaml import events
from yaml.reader import ReaderError

from scar import limits
from scar.fdl.places import Entry, Items, Node, Place, Problems, Scalar, ScalarKind, Table, below, shown

# libyaml's parser is some twenty times faster; both give the same events and marks.
LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CREDENTIALS: Final = frozenset(
    {"access_key", "secret_key", "login", "password", "token", "access_token", "refresh_token", "auth_password"}
)
UNSPEAKABLE: Final = re.compile("[\0\ud800-\udfff]")  # escapes can still make these
CORE: Final = "tag:yaml.org,2002:"
NULL: Final = re.compile(r"~|null|Null|NULL|")
TRUTH: Final = re.compile(r"true|True|TRUE|false|False|FALSE")
WHOLE: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
TAGS: Final[Mapping[str, frozenset[ScalarKind]]] = {
    "str": frozenset({"text", "whole", "number", "truth", "null"}),
    "int": frozenset({"whole"}),
    "float": frozenset({"whole", "number"}),
    "bool": frozenset({"truth"}),
    "null": frozenset({"null"}),
}
HINTS: Final = (
    ("mapping values are not allowed", "Put a value that holds `: ` in quotes, and check the indentation."),
    ("cannot start any token", "Put the value in quotes."),
    ("unexpected end of stream", "Close the quote or the bracket that was opened here or above."),
    ("unexpected document indicator", "Close the quote that was opened above."),
    ("invalid Unicode character escape", "Write the character itself."),
    ("undefined tag handle", "Remove the tag: a definition holds plain values only."),
)
ANY_HINT: Final = "Check the indentation of this line and of the one above, and that quotes and brackets are closed."


class _UnreadableError(Exception):
    """The rest of the text cannot be understood; the reason is among the problems."""


class _Source(Protocol):
    def check_event(self, *choices: type[Any]) -> bool: ...

    def get_event(self) -> Any: ...

    def peek_event(self) -> Any: ...


def compose(text: str, problems: Problems, loader: type[Any] = LOADER) -> Node | None:
    """The one document in `text`; None when there is none to speak of. What is wrong with it is added to `problems`."""
    text = text.removeprefix("\ufeff")
    if len(text) > limits.DEFINITION_BYTES:
        problems.add(Place(1, 1), "", f"the definition is larger than {limits.DEFINITION_BYTES // limits.MIB} MiB")
        return None
    if found := FORBIDDEN.search(text):
        problems.add(
            _place_at(text, found.start()),
            "",
            f"the character U+{ord(found[0]):04X} is not allowed in YAML",
            "Remove it." if found[0] == "\0" else 'Remove it, or write it as an escape in double quotes, as in "\\e".',
        )
        return None
    source = loader(text)
    try:
        return _Composer(source, problems).document()
    except _UnreadableError:
        return None
    except yaml.YAMLError as error:
        _explain(error, text, problems)
        return None
    finally:
        source.dispose()


def _place_at(text: str, index: int) -> Place:
    return Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _explain(error: yaml.YAMLError, text: str, problems: Problems) -> None:
    """One problem in our words, with the parser's in it."""
    if isinstance(error, ReaderError):
        problems.add(
            _place_at(text, int(error.position)), "", f"not valid YAML: {error.reason}", "Save the file as UTF-8."
        )
        return
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = str(getattr(error, "problem", None) or error)
    place = _place(mark) if mark is not None else Place(1, 1)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or ("start any token" in what and line[place.column - 1 : place.column] == "\t"):
        problems.add(place, "", "a tab stands where YAML wants spaces", "Indent with spaces.")
        return
    context, began = getattr(error, "context", None), getattr(error, "context_mark", None)
    if context and began is not None:
        what = f"{what}, {context} (from line {began.line + 1})"
    fix = next((hint for words, hint in HINTS if words in what), ANY_HINT)
    problems.add(place, "", f"not valid YAML: {_printable(what)}", fix)


def _told(text: str, path: str) -> str:
    """A piece of the file for a message. What stands where a credential does is not shown: a password may begin with `*` or `!`."""
    return "…" if path.rpartition(".")[2] in CREDENTIALS else shown(text)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:300])


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A node that aliases may stand for: how many values it holds, and how deep it goes below itself."""

    node: Node
    values: int
    height: int


class _Composer:
    """Builds nodes from events. Depth is bounded before anything recurses, and values are counted with aliases expanded."""

    def __init__(self, source: _Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._anchors: dict[str, _Anchored | None] = {}  # None while the anchored node is still open
        self._values = 0
        self._deepest = 0

    def document(self) -> Node:
        self._source.get_event()  # the stream's start
        if self._source.check_event(events.StreamEndEvent):
            return Scalar("", "null", Place(1, 1))
        self._source.get_event()  # the document's start
        root = self._node(0, "")
        self._source.get_event()  # the document's end
        following = self._source.get_event()
        if isinstance(following, events.DocumentStartEvent):
            self._problems.add(
                _place(following.start_mark),
                "",
                "a second document begins here",
                "Keep one document, without `---` in between, in a file.",
            )
            raise _UnreadableError
        return root

    def _node(self, depth: int, path: str) -> Node:
        event = self._source.get_event()
        place = _place(event.start_mark)
        self._count(1, place)
        if isinstance(event, events.AliasEvent):
            return self._alias(event.anchor, depth, place, path)
        if depth > limits.DEFINITION_DEPTH:
            self._stop(
                place,
                f"values are nested more than {limits.DEFINITION_DEPTH} deep",
                "Nothing in a definition goes deeper than 8.",
            )
        before, self._deepest, outside = self._values, depth, self._deepest
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._bare(event, depth, place, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(node, self._values - before + 1, self._deepest - depth)
        self._deepest = max(outside, self._deepest)
        return node

    def _bare(self, event: Any, depth: int, place: Place, path: str) -> Node:
        if isinstance(event, events.ScalarEvent):
            return self._scalar(event, place, path)
        wanted = "seq" if isinstance(event, events.SequenceStartEvent) else "map"
        node = self._items(depth, place, path) if wanted == "seq" else self._table(depth, place, path)
        if event.tag in {None, "!", CORE + wanted}:
            return node
        return self._bad_tag(event.tag, place, path)

    def _alias(self, anchor: str | None, depth: int, place: Place, path: str) -> Node:
        assert anchor is not None  # the parser's promise: an alias has a name
        if anchor not in self._anchors:
            self._problems.add(
                place,
                path,
                f"`*{_told(anchor, path)}` has no anchor above it",
                f"Mark a value with `&{_told(anchor, path)}` first, or put the value in quotes.",
            )
            return Scalar("", "broken", place)
        anchored = self._anchors[anchor]
        if anchored is None:
            self._problems.add(
                place, path, f"`*{shown(anchor)}` stands for a value that it is part of", "Write the value out."
            )
            return Scalar("", "broken", place)
        self._count(anchored.values, place)
        if depth + anchored.height > limits.DEFINITION_DEPTH:
            self._stop(
                place,
                f"values are nested more than {limits.DEFINITION_DEPTH} deep",
                "Nothing in a definition goes deeper than 8.",
            )
        self._deepest = max(self._deepest, depth + anchored.height)
        return anchored.node

    def _count(self, values: int, place: Place) -> None:
        self._values += values
        if self._values > limits.DEFINITION_NODES:
            self._stop(
                place,
                f"there are more than {limits.DEFINITION_NODES} values, counting what aliases stand for",
                "Split the definition into several files.",
            )

    def _stop(self, place: Place, what: str, fix: str) -> NoReturn:
        self._problems.add(place, "", what, fix)
        raise _UnreadableError

    def _scalar(self, event: Any, place: Place, path: str) -> Scalar:
        text: str = event.value
        if UNSPEAKABLE.search(text):
            self._problems.add(
                place, path, "a value holds a NUL or half a character", "Remove the escape that makes it."
            )
            return Scalar("", "broken", place)
        kind = core_kind(text)
        if event.tag in {None, "!"}:
            return Scalar(text, kind if event.implicit[0] else "text", place)
        name = event.tag.removeprefix(CORE)
        if not event.tag.startswith(CORE) or name not in TAGS:
            return self._bad_tag(event.tag, place, path)
        if kind not in TAGS[name]:
            self._problems.add(place, path, f"`!!{name}` does not fit '{_told(text, path)}'", "Remove the tag.")
            return Scalar("", "broken", place)
        return Scalar(text, "text" if name == "str" else kind, place)

    def _bad_tag(self, tag: str, place: Place, path: str) -> Scalar:
        name = f"!!{tag.removeprefix(CORE)}" if tag.startswith(CORE) else tag
        self._problems.add(
            place,
            path,
            f"the tag `{_told(name, path)}` is not allowed",
            "Remove it: a definition holds plain values only.",
        )
        return Scalar("", "broken", place)

    def _items(self, depth: int, place: Place, path: str) -> Items:
        nodes: list[Node] = []
        while not self._source.check_event(events.SequenceEndEvent):
            nodes.append(self._node(depth + 1, below(path, len(nodes))))
        self._source.get_event()
        return Items(tuple(nodes), place)

    def _table(self, depth: int, place: Place, path: str) -> Table:
        entries: dict[str, Entry] = {}
        merged: list[Table] = []
        merges: Place | None = None
        while not self._source.check_event(events.MappingEndEvent):
            event = self._source.peek_event()
            if isinstance(event, events.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                key_place = _place(event.start_mark)
                if merges is not None:
                    self._repeated("<<", key_place, merges, path)
                merges = key_place
                self._node(depth + 1, path)
                merged.extend(self._merged(self._node(depth + 1, below(path, "<<")), path))
                continue
            key = self._node(depth + 1, path)
            value = self._node(depth + 1, below(path, key.text) if isinstance(key, Scalar) else path)
            self._enter(entries, key, value, _place(event.start_mark), path)
        self._source.get_event()
        for table in merged:
            for name, entry in table.entries.items():
                entries.setdefault(name, entry)
        return Table(entries, place)

    def _enter(self, entries: dict[str, Entry], key: Node, value: Node, place: Place, path: str) -> None:
        if not isinstance(key, Scalar):
            self._problems.add(place, path, "a key is a list or a mapping", "A key is one word.")
        elif key.kind != "broken":
            if key.text in entries:
                self._repeated(key.text, place, entries[key.text].place, path)
            else:
                entries[key.text] = Entry(place, value)

    def _repeated(self, name: str, place: Place, first: Place, path: str) -> None:
        self._problems.add(
            place, path, f"the key `{shown(name)}` is already on line {first.line}", "Keep one of the two."
        )

    def _merged(self, node: Node, path: str) -> Iterator[Table]:
        for item in node.nodes if isinstance(node, Items) else (node,):
            if isinstance(item, Table):
                yield item
            elif not (isinstance(item, Scalar) and item.kind == "broken"):
                self._problems.add(
                    item.place,
                    path,
                    "`<<` takes a mapping, or a list of mappings",
                    "Name an anchor of a mapping: `<<: *name`.",
                )


def core_kind(text: str) -> ScalarKind:
    """What an unquoted text is in YAML 1.2's core schema."""
    if NULL.fullmatch(text):
        return "null"
    if TRUTH.fullmatch(text):
        return "truth"
    if WHOLE.fullmatch(text):
        return "whole"
    if NUMBER.fullmatch(text):
        return "number"
    return "text"
