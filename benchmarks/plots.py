"""Pictures of growth: SVG that is small, and can be read on a light and on a dark page."""

from __future__ import annotations

import io
from typing import Any

from figures import Growth

# Of one lightness between the two backgrounds; SCAR first and thickest.
_OURS = "#2f81f7"
_THEIRS = ("#d2691e", "#3fa45b", "#a371f7", "#c9a227", "#e5534b")
_INK = "#808890"


def draw(growth: Growth) -> str:
    """The same numbers give the same picture, byte by byte."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    style: dict[str, Any] = {
        "svg.fonttype": "none",  # text stays text, in the reader's font
        "svg.hashsalt": "scar",
        "font.family": "sans-serif",
        "font.size": 9,
        "path.simplify": True,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(5.2, 2.9), layout="constrained")
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
        axes.set(title=growth.title, xlabel=growth.x, ylabel=growth.y)
        axes.grid(color=_INK, alpha=0.2, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return out.getvalue()
