"""What a request to Batch may look like, read from botocore's own model: operations, members, types, enums, lengths.

Nothing of it is written down again here. What members must be to each other is for the parts they belong to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape

from scar.local.batch.checks import ClientError_
from scar.local.refusal import RefusalError

# "The values aren't case sensitive": botocore batch:EvaluateOnExit.action
_ANY_CASE: Final = frozenset({"RetryAction"})
_INT_BITS: Final = {"integer": 31, "long": 63}


@functools.cache
def _model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("batch", "service-2"), "batch")


@functools.cache
def _operations() -> Mapping[str, str]:
    """API names by the last part of their paths."""
    model = _model()
    paths = {name: str(model.operation_model(name).http["requestUri"]) for name in model.operation_names}
    return {path.rpartition("/")[2]: name for name, path in paths.items() if "{" not in path} | {
        name.lower(): name for name in paths
    }


def operation_named(path_name: str) -> str:
    """`createjobqueue` → `CreateJobQueue`."""
    name = _operations().get(path_name.lower())
    if name is None:
        raise RefusalError(404, "UnknownOperationException", f"Batch has no operation {path_name!r}.")
    return name


def checked(operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The request without members that are null. Refuses what does not fit the model, with the member's path."""
    shape = _model().operation_model(operation).input_shape
    return {} if shape is None else dict(_structure(document, shape, ""))


def shown(shape_name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Those members of a document that a shape has."""
    shape = _model().shape_for(shape_name)
    assert isinstance(shape, StructureShape), shape_name
    return {name: value for name, value in document.items() if name in shape.members}


def _value(value: Any, shape: Shape, path: str) -> Any:
    return _CHECKS[shape.type_name](value, shape, path)


def _structure(value: Any, shape: Any, path: str) -> Mapping[str, Any]:
    assert isinstance(shape, StructureShape)
    if not isinstance(value, dict):
        raise _unreadable(value, "Structure", path)
    given = {name: one for name, one in value.items() if one is not None}
    if unknown := sorted(given.keys() - shape.members.keys()):
        # AWS passes over them; here a misspelt member is worth an answer.
        raise ClientError_(f"The local Batch knows no member {_at(path, unknown[0])!r}.")
    for name in shape.required_members:
        if name not in given:
            raise _violation(None, _at(path, name), "Member must not be null")
    return {name: _value(one, shape.members[name], _at(path, name)) for name, one in given.items()}


def _list(value: Any, shape: Any, path: str) -> list[Any]:
    assert isinstance(shape, ListShape)
    if not isinstance(value, list):
        raise _unreadable(value, "List", path)
    _length(value, len(value), shape, path)
    return [_value(one, shape.member, f"{path}.{number}.member") for number, one in enumerate(value, 1)]


def _map(value: Any, shape: Any, path: str) -> dict[str, Any]:
    assert isinstance(shape, MapShape)
    if not isinstance(value, dict):
        raise _unreadable(value, "Map", path)
    if len(value) > int(shape.metadata.get("max", len(value))):
        raise _violation(value, path, f"Member must have length less than or equal to {shape.metadata['max']}")
    for key in value:
        _value(key, shape.key, path)
    return {key: _value(one, shape.value, _at(path, key)) for key, one in value.items() if one is not None}


def _string(value: Any, shape: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _unreadable(value, "String", path)
    allowed = shape.enum if isinstance(shape, StringShape) else []
    known = {one.upper() for one in allowed} if shape.name in _ANY_CASE else set(allowed)
    if known and (value.upper() if shape.name in _ANY_CASE else value) not in known:
        raise _violation(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    _length(value, len(value), shape, path)
    return value


def _integer(value: Any, shape: Shape, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >> _INT_BITS[shape.type_name]:
        raise _unreadable(value, "Integer" if shape.type_name == "integer" else "Long", path)
    for name, words in (("min", "greater than or equal to"), ("max", "less than or equal to")):
        bound = shape.metadata.get(name)
        if bound is not None and (value < bound if name == "min" else value > bound):
            raise _violation(value, path, f"Member must have value {words} {bound}")
    return value


def _boolean(value: Any, _: Shape, path: str) -> bool:
    if not isinstance(value, bool):
        raise _unreadable(value, "Boolean", path)
    return value


def _number(value: Any, _: Shape, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unreadable(value, "Float", path)
    return value


_CHECKS: Final[Mapping[str, Callable[[Any, Any, str], Any]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _integer,
    "long": _integer,
    "boolean": _boolean,
    "float": _number,
    "double": _number,
}


def _length(value: Any, length: int, shape: Shape, path: str) -> None:
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", length)
    if length < least:
        raise _violation(value, path, f"Member must have length greater than or equal to {least}")
    if length > most:
        raise _violation(value, path, f"Member must have length less than or equal to {most}")


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _violation(value: Any, path: str, what: str) -> ClientError_:
    given = "null" if value is None else f"'{value}'"
    return ClientError_(f"1 validation error detected: Value {given} at '{path}' failed to satisfy constraint: {what}")


def _unreadable(value: Any, wanted: str, path: str) -> RefusalError:
    kinds = {str: "STRING_VALUE", bool: "TRUE_VALUE" if value is True else "FALSE_VALUE", list: "START_ARRAY"}
    kind = kinds.get(type(value), "START_OBJECT" if isinstance(value, dict) else "NUMBER_VALUE")
    return RefusalError(400, "SerializationException", f"{kind} can not be converted to {wanted}: {path}")
