"""What to tell a person to write: sentences made from the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from scar.fdl.key import Key, OneOf, Range, Shape, keys_of
from scar.fdl.model import Function

KINDS: Final = {
    "text": "text",
    "whole": "a whole number",
    "number": "a number",
    "truth": "true or false",
    "null": "nothing",
    "path": "the path of a file",
    "secret": "text",
    "section": "a section with keys",
    "table": "a table of names and values",
    "list": "a list",
    "anything": "anything",
}


def listing(section: type[Any]) -> str:
    """The keys of a section."""
    return ", ".join(field.name for field in keys_of(section))


def owner(path: str) -> str:
    """What to call the section at a key path."""
    name, _, index = path.rpartition(".")[2].partition("[")
    if not name:
        return "a definition"
    return f"an item of `{name}`" if index else f"`{name}`"


def wanted(key: Key) -> str:
    """What to write, from the limit."""
    match key.must:
        case Range(least, None):
            return f"Write a whole number from {least} on."
        case Range(least, most):
            return f"Write a whole number from {least} to {most}."
        case OneOf(values):
            allowed = [str(value) for value in values]
            return (
                f"Write one of {', '.join(allowed)}." if len(allowed) > 1 else f"Write {allowed[0]}, or remove the key."
            )
        case _:
            return "Write a number."


@cache
def homes() -> Mapping[str, str]:
    """Which section of a function a key belongs to, for those who put it elsewhere. The first section to have it wins."""
    homes: dict[str, str] = {}
    pending = [Shape("section", section=Function)]
    names = {Function: "functions.aws"}
    while pending:
        section = pending.pop(0).section
        assert section is not None
        for field in keys_of(section):
            homes.setdefault(field.name, names[section])
            inner = field.shape.item or field.shape
            if inner.section is not None:
                names.setdefault(inner.section, field.name)
                pending.append(inner)
    return homes
