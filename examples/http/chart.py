#!/usr/bin/env python3
"""Draw numbers as bars: the request's body (INPUT_FILE_PATH) has them, one a line, or `label,number`. The answer is the file that is written.

`?title=…` of the request is in CONT_VAR_title. What goes wrong is told on standard error, and the answer is an error with our exit code in it.
"""

import html
import os
import sys
from pathlib import Path

WIDTH, BAR, EDGE, MOST_BARS = 480, 22, 90, 200

if "INPUT_FILE_PATH" not in os.environ:
    sys.exit("send the numbers as the body of a POST")
bars: list[tuple[str, float]] = []
for number, line in enumerate(Path(os.environ["INPUT_FILE_PATH"]).read_text(errors="replace").splitlines(), 1):
    label, _, value = line.rpartition(",")
    if line.strip():
        try:
            bars.append((label.strip() or str(number), float(value)))
        except ValueError:
            sys.exit(f"line {number} has no number: {line[:40]!r}")
if not 0 < len(bars) <= MOST_BARS or any(not 0 <= value < float("inf") for _, value in bars):
    sys.exit(f"from 1 to {MOST_BARS} numbers, none of them negative")

most = max(value for _, value in bars) or 1
title = os.environ.get("CONT_VAR_title", "")
top = 30 if title else 8
lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + BAR * len(bars) + 8}" font-family="sans-serif" font-size="12">',
    "<style>text{fill:#333}rect{fill:#2a78d6}@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#6aa9f0}}</style>",
]
if title:
    lines.append(f'<text x="{EDGE}" y="20" font-weight="bold">{html.escape(title)}</text>')
for number, (label, value) in enumerate(bars):
    y, length = top + BAR * number, (WIDTH - EDGE - 60) * value / most
    lines.append(f'<text x="{EDGE - 6}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>')
    lines.append(f'<rect x="{EDGE}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}"/>')
    lines.append(f'<text x="{EDGE + length + 5:.1f}" y="{y + 15}">{value:g}</text>')
lines.append("</svg>")
Path(os.environ["TMP_OUTPUT_DIR"], "chart.svg").write_text("\n".join(lines) + "\n")
