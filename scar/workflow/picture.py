"""What a picture of a workflow shows: functions, the places between them, and arrows; each told its layer and its turn in it.

Files flow from layer to layer. A place is drawn once, whoever writes to it or takes from it; where an output lies in an input's folder, or the
other way round, an arrow leads from the one to the other. An arrow that has to go back is there only where functions are in a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from scar.workflow.ends import End, meet
from scar.workflow.graph import Graph

_SWEEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Thing:
    """A function, or a place where files lie. `detail` is a function's mode where that is not Lambda's own, and that it is deployed; of a
    place, which files of it count.
    """

    name: str
    is_function: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From thing to thing, by number; `label` is what is filtered. `back`: against the flow, so it closes a loop."""

    source: int
    target: int
    label: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    things: tuple[Thing, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of things from first to last. A negative number is no thing: arrow -n-1 of `picture` passes there to a later row."""

    picture: Picture
    rows: tuple[tuple[int, ...], ...]

    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """Every arrow cut at the rows: what it leaves, what it comes to, and its number; from row to row."""
        row_of = {item: (at, item) for at, row in enumerate(self.rows) for item in row if item >= 0}
        passing: dict[tuple[int, int], int] = {
            (-item - 1, at): item for at, row in enumerate(self.rows) for item in row if item < 0
        }
        found: list[tuple[int, int, int]] = []
        for number, arrow in enumerate(self.picture.arrows):
            source, target = (arrow.target, arrow.source) if arrow.back else (arrow.source, arrow.target)
            first, last = row_of[source][0], row_of[target][0]
            way = [source, *(passing[number, at] for at in range(first + 1, last)), target]
            found += [(here, there, number) for here, there in pairwise(way)]
        return tuple(found)


def picture(of: Graph) -> Picture:
    things: list[Thing] = []
    numbers: dict[str, int] = {}

    def place(end: End) -> int:
        name = str(End(end.path, store=end.store))
        if name not in numbers:
            numbers[name] = len(things)
            things.append(Thing(name, is_function=False))
        return numbers[name]

    arrows: dict[tuple[int, int], set[str]] = {}
    inputs: dict[int, End] = {}
    outputs: dict[int, End] = {}
    for node in of.nodes:
        detail = "" if node.mode == "lambda" else node.mode
        here = len(things)
        things.append(Thing(node.name, is_function=True, detail=detail if node.known else f"{detail} deployed".strip()))
        for end in node.inputs:
            at = place(end)
            inputs.setdefault(at, end)
            arrows.setdefault((at, here), set()).add(end.filter)
        for end in node.outputs:
            at = place(end)
            outputs.setdefault(at, end)
            arrows.setdefault((here, at), set()).add(end.filter)
    bare_in = {at: End(end.path, store=end.store) for at, end in inputs.items()}
    bare_out = {at: End(end.path, store=end.store) for at, end in outputs.items()}
    for source, out in bare_out.items():
        for target, in_ in bare_in.items():
            if source != target and meet(out, in_):
                arrows.setdefault((source, target), set()).add("")
    joined = tuple(Arrow(a, b, ", ".join(sorted(filter(None, labels)))) for (a, b), labels in sorted(arrows.items()))
    counted: dict[int, set[str]] = {}
    for arrow in joined:
        for at in (arrow.source, arrow.target):
            if arrow.label and not things[at].is_function:
                counted.setdefault(at, set()).add(arrow.label)
    for at, labels in counted.items():
        things[at] = replace(things[at], detail="; ".join(sorted(labels)))
    return Picture(tuple(things), joined)


def parts(of: Picture) -> tuple[Picture, ...]:
    """Pictures of what hangs together, in the order of their first functions."""
    group = list(range(len(of.things)))

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    for arrow in of.arrows:
        a, b = sorted((root(arrow.source), root(arrow.target)))
        group[b] = a
    members: dict[int, list[int]] = {}
    for at in range(len(of.things)):
        members.setdefault(root(at), []).append(at)
    return tuple(_part(of, each) for each in members.values())


def _part(of: Picture, members: Sequence[int]) -> Picture:
    new = {old: number for number, old in enumerate(members)}
    arrows = (Arrow(new[a.source], new[a.target], a.label, a.back) for a in of.arrows if a.source in new)
    return Picture(tuple(of.things[old] for old in members), tuple(arrows))


def layout(of: Picture) -> Layout:
    """Every thing below all that leads to it, as near as can be, and so ordered that few arrows cross."""
    of = Picture(of.things, _backwards_marked(of))
    forward = [(a.target, a.source) if a.back else (a.source, a.target) for a in of.arrows]
    layer = _layers(len(of.things), forward)
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for at, row in enumerate(layer):
        rows[row].append(at)
    links: list[list[tuple[int, int]]] = [[] for _ in rows]  # between a row and the next
    for number, (source, target) in enumerate(forward):
        before = source
        for row in range(layer[source] + 1, layer[target]):
            rows[row].append(-number - 1)
            links[row - 1].append((before, -number - 1))
            before = -number - 1
        links[layer[target] - 1].append((before, target))
    return Layout(of, tuple(map(tuple, _ordered(rows, links))))


def _backwards_marked(of: Picture) -> tuple[Arrow, ...]:
    following: dict[int, list[int]] = {}
    for number, arrow in enumerate(of.arrows):
        following.setdefault(arrow.source, []).append(number)
    entered = {arrow.target for arrow in of.arrows}
    state: dict[int, str] = {}
    back: set[int] = set()
    for start in sorted(range(len(of.things)), key=lambda at: (at in entered, at)):  # from where nothing leads to first
        trail = [(start, iter(following.get(start, ())))] if start not in state else []
        state.setdefault(start, "open")
        while trail:
            at, left = trail[-1]
            following_one = next(left, None)
            if following_one is None:
                state[at] = "done"
                trail.pop()
                continue
            target = of.arrows[following_one].target
            if state.get(target) == "open":
                back.add(following_one)
            elif target not in state:
                state[target] = "open"
                trail.append((target, iter(following.get(target, ()))))
    return tuple(Arrow(a.source, a.target, a.label, number in back) for number, a in enumerate(of.arrows))


def _layers(count: int, forward: Sequence[tuple[int, int]]) -> list[int]:
    """Each as far down as the longest way to it; what nothing leads to, right above the first that it leads to."""
    into: dict[int, list[int]] = {}
    out: dict[int, list[int]] = {}
    for source, target in forward:
        into.setdefault(target, []).append(source)
        out.setdefault(source, []).append(target)
    layer = [0] * count
    waiting = {at: len(into.get(at, ())) for at in range(count)}
    ready = [at for at in range(count) if not waiting[at]]
    order: list[int] = []
    while ready:
        at = ready.pop()
        order.append(at)
        for target in out.get(at, ()):
            layer[target] = max(layer[target], layer[at] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for at in reversed(order):
        if at not in into and at in out:
            layer[at] = min(layer[target] for target in out[at]) - 1
    return layer


def _ordered(rows: list[list[int]], links: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
    """Sweeps down and up, each item to the middle of its neighbours; the best that was seen is kept."""
    best, fewest = [list(row) for row in rows], _crossings(rows, links)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            between = links[at - 1] if down else links[at]
            fixed = rows[at - 1] if down else rows[at + 1]
            position = {item: number for number, item in enumerate(fixed)}
            ties: dict[int, list[int]] = {}
            for above, below in between:
                here, there = (below, above) if down else (above, below)
                ties.setdefault(here, []).append(position[there])
            was = {item: number for number, item in enumerate(rows[at])}
            rows[at] = sorted(rows[at], key=lambda item: (_middle(ties, was, item), was[item]))
        crossing = _crossings(rows, links)
        if crossing < fewest:
            best, fewest = [list(row) for row in rows], crossing
    return best


def _middle(ties: Mapping[int, Sequence[int]], was: Mapping[int, int], item: int) -> float:
    near = ties.get(item)
    return sum(near) / len(near) if near else was[item]


def _crossings(rows: Sequence[Sequence[int]], links: Iterable[Sequence[tuple[int, int]]]) -> int:
    count = 0
    for at, between in enumerate(links):
        if not between:
            continue
        upper = {item: number for number, item in enumerate(rows[at])}
        lower = {item: number for number, item in enumerate(rows[at + 1])}
        ends = sorted((upper[a], lower[b]) for a, b in between)
        count += sum(ends[j][1] > ends[i][1] for i in range(len(ends)) for j in range(i) if ends[j][0] < ends[i][0])
    return count


def centres(
    rows: Sequence[Sequence[int]], steps: Iterable[tuple[int, int, int]], widths: Mapping[int, float], gap: float
) -> dict[int, float]:
    """Where the middle of each item is along its row: near those of its neighbours, `gap` apart, the leftmost edge at 0."""
    near: dict[int, list[int]] = {}
    for here, there, _ in steps:
        near.setdefault(here, []).append(there)
        near.setdefault(there, []).append(here)
    place: dict[int, float] = {}
    for row in rows:
        left = 0.0
        for item in row:
            place[item] = left + widths[item] / 2
            left += widths[item] + gap
    row_of = {item: at for at, row in enumerate(rows) for item in row}
    for sweep in range(_SWEEPS):
        order = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for at in order:
            wished = []
            for item in rows[at]:
                side = [place[other] for other in near.get(item, ()) if (row_of[other] < at) == (sweep % 2 == 0)]
                all_of = side or [place[other] for other in near.get(item, ())]
                wished.append(sum(all_of) / len(all_of) if all_of else place[item])
            place.update(zip(rows[at], _apart(wished, [widths[item] for item in rows[at]], gap), strict=True))
    left = min((place[item] - widths[item] / 2 for item in place), default=0.0)
    return {item: centre - left for item, centre in place.items()}


def _apart(wished: Sequence[float], widths: Sequence[float], gap: float) -> list[float]:
    """The places nearest to what is wished that keep their order and distance: neighbours in each other's way move as one."""
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    blocks: list[tuple[float, int]] = []  # the sum of wishes, less offsets, and how many
    for wish, offset in zip(wished, offsets, strict=False):
        blocks.append((wish - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [(a + b, n + m)]
    found: list[float] = []
    for total, count in blocks:
        found += [total / count] * count
    return [at + offset for at, offset in zip(found, offsets, strict=False)]
