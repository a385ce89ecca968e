"""What of the AWS client library the agent never asks for, and so does not import: each function's users wait for what a sandbox's start takes.

    botocore.docs     descriptions of operations, for people who type help(); with them come writers of pages and a parser of HTML
    urllib3.http2     an experiment that looks for its own version among installed packages

Both stay where they are for the user's scripts, which are processes of their own.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType


@contextmanager
def starting() -> Iterator[None]:
    """Nothing becomes garbage while modules are imported and clients made; and what is there then stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Undescribed(str):
    """In place of an operation's description."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> _Undescribed:
        return super().__new__(cls)


def install() -> None:
    """Before botocore is imported; afterwards, and a second time, it does nothing."""
    if "botocore" in sys.modules or "urllib3" in sys.modules:
        return
    if _without_its_init("botocore", "docs", "utils"):
        docstring = ModuleType("botocore.docs.docstring")
        for name in ("ClientMethodDocstring", "PaginatorDocstring", "WaiterDocstring"):
            setattr(docstring, name, _Undescribed)
        sys.modules["botocore.docs.docstring"] = docstring
    _without_its_init("urllib3", "http2", "probe")


def _without_its_init(library: str, package: str, module: str) -> bool:
    """Let `module` of a library's package be imported without the package's own code; False when it is not there."""
    found = PathFinder.find_spec(library)
    places = [f"{place}/{package}" for place in (found and found.submodule_search_locations) or ()]
    name = f"{library}.{package}"
    if PathFinder.find_spec(f"{name}.{module}", places) is None:
        return False
    bare = ModuleType(name)
    bare.__path__ = places
    sys.modules[name] = bare
    return True
