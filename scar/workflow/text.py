"""A workflow as lines of text: boxes and arrows from top to bottom where the terminal is wide enough, an indented list where it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from scar.workflow.picture import Layout, Picture, Thing, centres, layout, parts

_GAP: Final = 2
_LONGEST: Final = 40
_SHORTEST: Final = 8

# Of the four sides (up 8, down 4, left 2, right 1) that meet in a cell
_UNICODE: Final = dict(zip(range(16), " ╶╴─╷┌┐┬╵└┘┴│├┤┼", strict=True))
_ASCII: Final = {
    sides: "|" if sides in (4, 8, 12) else "-" if sides in (1, 2, 3) else "+" for sides in range(1, 16)
} | {0: " "}


@dataclass(frozen=True, slots=True)
class _Pen:
    lines: Mapping[int, str]
    down: str
    up: str
    more: str
    to: str


_PENS: Final = {False: _Pen(_UNICODE, "▼", "▲", "…", "→"), True: _Pen(_ASCII, "v", "^", "~", "->")}


def drawn(of: Picture, width: int, *, ascii_only: bool = False) -> list[str]:
    """Lines no longer than `width`; what hangs together stands together, an empty line between."""
    pen = _PENS[ascii_only]
    lines: list[str] = []
    for part in parts(of):
        if lines:
            lines.append("")
        lines += _boxes(layout(part), width, pen) or _listed(part, width, pen)
    return lines


def _boxes(of: Layout, width: int, pen: _Pen) -> list[str] | None:
    """None when the widest row finds no room, however short the names are cut."""
    ports = _port_counts(of)
    for longest in range(_LONGEST, _SHORTEST - 1, -2):
        labels = {at: _label(thing, longest, pen) for at, thing in enumerate(of.picture.things)}
        widths: dict[int, float] = {
            # odd, so that there is a middle
            at: max(max(map(len, label)) + (4 if of.picture.things[at].is_function else 0), 2 * ports[at]) | 1
            for at, label in labels.items()
        }
        widths |= {item: 1 for row in of.rows for item in row if item < 0}
        steps = of.steps()
        centre = centres(of.rows, steps, widths, _GAP)
        left = {item: math.floor(centre[item] - widths[item] / 2 + 0.5) for item in centre}
        for row in of.rows:
            for before, item in pairwise(row):
                left[item] = max(left[item], left[before] + int(widths[before]) + 1)
        if max((left[item] + int(widths[item]) for item in left), default=0) <= width:
            return _rows(of, labels, {item: (left[item], int(widths[item])) for item in left}, steps, pen)
    return None


def _port_counts(of: Layout) -> dict[int, int]:
    """How many arrows meet a thing at its busier side."""
    out: dict[int, int] = {}
    into: dict[int, int] = {}
    for here, there, _ in of.steps():
        out[here] = out.get(here, 0) + 1
        into[there] = into.get(there, 0) + 1
    return {at: max(out.get(at, 0), into.get(at, 0), 1) for at in range(len(of.picture.things))}


def _label(thing: Thing, longest: int, pen: _Pen) -> tuple[str, ...]:
    """Of a name that is too long the end is kept: it is what tells folders apart."""
    name = thing.name if len(thing.name) <= longest else pen.more + thing.name[1 - longest :]
    return (name, f"({thing.detail})"[:longest]) if thing.detail else (name,)


def _rows(
    of: Layout,
    labels: Mapping[int, Sequence[str]],
    spans: Mapping[int, tuple[int, int]],
    steps: Sequence[tuple[int, int, int]],
    pen: _Pen,
) -> list[str]:
    lines: list[str] = []
    for at, row in enumerate(of.rows):
        lines += _row(of, row, labels, spans, pen)
        if at + 1 < len(of.rows):
            below = set(of.rows[at + 1])
            lines += _between(of, [step for step in steps if step[0] in set(row) and step[1] in below], spans, pen)
    return lines


def _row(
    of: Layout, row: Sequence[int], labels: Mapping[int, Sequence[str]], spans: Mapping[int, tuple[int, int]], pen: _Pen
) -> list[str]:
    """Functions in boxes, places bare, all in the middle of the row's height."""
    blocks: dict[int, list[str]] = {}
    for item in row:
        if item < 0:
            continue
        width = spans[item][1]
        if not of.picture.things[item].is_function:
            blocks[item] = [line.center(width) for line in labels[item]]
            continue
        edge = pen.lines[3] * (width - 2)
        inside = [f"{pen.lines[12]} {line.center(width - 4)} {pen.lines[12]}" for line in labels[item]]
        blocks[item] = [pen.lines[5] + edge + pen.lines[6], *inside, pen.lines[9] + edge + pen.lines[10]]
    height = max(map(len, blocks.values()), default=1)
    canvas = _Canvas(height)
    for item in row:
        left = spans[item][0]
        if item < 0:
            for line in range(height):
                canvas.put(line, left, pen.lines[12])
            continue
        over = (height - len(blocks[item])) // 2
        for line in range(height):
            inner = line - over
            if 0 <= inner < len(blocks[item]):
                canvas.put(line, left, blocks[item][inner])
            else:  # arrows reach what is lower than its neighbours
                for column in _ports_seen(of, item, spans, above=inner < 0):
                    canvas.put(line, column, pen.lines[12])
    return canvas.lines()


def _ports_seen(of: Layout, item: int, spans: Mapping[int, tuple[int, int]], *, above: bool) -> list[int]:
    steps = of.steps()
    return list(_ports(item, [s for s in steps if s[1 if above else 0] == item], spans, above=above).values())


