"""A workflow as an SVG: from left to right, readable on light and on dark, with nothing that a page would have to load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from scar.workflow.picture import Layout, Picture, Thing, centres, layout, parts

_CHARACTER: Final = 7.8  # width of one of 13 px in a monospaced font, and a little
_LINE: Final = 17.0
_BETWEEN_ROWS: Final = 64.0
_BETWEEN_THINGS: Final = 18.0
_MARGIN: Final = 16.0
_LONGEST: Final = 48

# Light first, in plain properties: not every reader of SVG knows variables or media queries.
_STYLE: Final = """\
    text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1c2330; text-anchor: middle }
    text.detail { font-size: 11px; fill: #5b6b82 }
    .paper { fill: #ffffff }
    .function { fill: #e3ecfb; stroke: #2f5fb3; stroke-width: 1.5 }
    .arrow { fill: none; stroke: #5b6b82; stroke-width: 1.5 }
    .arrow.back { stroke: #b3261e; stroke-dasharray: 5 4 }
    .head { fill: #5b6b82 }
    .backhead { fill: #b3261e }
    @media (prefers-color-scheme: dark) {
      text { fill: #e8edf5 }
      text.detail { fill: #a7b4c8 }
      .paper { fill: #12161d }
      .function { fill: #1f3354; stroke: #7da7ee }
      .arrow { stroke: #93a3ba }
      .arrow.back { stroke: #ff8a80 }
      .head { fill: #93a3ba }
      .backhead { fill: #ff8a80 }
    }
"""


def svg(of: Picture, title: str) -> str:
    """The whole document, as text."""
    body: list[str] = []
    top, right = _MARGIN, 0.0
    for part in parts(of):
        width, height, drawn = _part(layout(part), top)
        body += drawn
        top += height + _MARGIN
        right = max(right, width)
    width, height = right + _MARGIN, top
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(_plain(title))}>',
            f"  <title>{escape(_plain(title))}</title>",
            f"  <style>\n{_STYLE}  </style>",
            "  <defs>",
            *(_head(name, klass) for name, klass in (("head", "head"), ("backhead", "backhead"))),
            "  </defs>",
            '  <rect class="paper" width="100%" height="100%"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _head(name: str, klass: str) -> str:
    shape = f'<path class="{klass}" d="M0 0 8 4 0 8z"/>'
    return f'    <marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">{shape}</marker>'


def _part(of: Layout, top: float) -> tuple[float, float, list[str]]:
    """Right edge, height, and elements: the rows of the layout become columns."""
    things = of.picture.things
    heights: dict[int, float] = {at: _LINE * (2 if thing.detail else 1) + 16 for at, thing in enumerate(things)}
    heights |= {item: 2 for row in of.rows for item in row if item < 0}
    steps = of.steps()
    middle = {item: top + at for item, at in centres(of.rows, steps, heights, _BETWEEN_THINGS).items()}
    left = _MARGIN
    x: dict[int, tuple[float, float]] = {}
    for row in of.rows:
        width = max((_width(things[item]) for item in row if item >= 0), default=0.0)
        for item in row:
            own = _width(things[item]) if item >= 0 else width
            x[item] = (left + (width - own) / 2, own)
        left += width + _BETWEEN_ROWS
    elements = list(_arrows(of, steps, x, middle))
    for at, thing in enumerate(things):
        elements += _thing(thing, x[at], middle[at], heights[at])
    bottom = max(middle[item] + heights[item] / 2 for item in middle)
    return left - _BETWEEN_ROWS, bottom - top, elements


def _arrows(
    of: Layout, steps: Sequence[tuple[int, int, int]], x: dict[int, tuple[float, float]], y: dict[int, float]
) -> Iterator[str]:
    """One path for each arrow, through all the rows that it passes."""
    ways: dict[int, list[tuple[int, int]]] = {}
    for here, there, number in steps:
        ways.setdefault(number, []).append((here, there))
    for number, way in ways.items():
        arrow = of.picture.arrows[number]
        first = way[0][0]
        path = [f"M{x[first][0] + x[first][1]:.1f} {y[first]:.1f}"]
        for here, there in way:
            start, end = x[here][0] + x[here][1], x[there][0]
            bend = (start + end) / 2
            path.append(f"C{bend:.1f} {y[here]:.1f} {bend:.1f} {y[there]:.1f} {end:.1f} {y[there]:.1f}")
            if there < 0:
                path.append(f"H{end + x[there][1]:.1f}")
        mark = 'marker-start="url(#backhead)"' if arrow.back else 'marker-end="url(#head)"'
        label = f"<title>{escape(_plain(arrow.label))}</title>" if arrow.label else ""
        yield f'  <path class="arrow{" back" if arrow.back else ""}" d="{" ".join(path)}" {mark}>{label}</path>'


def _thing(thing: Thing, span: tuple[float, float], middle: float, height: float) -> Iterator[str]:
    left, width = span
    centre = left + width / 2
    yield f"  <g><title>{escape(_plain(thing.name))}</title>"
    if thing.is_function:
        yield f'    <rect class="function" x="{left:.1f}" y="{middle - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
    first = middle + 4.5 - (_LINE / 2 if thing.detail else 0)
    yield f'    <text x="{centre:.1f}" y="{first:.1f}">{escape(_short(thing.name))}</text>'
    if thing.detail:
        yield f'    <text class="detail" x="{centre:.1f}" y="{first + _LINE:.1f}">{escape(_short(thing.detail))}</text>'
    yield "  </g>"


def _width(thing: Thing) -> float:
    return max(len(_short(thing.name)), len(_short(thing.detail))) * _CHARACTER + (24 if thing.is_function else 12)


def _short(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= _LONGEST else "…" + plain[1 - _LONGEST :]


def _plain(text: str) -> str:
    """XML has no way to write control characters, nor half a pair of surrogates."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
