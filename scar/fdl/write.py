"""From functions back to what a definition file holds: the opposite of `read`, for printing and for comparing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scar.fdl.key import Field, keys_of
from scar.fdl.model import Function


def written(functions: Sequence[Function], folder: Path | None = None) -> dict[str, Any]:
    """A document that `load.validate` reads back to equal functions (their `source` aside). Keys at their default are left out.

    Paths below `folder` are written relative to it.
    """
    return {"functions": {"aws": [_section(function, folder) for function in functions]}}


def _section(section: Any, folder: Path | None) -> dict[str, Any]:
    found = {}
    for field in keys_of(type(section)):
        value = getattr(section, field.attribute)
        if field.required or value != field.default:
            found[field.name] = _field(field, value, folder)
    return found


def _field(field: Field, value: Any, folder: Path | None) -> Any:
    plain = _value(value, folder)
    if field.key.single:
        return [plain]
    return {field.key.wrapper: plain} if field.key.wrapper else plain


def _value(value: Any, folder: Path | None) -> Any:
    if dataclasses.is_dataclass(value):
        return _section(value, folder)
    if isinstance(value, Mapping):
        return {name: _value(item, folder) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_value(item, folder) for item in value]
    if isinstance(value, Path):
        return str(value.relative_to(folder) if folder is not None and value.is_relative_to(folder) else value)
    return value
