#!/usr/bin/env python3
"""Third step: a chart of what the second found, as SVG; light and dark."""

import html
import json
import os
from pathlib import Path

WIDTH, HEIGHT, EDGE = 480, 240, 40
COLOURS = ("#2a78d6", "#eb6834", "#1a936f", "#8f5fbf")

source = Path(os.environ["INPUT_FILE_PATH"])
stations: dict[str, dict[str, float]] = json.loads(source.read_text())
months = sorted({month for line in stations.values() for month in line})
values = [value for line in stations.values() for value in line.values()]
low, high = min(values), max(values)


def point(month: str, value: float) -> str:
    x = EDGE + (WIDTH - 2 * EDGE) * months.index(month) / max(1, len(months) - 1)
    y = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / ((high - low) or 1)
    return f"{x:.1f},{y:.1f}"


lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
    "<style>text{fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
]
for month in months:
    x = point(month, low).partition(",")[0]
    lines.append(f'<text x="{x}" y="{HEIGHT - EDGE / 3:.1f}" text-anchor="middle">{html.escape(month)}</text>')
for number, (station, line) in enumerate(stations.items()):
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(point(month, value) for month, value in line.items())
    lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    lines.append(f'<text x="{EDGE}" y="{16 * (number + 1)}" style="fill:{colour}">{html.escape(station)}</text>')
lines.append("</svg>")
Path(os.environ["TMP_OUTPUT_DIR"], f"{source.stem}.svg").write_text("\n".join(lines) + "\n")
print(f"{source.name}: {len(stations)} lines, {len(months)} months")
