#!/usr/bin/env python3
"""Turn a PNG photograph gray, with nothing but Python: reads INPUT_FILE_PATH, writes into TMP_OUTPUT_DIR."""

import os
import struct
import sys
import zlib
from pathlib import Path

CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # PNG colour type → samples a pixel


def read_png(data: bytes) -> tuple[int, int, int, bytes]:
    """Width, height, samples a pixel, and the raw samples row by row (8 bits each, not interlaced)."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        sys.exit("this file is not a PNG")
    place, packed, header = 8, b"", b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed += body
        place += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or interlaced or colour not in CHANNELS:
        sys.exit("only 8-bit PNGs that are neither interlaced nor with a palette are understood")
    return (
        width,
        height,
        CHANNELS[colour],
        unfilter(zlib.decompress(packed), width * CHANNELS[colour], CHANNELS[colour]),
    )


def unfilter(packed: bytes, stride: int, step: int) -> bytes:
    """Undo PNG's row filters (PNG specification, section 9)."""
    rows = bytearray()
    above = bytearray(stride)
    for start in range(0, len(packed), stride + 1):
        kind, row = packed[start], bytearray(packed[start + 1 : start + 1 + stride])
        for i in range(stride):
            left = row[i - step] if i >= step else 0
            up = above[i]
            corner = above[i - step] if i >= step else 0
            if kind == 1:
                row[i] = (row[i] + left) & 255
            elif kind == 2:
                row[i] = (row[i] + up) & 255
            elif kind == 3:
                row[i] = (row[i] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))
                row[i] = (row[i] + near[2]) & 255
        rows += row
        above = row
    return bytes(rows)


def write_gray_png(path: Path, width: int, height: int, gray: bytes) -> None:
    """Write one byte a pixel, rows unfiltered."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + gray[y * width : (y + 1) * width] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


photo = Path(os.environ["INPUT_FILE_PATH"])
width, height, samples, pixels = read_png(photo.read_bytes())
if samples >= 3:  # the eye's weights for red, green and blue (ITU-R BT.601)
    colours = zip(pixels[0::samples], pixels[1::samples], pixels[2::samples], strict=True)
    gray = bytes((299 * r + 587 * g + 114 * b) // 1000 for r, g, b in colours)
else:
    gray = pixels[0::samples]
write_gray_png(Path(os.environ["TMP_OUTPUT_DIR"], photo.name), width, height, gray)
print(f"{photo.name}: {width} x {height} pixels are gray now")
