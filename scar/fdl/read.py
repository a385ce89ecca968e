"""Holds values against the model: a node of the right shape becomes the dataclass, anything else a problem at its place.

The reader knows no key by name. A value that fails leaves its default (text without a default: '') so that the rest is still checked.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from scar.fdl.advice import KINDS, homes, listing, owner, wanted
from scar.fdl.document import UNSPEAKABLE
from scar.fdl.forms import FORMS, FormError
from scar.fdl.key import Field, Form, Names, OneOf, Pattern, Range, Shape, keys_of
from scar.fdl.model import File, Function
from scar.fdl.places import Entry, Items, Node, Place, Problems, Scalar, Table, below, shown
from scar.fdl.providers import StorageProviders
from scar.fdl.services import OscarService, Service
from scar.secret import Secret

FAILED: Final = object()
NO_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({})
VARIABLE: Final = re.compile(r"(\$?)\$\{env\.([^}]*)\}")
EXAMPLE: Final = "Begin with `functions: {aws: [{lambda: {name: …, container: {image: …}}}]}`."


class Reading:
    """One pass over one definition. `places` holds the place of every value that was given, by key path; `failed` those in error."""

    def __init__(self, problems: Problems, folder: Path, environ: Mapping[str, str] = NO_ENVIRONMENT) -> None:
        self.problems = problems
        self.folder = folder.absolute()
        self.environ = environ
        self.places: dict[str, Place] = {}
        self.failed: set[str] = set()

    def file(self, root: Node | None, source: Path | None) -> tuple[tuple[Function, ...], tuple[Service, ...]]:
        """Every function of `functions.aws` and every service of `functions.oscar`, in order, as far as they can be read."""
        if root is None or _absent(root):
            self.problems.add(root.place if root else Place(1, 1), "", "the definition is empty", EXAMPLE)
            return (), ()
        value = self._section(File, root, "")
        if value is FAILED:
            return (), ()
        providers: StorageProviders = value.storage_providers
        functions: tuple[Function, ...] = value.functions.aws
        return (
            tuple(dataclasses.replace(each, source=source, storage_providers=providers) for each in functions),
            tuple(self._services(value.functions.oscar, providers)),
        )

    def _services(
        self, entries: tuple[Mapping[str, OscarService], ...], providers: StorageProviders
    ) -> Iterator[Service]:
        for index, entry in enumerate(entries):
            for cluster, oscar in entry.items():
                path = below(below("functions.oscar", index), cluster)
                yield Service(cluster, oscar, providers, self.problems.file, self.place(path), path)

    def sound(self, path: str) -> bool:
        """Whether the key at `path` was given and could be read."""
        return path in self.places and path not in self.failed

    def place(self, path: str) -> Place:
        """Where the value at `path` is, or the nearest thing around it that was given."""
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Place(1, 1))

    def _fail(self, place: Place, path: str, what: str, fix: str | None = None) -> Any:
        self.problems.add(place, path, what, fix)
        self.failed.add(path)
        return FAILED

    def _section(self, section: type[Any], node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            return self._wrong(node, "section", path, f"Its keys are {listing(section)}.")
        self.places[path] = node.place
        fields = {name: field for field in keys_of(section) for name in field.names}
        values: dict[str, Any] = {}
        given: dict[str, str] = {}
        meant: set[str] = set()  # keys that a misspelt one stands for: not called missing as well
        for name, entry in node.entries.items():
            field = fields.get(name)
            if field is None:
                guess = self._unknown(section, name, entry, path)
                meant |= {fields[guess].attribute} if guess else set()
            elif not _absent(entry.value) and self._welcome(field, name, entry, path, given):
                given[field.attribute] = name
                value = self._value(field, entry.value, below(path, name))
                if value is not FAILED:
                    values[field.attribute] = value
        for field in keys_of(section):
            if field.required and field.attribute not in values:
                if field.attribute not in given and field.attribute not in meant:
                    self._fail(
                        node.place,
                        below(path, field.name),
                        f"`{field.name}` is missing",
                        f"Add `{field.name}`: {_lower(field.key.doc)}",
                    )
                values[field.attribute] = _blank(field.shape)
        return section(**values)

    def _welcome(self, field: Field, name: str, entry: Entry, path: str, given: Mapping[str, str]) -> bool:
        """Whether a known key may stand here; complains when not, and warns when it changes nothing."""
        here, key = below(path, name), field.key
        if field.attribute in given:
            self._fail(
                entry.place, here, f"`{name}` is another spelling of `{given[field.attribute]}`", "Keep one of the two."
            )
            return False
        if key.legacy:
            self.problems.warn(entry.place, here, f"`{name}` {key.legacy}", "Remove it.")
        self.places[here] = entry.value.place
        return True

    def _unknown(self, section: type[Any], name: str, entry: Entry, path: str) -> str | None:
        """Complain about a key that the section does not have. Answers the key that was probably meant."""
        here = below(path, name)
        retired: Mapping[str, str] = getattr(section, "RETIRED", {})
        if name in retired:
            if not _absent(entry.value):
                self.problems.warn(entry.place, here, f"`{name}` has no effect any more", retired[name])
            return None
        fix = f"The keys of {owner(path)} are {listing(section)}."
        guesses = difflib.get_close_matches(name[:64], [each for field in keys_of(section) for each in field.names], 1)
        if guesses:
            fix = f"Did you mean `{guesses[0]}`? {fix}"
        elif name in homes():
            fix = f"`{name}` is a key of `{homes()[name]}`. {fix}"
        self._fail(entry.place, here, f"unknown key `{shown(name)}`", fix)
        return guesses[0] if guesses else None

    def _value(self, field: Field, node: Node, path: str) -> Any:
        key = field.key
        if key.wrapper:
            return self._wrapped(field, key.wrapper, node, path)
        if key.single:
            if not isinstance(node, Items) or len(node.nodes) != 1:
                return self._wrong_single(field, node, path)
            return self._shaped(field, field.shape, node.nodes[0], below(path, 0))
        if key.bare and isinstance(node, Scalar):
            node = Items((node,), node.place)
        return self._shaped(field, field.shape, node, path)

    def _wrong_single(self, field: Field, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "broken":
            return self._wrong(node, "list", path)
        return self._fail(
            node.place, path, "a list of exactly one item was expected", f"Write `{field.name}: [{field.default}]`."
        )

    def _wrapped(self, field: Field, wrapper: str, node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            return self._wrong(node, "section", path, f"Write `{field.name}: {{{wrapper}: {{NAME: value}}}}`.")
        others = [name for name in node.entries if name != wrapper]
        if others:
            place = node.entries[others[0]].place
            return self._fail(
                place,
                path,
                f"`{shown(others[0])}` stands directly in `{field.name}`",
                f"Put the variables one level deeper: `{field.name}: {{{wrapper}: {{NAME: value}}}}`.",
            )
        entry = node.entries.get(wrapper)
        if entry is None or _absent(entry.value):
            return {}
        here = below(path, wrapper)
        self.places[here] = entry.value.place
        value = self._shaped(field, field.shape, entry.value, here)
        if value is FAILED:
            self.failed.add(path)
        return value

    def _shaped(self, field: Field, shape: Shape, node: Node, path: str) -> Any:
        self.places[path] = node.place
        match shape.kind:
            case "section":
                assert shape.section is not None
                return self._section(shape.section, node, path)
            case "list":
                return self._list(field, shape, node, path)
            case "table":
                return self._table(field, shape, node, path)
            case "anything":
                return plain(node)
            case _:
                return self._scalar(field, shape, node, path)

    def _list(self, field: Field, shape: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Items):
            return self._wrong(node, "list", path)
        if field.key.most is not None and len(node.nodes) > field.key.most:
            return self._fail(
                node.place, path, f"{len(node.nodes)} items are more than the {field.key.most} that fit", "Remove some."
            )
        assert shape.item is not None
        values = []
        for index, item in enumerate(node.nodes):
            value = self._shaped(field, shape.item, item, below(path, index))
            values.append(_blank(shape.item) if value is FAILED else value)
        return tuple(values)

    def _table(self, field: Field, shape: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            return self._wrong(node, "table", path)
        assert shape.item is not None
        names = field.key.must if isinstance(field.key.must, Names) else None
        values = {}
        for name, entry in node.entries.items():
            here = below(path, name)
            if _absent(entry.value) or (names is not None and not self._name(names, name, entry.place, here)):
                continue
            value = self._shaped(field, shape.item, entry.value, here)
            if value is not FAILED:
                values[name] = value
        if names is not None:
            self._sizes(names, values, path)
        return values

    def _name(self, names: Names, name: str, place: Place, path: str) -> bool:
        if name in names.reserved or name.startswith(names.reserved_prefixes or ("\0",)):
            self._fail(place, path, f"`{shown(name)}` cannot be set: {names.reserved_by}", "Choose another name.")
            return False
        if not re.fullmatch(names.regex, name):
            self._fail(place, path, f"'{shown(name)}' cannot be used as a name here", f"Write {names.says}.")
            return False
        return True

    def _sizes(self, names: Names, values: Mapping[str, str], path: str) -> None:
        if names.entries is not None and len(values) > names.entries:
            self._fail(
                self.place(path),
                path,
                f"{len(values)} entries are more than the {names.entries} that fit",
                "Remove some.",
            )
        for name, value in values.items():
            if names.value is not None and not re.fullmatch(names.value.regex, value):
                here = below(path, name)
                self._fail(
                    self.place(here), here, f"'{shown(value)}' cannot be used here", f"Write {names.value.says}."
                )
        size = sum(len(name.encode()) + len(value.encode()) for name, value in values.items())
        if names.bytes_ is not None and size > names.bytes_:
            self._fail(
                self.place(path),
                path,
                f"names and values take {size} bytes together, Lambda has room for {names.bytes_}",
                "Keep what is long in a file in S3 or in the image.",
            )

    def _scalar(self, field: Field, shape: Shape, node: Node, path: str) -> Any:
        if not isinstance(node, Scalar) or node.kind in {"broken", "null"}:
            return self._wrong(node, shape.kind, path)
        if shape.kind == "whole":
            return self._whole(field, node, path)
        if shape.kind == "truth":
            return node.text.lower() == "true" if node.kind == "truth" else self._wrong(node, "truth", path)
        if field.key.environ:
            text = self._expanded(node, path)
            if text is None:
                return FAILED
            node = dataclasses.replace(node, text=text)
        if shape.kind == "secret":
            return Secret(node.text) if node.text else self._fail(node.place, path, "the credential is empty")
        if node.kind != "text" and not field.key.as_written:
            return self._wrong(node, shape.kind, path)
        return self._path(node, path) if shape.kind == "path" else self._text(field, node, path)

    def _expanded(self, node: Scalar, path: str) -> str | None:
        """The text with the variables that it names; None when there is one that is not set. `$${` stands for `${` itself."""
        unset = [name for escaped, name in VARIABLE.findall(node.text) if not escaped and not self.environ.get(name)]
        for name in unset:
            self._fail(
                node.place,
                path,
                f"the environment variable `{shown(name)}` is not set",
                f"Set it where you start SCAR: `export {shown(name)}=…`. (`$${{` stands for `${{` itself.)",
            )
        if unset:
            return None
        text = VARIABLE.sub(lambda found: found[0][1:] if found[1] else self.environ[found[2]], node.text)
        if UNSPEAKABLE.search(text):
            self._fail(node.place, path, "an environment variable holds what is not UTF-8", "Set it to UTF-8 text.")
            return None
        return text

    def _path(self, node: Scalar, path: str) -> Any:
        if not node.text.strip():
            return self._fail(node.place, path, "the path is empty", "Name a file, or remove the key.")
        return self.folder / node.text

    def _whole(self, field: Field, node: Scalar, path: str) -> Any:
        if node.kind != "whole":
            return self._wrong(node, "whole", path, wanted(field.key))
        if len(node.text) > 20:
            return self._fail(
                node.place,
                path,
                f"{shown(node.text)} is not a number that anything here can be",
                wanted(field.key),
            )
        value = int(node.text, 0) if node.text[:2] in {"0o", "0x"} else int(node.text)
        return self._limited(field, value, node, path)

    def _limited(self, field: Field, value: int, node: Scalar, path: str) -> Any:
        unit = f" {field.key.unit}" if field.key.unit else ""
        match field.key.must:
            case Range(least, most) as limit:
                owner = f"{limit.owner or 'the'} "
                if value < least:
                    return self._fail(
                        node.place, path, f"{value}{unit} is below {owner}{least}{unit}", wanted(field.key)
                    )
                if most is not None and value > most:
                    return self._fail(
                        node.place, path, f"{value}{unit} is above {owner}{most}{unit}", wanted(field.key)
                    )
            case OneOf(values) if value not in values:
                return self._fail(node.place, path, f"{value}{unit} is not among the choices", wanted(field.key))
        return value

    def _text(self, field: Field, node: Scalar, path: str) -> Any:
        text = node.text
        must = field.key.must
        if isinstance(must, OneOf) and must.upper:
            text = text.upper()
        match must:
            case OneOf(values) if text not in values:
                return self._fail(node.place, path, f"'{shown(node.text)}' is not among the choices", wanted(field.key))
            case Pattern(regex, says=says) if not re.fullmatch(regex, text):
                # What came from the environment, or stands beside credentials, is not shown.
                what = "this" if field.key.environ else f"'{shown(text)}'"
                return self._fail(node.place, path, f"{what} cannot be used here", f"Write {says}.")
            case Form(name):
                try:
                    return FORMS[name](text)
                except FormError as error:
                    return self._fail(node.place, path, error.what, error.fix)
        return text

    def _wrong(self, node: Node, expected: str, path: str, fix: str | None = None) -> Any:
        """The value has another shape. A broken one was complained about already."""
        if isinstance(node, Scalar) and node.kind == "broken":
            self.failed.add(path)
            return FAILED
        kind = node.kind if isinstance(node, Scalar) else "list" if isinstance(node, Items) else "table"
        if kind == "null":
            fix = 'Write `""` for an empty text, or remove the item.' if expected == "text" else "Remove the item."
        elif expected in {"text", "path"} and isinstance(node, Scalar):
            fix = "Put it in quotes."
        elif expected == "whole" and isinstance(node, Scalar) and re.fullmatch(r"\d+", node.text):
            fix = "Remove the quotes."
        elif expected == "truth":
            fix = "Write true or false, without quotes."
        elif expected == "list":
            fix = "Begin each item with `- `, or write `[…]`."
        return self._fail(node.place, path, f"{KINDS[expected]} was expected, this is {KINDS[kind]}", fix)


def _absent(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind == "null"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _blank(shape: Shape) -> Any:
    """Something to go on with in the place of a value that failed."""
    if shape.kind == "section":
        assert shape.section is not None
        return shape.section(
            **{field.attribute: _blank(field.shape) for field in keys_of(shape.section) if field.required}
        )
    return {
        "text": "",
        "secret": None,
        "path": Path(),
        "whole": 0,
        "truth": False,
        "list": (),
        "table": {},
        "anything": None,
    }[shape.kind]


def plain(node: Node) -> object:
    """The values without their places."""
    match node:
        case Table(entries):
            return {name: plain(entry.value) for name, entry in entries.items()}
        case Items(nodes):
            return [plain(item) for item in nodes]
        case Scalar(text, kind):
            if kind == "truth":
                return text.lower() == "true"
            if kind == "whole" and len(text) <= 20:
                return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
            return None if kind in {"null", "broken"} else text
