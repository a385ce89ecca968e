"""Where in its file a key of a function stands, for what is found to be wrong only after the file was read."""

from __future__ import annotations

from scar.errors import FdlError, Problem
from scar.fdl import document
from scar.fdl.model import Function
from scar.fdl.places import NOWHERE, Items, Node, Place, Problems, Scalar, Table, TooManyProblemsError


def problem_of(fn: Function, key: str, what: str, fix: str | None) -> FdlError:
    """An error at `key` (`batch.compute_resources.subnets`) of the function, or at the nearest thing around it that is written."""
    index, place = _find(fn, key)
    return FdlError((Problem(_file(fn), place.line, place.column, f"functions.aws[{index}].{key}", what, fix),))


def _find(fn: Function, key: str) -> tuple[int, Place]:
    """The function's number in its file, and the key's place; 0 and nowhere when the file is gone or was none."""
    root = None
    try:
        if fn.source is not None:
            root = document.compose(fn.source.read_text(encoding="utf-8-sig"), Problems.of(_file(fn)))
    except (OSError, ValueError, TooManyProblemsError):
        pass  # it was read a moment ago: the problem is told without its line
    functions = _below(_below(root, "functions"), "aws")
    for index, node in enumerate(functions.nodes if isinstance(functions, Items) else ()):
        name = _below(_below(node, "lambda"), "name")
        if isinstance(name, Scalar) and name.text == fn.name:
            return index, _nearest(node, key)
    return 0, NOWHERE


def _nearest(node: Node, key: str) -> Place:
    for step in key.replace("[", ".").split("."):
        inner = _item(node, step.rstrip("]")) if step.endswith("]") else _below(node, step)
        if inner is None:
            break
        node = inner
    return node.place


def _item(node: Node, number: str) -> Node | None:
    return node.nodes[int(number)] if isinstance(node, Items) and int(number) < len(node.nodes) else None


def _below(node: Node | None, step: str) -> Node | None:
    entry = node.entries.get(step) if isinstance(node, Table) else None
    return None if entry is None else entry.value


def _file(fn: Function) -> str:
    return "command line" if fn.source is None else str(fn.source)
