"""Who starts whom: functions, and between them the places where the files of one are the events of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scar.workflow.ends import End, Finder


@dataclass(frozen=True, slots=True)
class Node:
    """One function. `known` is False for one that is in the account and not in the file at hand; `hidden` counts ends that its tags had no room for."""

    name: str
    inputs: tuple[End, ...] = ()
    outputs: tuple[End, ...] = ()
    mode: str = "lambda"
    known: bool = True
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """Files that `source` writes to `output` start `target`, through its `input`. The two are numbers of nodes."""

    source: int
    target: int
    output: End
    input: End


@dataclass(frozen=True)
class Graph:
    """Functions by number, and every edge once for each output of the source."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def after(self) -> Mapping[int, Mapping[int, Edge]]:
        """By source and target, the first edge between the two."""
        found: dict[int, dict[int, Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.source, {}).setdefault(edge.target, edge)
        return found


def graph(nodes: Iterable[Node]) -> Graph:
    """Every output held against every input; how a function runs makes no difference to where its files go."""
    found = tuple(nodes)
    owners = [(number, end) for number, node in enumerate(found) for end in node.inputs]
    finder = Finder(end for _, end in owners)
    edges: list[Edge] = []
    for source, node in enumerate(found):
        for output in node.outputs:
            first: dict[int, End] = {}
            for at in finder.meeting(output):
                target, end = owners[at]
                first.setdefault(target, end)
            edges += [Edge(source, target, output, end) for target, end in sorted(first.items(), key=lambda it: it[0])]
    return Graph(found, tuple(edges))


def rings(of: Graph) -> tuple[tuple[Edge, ...], ...]:
    """One ring, as short as they come, of every knot of functions that would start each other for ever; a function alone may be one."""
    return tuple(_shortest(of, knot) for knot in _knots(of))


def _knots(of: Graph) -> list[frozenset[int]]:
    """Sets of functions each of which leads to all others of its set, first function first (Tarjan's strongly connected components)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    knots: list[frozenset[int]] = []
    for start in range(len(of.nodes)):
        if start in order:
            continue
        trail = [(start, iter(of.after.get(start, {})))]
        order[start] = low[start] = len(order)
        stack.append(start)
        on_stack.add(start)
        while trail:
            at, following = trail[-1]
            target = next(following, None)
            if target is None:
                trail.pop()
                if trail:
                    low[trail[-1][0]] = min(low[trail[-1][0]], low[at])
                if low[at] == order[at]:
                    cut = stack.index(at)
                    knot = frozenset(stack[cut:])
                    del stack[cut:]
                    on_stack -= knot
                    if len(knot) > 1 or at in of.after.get(at, {}):
                        knots.append(knot)
            elif target not in order:
                order[target] = low[target] = len(order)
                stack.append(target)
                on_stack.add(target)
                trail.append((target, iter(of.after.get(target, {}))))
            elif target in on_stack:
                low[at] = min(low[at], order[target])
    return sorted(knots, key=min)


def _shortest(of: Graph, knot: frozenset[int]) -> tuple[Edge, ...]:
    """The shortest way from the first function of a knot back to itself."""
    start = min(knot)
    came: dict[int, Edge] = {}
    heads: Sequence[int] = [start]
    while heads:
        following: list[int] = []
        for at in heads:
            for target, edge in of.after.get(at, {}).items():
                if target == start:
                    return (*_way(came, at), edge)
                if target in knot and target not in came:
                    came[target] = edge
                    following.append(target)
        heads = following
    raise AssertionError("every function of a knot is on a ring")


def _way(came: Mapping[int, Edge], at: int) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    while at in came:
        edges.append(came[at])
        at = came[at].source
    return tuple(reversed(edges))
