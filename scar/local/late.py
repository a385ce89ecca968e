"""What moto and its libraries do early, or over and over, and nobody waits for: done when it is needed, and once.

The local AWS is started often, and each service is asked for the first time in each of its lives: whatever this costs, users wait for.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_VALIDATOR: Final = "openapi_spec_validator"
_ERRORS: Final = f"{_VALIDATOR}.validation.exceptions"
# Objects made before the youngest are looked through: a request makes some thousands, and few live on.
_YOUNG: Final = 10_000


@contextmanager
def without_garbage() -> Iterator[None]:
    """While a program imports and restores, nothing becomes garbage that is worth looking for. What is there at the end stays, and is not looked through again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_YOUNG, 10, 10)
        gc.enable()


def install() -> None:
    """Hook botocore's loader, werkzeug's rules and the validator of OpenAPI documents; before moto is asked for anything."""
    _list_services_once()
    _make_builders_late()
    _import_validator_late()


def _list_services_once() -> None:
    """Each of botocore's many loaders looks for 400 services on disk; they find the same."""
    from botocore.loaders import Loader

    original = Loader.list_available_services
    known: dict[tuple[tuple[str, ...], str], list[str]] = {}

    @functools.wraps(original)
    def list_available_services(self: Any, type_name: str) -> list[str]:
        key = (tuple(self.search_paths), type_name)
        if key not in known:
            known[key] = original(self, type_name)
        return list(known[key])

    Loader.list_available_services = list_available_services  # type: ignore[method-assign]


def _make_builders_late() -> None:
    """Half of the time of making a route goes into a program that would build an address from it, which a server of moto's never does."""
    from werkzeug.routing.rules import Rule

    original = Rule._compile_builder

    @functools.wraps(original)
    def compile_builder(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        @functools.cache
        def made() -> Callable[..., tuple[str, str]]:
            return original(rule, append_unknown)

        def build(self: Rule, **values: Any) -> tuple[str, str]:
            return made()(self, **values)

        return build

    Rule._compile_builder = compile_builder  # type: ignore[assignment, method-assign]


class _InvalidError(Exception):
    """Stands for the validator's own error, which moto shows by its text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _import_validator_late() -> None:
    """moto's API Gateway imports it at once, with 190 modules, for an operation that few ever call: the import of a document."""
    if _VALIDATOR in sys.modules:
        return
    top, errors = ModuleType(_VALIDATOR), ModuleType(_ERRORS)
    top.validate = _validate  # type: ignore[attr-defined]
    errors.OpenAPIValidationError = _InvalidError  # type: ignore[attr-defined]
    sys.modules |= {
        _VALIDATOR: top,
        f"{_VALIDATOR}.validation": ModuleType(f"{_VALIDATOR}.validation"),
        _ERRORS: errors,
    }


def _validate(document: Any) -> None:
    for name in (_VALIDATOR, f"{_VALIDATOR}.validation", _ERRORS):
        if not hasattr(sys.modules.get(name, sys), "__file__"):
            sys.modules.pop(name, None)
    from openapi_spec_validator import validate
    from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

    try:
        validate(document)
    except OpenAPIValidationError as error:
        raise _InvalidError(str(getattr(error, "message", error))) from error
