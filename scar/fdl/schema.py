"""The JSON Schema of definition files, for editors and other tools, generated from the model.

A schema cannot say what `rules` says: files that exist, keys that exclude each other, functions that start each other.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from scar.fdl.key import Field, Form, Key, Names, OneOf, Pattern, Range, Shape, keys_of
from scar.fdl.model import File
from scar.fdl.reference import reference_markdown as reference_markdown

JsonSchema = dict[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TYPES: Final = {"text": "string", "path": "string", "whole": "integer", "truth": "boolean"}
_VARIABLE: Final = r".*\$\{env\.[^}]*\}.*"  # what it stands for is not known to an editor
AS_WRITTEN: Final = ["string", "number", "boolean"]


def json_schema() -> JsonSchema:
    """The schema as a document of draft 2020-12. Null is allowed wherever a key may be absent, since it means the same."""
    return {
        "$schema": DIALECT,
        "title": "SCAR function definitions",
        "description": "Functions that run a container image for every file that lands in a bucket.",
        **_section(File),
        "type": "object",
    }


def _section(section: type[Any]) -> JsonSchema:
    fields = keys_of(section)
    properties = {name: _property(field) for field in fields for name in field.names}
    for name, instead in getattr(section, "RETIRED", {}).items():
        properties[name] = {
            "description": f"Has no effect any more. {instead}",
            "deprecated": True,
        }
    schema: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [field.name for field in fields if field.required]
    if required:
        schema["required"] = required
    return schema


def _property(field: Field) -> JsonSchema:
    key = field.key
    value = _value(field, field.shape)
    if key.single:
        value = {"type": "array", "items": value, "minItems": 1, "maxItems": 1}
    elif key.bare:
        value = {"anyOf": [{"type": "string"}, value]}
    elif key.wrapper:
        value = {"type": "object", "properties": {key.wrapper: _or_null(value)}, "additionalProperties": False}
    schema = {"description": _description(key), **(value if field.required else _or_null(value))}
    if key.legacy:
        schema["deprecated"] = True
    default = _default(field)
    if default is not None:
        schema["default"] = default
    return schema


def _description(key: Key) -> str:
    unit = f" In {key.unit}." if key.unit else ""
    legacy = f" It {key.legacy}." if key.legacy else ""
    return f"{key.doc}{unit}{legacy}"


def _default(field: Field) -> Any:
    default = field.default
    if default is None or default in ((), {}, "") or dataclasses.is_dataclass(default):
        return None
    return [default] if field.key.single else default


def _or_null(schema: JsonSchema) -> JsonSchema:
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "anyOf" in schema:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema:
        return schema
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*types, "null"]}


def _value(field: Field, shape: Shape) -> JsonSchema:
    match shape.kind:
        case "section":
            assert shape.section is not None
            return _section(shape.section)
        case "list":
            assert shape.item is not None
            schema: JsonSchema = {"type": "array", "items": _value(field, shape.item)}
            return schema if field.key.most is None else {**schema, "maxItems": field.key.most}
        case "table":
            assert shape.item is not None
            return _table(field, shape.item)
        case "anything":
            return {}
        case _:
            return _scalar(field, shape)


def _table(field: Field, item: Shape) -> JsonSchema:
    names = field.key.must
    value = _value(field, item)
    schema: JsonSchema = {"type": "object", "additionalProperties": _or_null(value)}
    if not isinstance(names, Names):
        return schema
    if names.value is not None:
        schema["additionalProperties"]["pattern"] = _whole(names.value.regex)
    if names.entries is not None:
        schema["maxProperties"] = names.entries
    schema["propertyNames"] = {"pattern": _whole(names.regex), "not": {"enum": sorted(names.reserved)}}
    if names.reserved_prefixes:
        schema["propertyNames"]["not"] = {"pattern": f"^({'|'.join(names.reserved_prefixes)})"}
    return schema


def _scalar(field: Field, shape: Shape) -> JsonSchema:
    if field.key.as_written:
        written: JsonSchema = {"type": list(AS_WRITTEN)}
        return {**written, "pattern": _whole(field.key.must.regex)} if isinstance(field.key.must, Pattern) else written
    if shape.kind == "secret":
        return {"type": list(AS_WRITTEN), "minLength": 1}
    schema: JsonSchema = {"type": TYPES[shape.kind]}
    if shape.kind == "path":
        schema["minLength"] = 1
    match field.key.must:
        case Range(least, most):
            schema["minimum"] = least
            if most is not None:
                schema["maximum"] = most
        case Pattern(regex) | Form(_, regex):
            schema["pattern"] = _whole(f"(?:{regex})|{_VARIABLE}" if field.key.environ else regex)
        case OneOf(values, upper=upper):
            if upper:
                return {"anyOf": [{"enum": list(values)}, {"type": "string", "pattern": _any_case(list(values))}]}
            return {"enum": list(values)}
    return schema


def _whole(regex: str) -> str:
    return f"^(?:{regex})$"


def _any_case(words: list[Any]) -> str:
    """A pattern for the words in any case; JSON Schema's dialect has no flag for that."""
    return _whole(
        "|".join("".join(f"[{char}{char.lower()}]" if char.isalpha() else char for char in word) for word in words)
    )
