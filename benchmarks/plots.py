"""Pictures of growth: SVG that is small, and can be read on a light and on a dark page."""

from __future__ import annotations

import io
from typing import Any

from figures import Growth, Spans

# Of one lightness between the two backgrounds; SCAR first and thickest.
_OURS = "#2f81f7"
_THEIRS = ("#d2691e", "#3fa45b", "#a371f7", "#c9a227", "#e5534b")
_INK = "#808890"


def draw(picture: Growth | Spans) -> str:
    """The same numbers give the same picture, byte by byte."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    style: dict[str, Any] = {
        "svg.fonttype": "none",  # text stays text, in the reader's font
        "svg.hashsalt": "scar",
        "font.family": "sans-serif",
        "font.size": 9,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(6.4, 2.9), layout="constrained")
        if isinstance(picture, Spans):
            _bars(axes, picture)
        else:
            _lines(axes, picture)
        axes.set_title(picture.title)
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _lines(axes: Any, growth: Growth) -> None:
    others = iter(_THEIRS * 4)
    for name, points in growth.lines.items():
        ours = name.lower().startswith("scar")
        xs = sorted(points)
        axes.plot(
            xs,
            [points[x] for x in xs],
            marker="o",
            markersize=4 if ours else 3,
            linewidth=2.2 if ours else 1.2,
            linestyle=":" if "away" in name else "-",
            color=_OURS if ours else next(others),
            label=name,
            zorder=3 if ours else 2,
        )
    for name, points in growth.goals.items():
        xs = sorted(points)
        axes.plot(xs, [points[x] for x in xs], linestyle="--", linewidth=1, color=_INK, label=f"goal: {name}")
    if not growth.linear:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set(xlabel=growth.x, ylabel=growth.y)
    axes.grid(color=_INK, alpha=0.2, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _bars(axes: Any, spans: Spans) -> None:
    """One line a step, each beginning where the one before has ended."""
    names, begin = list(spans.ends_ms), 0.0
    for place, name in enumerate(names):
        end = spans.ends_ms[name]
        axes.barh(place, end - begin, left=begin, height=0.7, color=_OURS)
        axes.text(end, place, f" {end - begin:.1f}", va="center", fontsize=7)
        begin = end
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds since the PUT was sent")
