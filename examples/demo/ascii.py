#!/usr/bin/env python3
"""Draw the gray PNG that grayify.py made with letters: reads INPUT_FILE_PATH, writes into TMP_OUTPUT_DIR."""

import os
import struct
import zlib
from pathlib import Path

SHADES = " .:-=+*#%@"
TALL = 2  # a letter is about twice as tall as it is wide

picture = Path(os.environ["INPUT_FILE_PATH"])
data = picture.read_bytes()
width, height = struct.unpack_from(">II", data, 16)
length = struct.unpack_from(">I", data, 33)[0]  # grayify writes one IDAT chunk of unfiltered rows
rows = zlib.decompress(data[41 : 41 + length])

columns = min(int(os.environ.get("COLUMNS", "78")), width)
cell = width / columns
grid = []
for line in range(int(height / cell / TALL)):
    top, bottom = int(line * cell * TALL), int((line + 1) * cell * TALL)
    for column in range(columns):
        left, right = int(column * cell), int((column + 1) * cell)
        block = b"".join(rows[y * (width + 1) + 1 + left : y * (width + 1) + 1 + right] for y in range(top, bottom))
        grid.append(sum(block) / len(block))

# Stretch the contrast: all but the two per cent at either end get the whole range of letters.
ranked = sorted(grid)
dark, bright = ranked[len(ranked) // 50], ranked[-len(ranked) // 50]
step = (bright - dark) / len(SHADES) or 1
letters = [SHADES[max(0, min(int((value - dark) / step), len(SHADES) - 1))] for value in grid]
lines = ["".join(letters[start : start + columns]).rstrip() for start in range(0, len(letters), columns)]
Path(os.environ["TMP_OUTPUT_DIR"], picture.stem + ".txt").write_text("\n".join(lines) + "\n")
print(f"{picture.name}: drawn with {columns} x {len(lines)} letters")
