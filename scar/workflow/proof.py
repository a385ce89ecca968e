"""What must not be: functions that would start each other for ever, and two that would be told of one and the same file.

The words are for whoever wrote the definition: what would happen, by which way, and where it can be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from scar.workflow.ends import End, Finder
from scar.workflow.graph import Edge, Graph, Node, rings

MOST_SHOWN: Final = 8  # steps of one ring

Shown = Callable[[str], str]  # how a message writes other people's text


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two inputs with keys in common, of the functions with these numbers; `earlier` is the one that was said first."""

    earlier: int
    later: int
    first: End
    second: End


def overlaps(nodes: Sequence[Node]) -> Iterator[Overlap]:
    """Every input in S3 with the first one before it that has keys in common with it: S3 refuses such a pair in one bucket.

    Source: AmazonS3/latest/userguide/notification-how-to-filtering (the same event, overlapping prefixes and suffixes).
    """
    owners = [(number, end) for number, node in enumerate(nodes) for end in node.inputs if end.store == "s3"]
    finder = Finder(end for _, end in owners)
    for at, (later, second) in enumerate(owners):
        before = next((number for number in finder.meeting(second) if number < at), None)
        if before is not None:
            earlier, first = owners[before]
            yield Overlap(earlier, later, first, second)


def loops(of: Graph) -> Iterator[tuple[Edge, ...]]:
    """Every output by which a function would start itself, and one ring of every knot of functions that would start each other for ever."""
    yield from ((edge,) for edge in of.edges if edge.source == edge.target)
    yield from rings(Graph(of.nodes, tuple(edge for edge in of.edges if edge.source != edge.target)))


def ring_told(of: Graph, ring: Sequence[Edge], shown: Shown = str) -> tuple[str, str]:
    """What a ring is and what to do about it."""
    names = [of.nodes[edge.source].name or "(no name)" for edge in ring]
    if len(ring) == 1:
        (edge,) = ring
        reaches = f"reaches its input `{shown(str(edge.input))}`"
        what = f"the function would start itself: what it writes to `{shown(str(edge.output))}` {reaches}"
        filters = edge.output.filter or edge.input.filter
        fix = "Use folders of which none lies in the other" + (
            ", or suffixes that do not go together." if filters else "."
        )
        return what, fix
    steps = [f"{name} → {shown(str(edge.output))}" for name, edge in zip(names, ring, strict=True)]
    way = f"{' → '.join(_shortened(steps))} → {names[0]}"
    places = _shortened([f"`{shown(edge.output.path)}`{_where(of, edge)}" for edge in ring])
    return (
        f"the functions would start each other for ever: {way}",
        f"Let one of them write to a folder that starts nothing: {', '.join(places)}.",
    )


def _where(of: Graph, edge: Edge) -> str:
    if not of.nodes[edge.source].known:
        return f" (of {of.nodes[edge.source].name}, which is deployed)"
    return f" ({edge.output.where})" if edge.output.where else ""


def _shortened(items: Iterable[str]) -> list[str]:
    found = list(items)
    if len(found) <= MOST_SHOWN:
        return found
    head, tail = found[: MOST_SHOWN // 2], found[-MOST_SHOWN // 2 :]
    return [*head, f"… {len(found) - MOST_SHOWN} more …", *tail]