def _ports(
    item: int, steps: Sequence[tuple[int, int, int]], spans: Mapping[int, tuple[int, int]], *, above: bool
) -> dict[tuple[int, int, int], int]:
    """The column by which each step meets the item: spread over its width, in the order of the other ends."""
    left, width = spans[item]
    other = 0 if above else 1
    order = sorted(steps, key=lambda step: (spans[step[other]][0] + spans[step[other]][1] / 2, step[2]))
    count = len(order)
    middle = left + (width - 1) // 2
    if count == 1:
        return {order[0]: middle}
    room = max((width - 1) // max(count - 1, 1), 1)
    space = min(room, 4) if room > 1 else 1
    first = middle - space * (count - 1) // 2
    return {step: min(max(first + number * space, left), left + width - 1) for number, step in enumerate(order)}


def _all_ports(
    steps: Sequence[tuple[int, int, int]], spans: Mapping[int, tuple[int, int]], *, above: bool
) -> dict[tuple[int, int, int], int]:
    side = 1 if above else 0
    items = {step[side] for step in steps}
    return {
        step: column
        for item in items
        for step, column in _ports(item, [s for s in steps if s[side] == item], spans, above=above).items()
    }


def _between(
    of: Layout, mine: Sequence[tuple[int, int, int]], spans: Mapping[int, tuple[int, int]], pen: _Pen
) -> list[str]:
    """The lines from one row to the next: each arrow goes down, across on a line of its own where it has to, and down."""
    leaves = _all_ports(mine, spans, above=False)
    comes = _all_ports(mine, spans, above=True)
    track = _tracks([(leaves[step], comes[step]) for step in mine])
    height = max(track, default=-1) + 3 if any(t >= 0 for t in track) else 2
    sides: dict[tuple[int, int], int] = {}

    def line(y: int, x: int, bits: int) -> None:
        sides[y, x] = sides.get((y, x), 0) | bits

    for step, at in zip(mine, track, strict=True):
        start, end = leaves[step], comes[step]
        turn = at + 1 if at >= 0 else height
        for y in range(min(turn, height)):
            line(y, start, 12)
        if at >= 0:
            line(turn, start, 8)
            line(turn, end, 4)
            for x in range(min(start, end), max(start, end)):
                line(turn, x, 1)
                line(turn, x + 1, 2)
            for y in range(turn + 1, height):
                line(y, end, 12)
    canvas = _Canvas(height)
    for (y, x), bits in sides.items():
        canvas.put(y, x, pen.lines[bits])
    for step in mine:
        back = of.picture.arrows[step[2]].back
        if step[1] >= 0 and not back:
            canvas.put(height - 1, comes[step], pen.down)
        if step[0] >= 0 and back:
            canvas.put(0, leaves[step], pen.up)
    return canvas.lines()


def _tracks(arrows: Sequence[tuple[int, int]]) -> list[int]:
    """A line for each arrow that goes across, -1 for one that goes straight down. No two share a stretch of a line; where one leaves by the
    column by which another comes in, the leaving one turns first, unless that goes round in a circle.
    """
    order = sorted(
        (number for number, (a, b) in enumerate(arrows) if a != b), key=lambda n: abs(arrows[n][0] - arrows[n][1])
    )
    first: dict[int, set[int]] = {n: {m for m in order if m != n and arrows[m][0] == arrows[n][1]} for n in order}
    track = [-1] * len(arrows)
    used: list[list[tuple[int, int]]] = []
    left = list(order)
    while left:
        free = [n for n in left if not first[n] & set(left)] or left[:1]
        for n in free:
            left.remove(n)
            span = tuple(sorted(arrows[n]))
            lowest = max((track[m] + 1 for m in first[n] if track[m] >= 0), default=0)
            at = next(
                (t for t in range(lowest, len(used)) if all(span[1] < a or span[0] > b for a, b in used[t])),
                max(len(used), lowest),
            )
            while len(used) <= at:
                used.append([])
            used[at].append((span[0], span[1]))
            track[n] = at
    return track


class _Canvas:
    def __init__(self, height: int) -> None:
        self._cells: list[dict[int, str]] = [{} for _ in range(height)]

    def put(self, y: int, x: int, text: str) -> None:
        for number, character in enumerate(text):
            self._cells[y][x + number] = character

    def lines(self) -> list[str]:
        return ["".join(row.get(x, " ") for x in range(max(row, default=-1) + 1)).rstrip() for row in self._cells]


def _listed(of: Picture, width: int, pen: _Pen) -> list[str]:
    """Each function with what it takes, and what it leaves and whom that starts."""
    lines: list[str] = []
    for at, thing in enumerate(of.things):
        if not thing.is_function:
            continue
        lines.append(thing.name + (f" ({thing.detail})" if thing.detail else ""))
        lines += [f"  takes  {of.things[a.source].name}{_filter(a.label)}" for a in of.arrows if a.target == at]
        for arrow in (a for a in of.arrows if a.source == at):
            started = _started(of, arrow.target)
            place = f"  leaves {of.things[arrow.target].name}{_filter(arrow.label)}"
            lines.append(f"{place} {pen.to} {', '.join(started)}" if started else place)
    return [line if len(line) <= width else line[: max(width - 1, 1)] + pen.more for line in lines]


def _started(of: Picture, place: int) -> list[str]:
    """The functions that files in a place start, through a place around it or in it, too."""
    near = {place, *(a.target for a in of.arrows if a.source == place and not of.things[a.target].is_function)}
    return [of.things[a.target].name for a in of.arrows if a.source in near and of.things[a.target].is_function]


def _filter(label: str) -> str:
    return f" ({label})" if label else ""
