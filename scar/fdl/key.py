"""What the model says about a key besides its type: its meaning and its limits.

`model` annotates every field with one `Key`; the reader, the JSON Schema and the reference page are all driven by these and by
the field's type, so a key is named in one place only. `keys_of` lists the keys of a section, `shape_of` says what a value looks like.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from scar.secret import Secret


@dataclass(frozen=True, slots=True)
class Range:
    """Whole numbers from `least` to `most` (None: no end)."""

    least: int
    most: int | None
    _: KW_ONLY
    owner: str = ""  # whose limit it is: "Lambda's"
    source: str = ""  # the page that says so


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that matches `regex` as a whole; `says` tells a person what that means."""

    regex: str
    _: KW_ONLY
    says: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few values. `upper`: the case in the file does not matter."""

    values: tuple[str, ...] | tuple[int, ...]
    _: KW_ONLY
    upper: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """Text that needs more than a pattern; `name` is a key of `forms.FORMS`, `regex` a necessary condition for editors."""

    name: Literal["storage-path", "image"]
    regex: str
    _: KW_ONLY
    says: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """What the names (and values) of a table may be. `reserved` names are refused; `bytes_` bounds names and values together."""

    regex: str
    _: KW_ONLY
    says: str
    reserved: frozenset[str] = frozenset()
    reserved_by: str = ""
    reserved_prefixes: tuple[str, ...] = ()
    bytes_: int | None = None
    entries: int | None = None
    value: Pattern | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a definition file. `doc` is a sentence in Markdown.

    name       as written in the file, when it is not the attribute's name; `aliases` are older spellings
    legacy     a present key is accepted, changes nothing, and is named in a warning that ends so
    wrapper    the table sits one level deeper, under this name (`environment: {Variables: …}`)
    single     the file holds a list of exactly one item, the attribute that item
    bare       a lone text stands for a list of one
    as_written numbers and truth values are taken as the text that was written
    environ    `${env.NAME}` in the text stands for a variable of the environment that SCAR was started with
    most       the largest number of items of a list
    """

    doc: str
    must: Range | Pattern | OneOf | Form | Names | None = None
    _: KW_ONLY
    name: str | None = None
    aliases: tuple[str, ...] = ()
    unit: str = ""
    legacy: str | None = None
    wrapper: str | None = None
    single: bool = False
    bare: bool = False
    as_written: bool = False
    environ: bool = False
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value looks like: a scalar `kind`, a `section` (a dataclass), a `list` or a `table` of `item`."""

    kind: Literal["text", "secret", "whole", "truth", "path", "section", "list", "table", "anything"]
    item: Shape | None = None
    section: type[Any] | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a section with everything known about it."""

    attribute: str
    name: str
    key: Key
    shape: Shape
    default: object
    required: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.key.aliases)


_KEYS: Final[dict[type[Any], tuple[Field, ...]]] = {}


def keys_of(section: type[Any]) -> tuple[Field, ...]:
    """Every key of a section, in the order the model gives them. Fields without a `Key` are not part of the file."""
    if section not in _KEYS:
        _KEYS[section] = tuple(_fields(section))
    return _KEYS[section]


def _fields(section: type[Any]) -> list[Field]:
    found = []
    for field in dataclasses.fields(section):
        if get_origin(field.type) is not Annotated:
            continue
        annotation, key = get_args(field.type)[:2]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default: object = None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        elif not required:
            default = field.default
        found.append(Field(field.name, key.name or field.name, key, shape_of(annotation), default, required))
    return found


SCALARS: Final[Mapping[object, Shape]] = {
    str: Shape("text"),
    Secret: Shape("secret"),
    int: Shape("whole"),
    bool: Shape("truth"),
    Path: Shape("path"),
    object: Shape("anything"),
}


def shape_of(annotation: object) -> Shape:
    """The shape that a field's type stands for; `X | None` is X, since null means absent everywhere."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {types.UnionType, Union}:
        (only,) = (argument for argument in arguments if argument is not types.NoneType)
        return shape_of(only)
    if origin is Literal:
        return Shape("text")
    if origin is tuple:
        return Shape("list", item=shape_of(arguments[0]))
    if origin is Mapping:
        return Shape("table", item=shape_of(arguments[1]))
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return Shape("section", section=annotation)
    raise TypeError(f"the model uses a type that a file cannot hold: {annotation!r}")
