#!/usr/bin/env python3
"""Find the cuts of a film in YUV4MPEG2 (4:2:0, 8 bits): reads INPUT_FILE_PATH frame by frame, writes into TMP_OUTPUT_DIR.

Two frames belong to different scenes when their histograms of brightness differ by more than a fifth.
"""

import json
import os
import struct
import sys
import zlib
from pathlib import Path

SHADES = 16
CUT = 0.2
GAP = 4


def histogram(bright: bytes) -> list[float]:
    counts = [0] * 256
    for value in bright:
        counts[value] += 1
    step = 256 // SHADES
    return [sum(counts[low : low + step]) / len(bright) for low in range(0, 256, step)]


def write_png(path: Path, rows: list[bytes]) -> None:
    """Gray, one byte a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


source = Path(os.environ["INPUT_FILE_PATH"])
scenes: list[tuple[int, bytes]] = []
frames = 0
with source.open("rb") as film:
    magic, *words = film.readline(256).decode("ascii", "replace").split()
    told = {word[0]: word[1:] for word in words}
    if magic != "YUV4MPEG2" or not told.get("C", "420").startswith("420") or "p1" in told.get("C", ""):
        sys.exit(f"{source.name} is not YUV4MPEG2 with 4:2:0 and 8 bits")
    width, height = int(told["W"]), int(told["H"])
    rate, _, base = told["F"].partition(":")
    seconds = int(base or 1) / int(rate)
    colour = 2 * ((width + 1) // 2) * ((height + 1) // 2)
    last: list[float] = []
    while film.readline(256).startswith(b"FRAME"):
        bright = film.read(width * height)
        if len(bright) + len(film.read(colour)) < width * height + colour:
            sys.exit(f"{source.name} ends in the middle of frame {frames}")
        shades = histogram(bright)
        if not last or sum(abs(a - b) for a, b in zip(shades, last, strict=True)) / 2 > CUT:
            scenes.append((frames, bright))
        last = shades
        frames += 1
if not scenes:
    sys.exit(f"{source.name} has no frame")

out = Path(os.environ["TMP_OUTPUT_DIR"])
space = bytes([255]) * GAP
rows = [space.join(bright[line * width : (line + 1) * width] for _, bright in scenes) for line in range(height)]
write_png(out / f"{source.stem}.png", rows)
starts = [first for first, _ in scenes]
found = [
    {"scene": number, "start_s": round(first * seconds, 3), "frames": after - first}
    for number, (first, after) in enumerate(zip(starts, [*starts[1:], frames], strict=True), 1)
]
(out / f"{source.stem}.json").write_text(json.dumps({"frames": frames, "scenes": found}) + "\n")
print(f"{source.name}: {frames} frames, {len(scenes)} scenes")
