#!/usr/bin/env python3
"""Draw a part of the Mandelbrot set as PNG: reads the wanted part from INPUT_FILE_PATH (JSON), writes into TMP_OUTPUT_DIR."""

import json
import math
import os
import struct
import sys
import zlib
from pathlib import Path

MOST_PIXELS = 50_000_000

source = Path(os.environ["INPUT_FILE_PATH"])
try:
    wanted = json.loads(source.read_text())
    width, height, steps = (int(wanted[name]) for name in ("width", "height", "steps"))
    centre, span = complex(*wanted["centre"]), float(wanted["span"])
except (ValueError, KeyError, TypeError) as problem:
    sys.exit(f"{source.name}: {type(problem).__name__}: {problem}")
if not (0 < width * height <= MOST_PIXELS and 0 < steps <= 100_000):
    sys.exit(f"{source.name}: at most {MOST_PIXELS} pixels and 100000 steps")


def shade(point: complex) -> bytes:
    """Black where the orbit stays, else a colour that tells how soon it leaves."""
    z = 0j
    for step in range(steps):
        z = z * z + point
        if z.real * z.real + z.imag * z.imag > 16:
            smooth = step + 1 - math.log2(math.log(abs(z)))
            return bytes(int(127.5 - 127.5 * math.cos(0.15 * smooth + turn)) for turn in (0.0, 0.6, 1.2))
    return bytes(3)


rows = []
for line in range(height):
    points = (
        centre + complex((x / width - 0.5) * span, (0.5 - line / height) * span * height / width) for x in range(width)
    )
    rows.append(b"\0" + b"".join(shade(point) for point in points))
    if (line + 1) % max(1, height // 4) == 0:
        print(f"{source.name}: line {line + 1} of {height}", flush=True)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


Path(os.environ["TMP_OUTPUT_DIR"], f"{source.stem}.png").write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"".join(rows)))
    + chunk(b"IEND", b"")
)
