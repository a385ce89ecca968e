#!/usr/bin/env python3
"""Picture and figures of a WAV file (16 bits, any number of channels): reads INPUT_FILE_PATH, writes into TMP_OUTPUT_DIR."""

import array
import cmath
import json
import math
import os
import struct
import sys
import wave
import zlib
from pathlib import Path

WINDOW = 256  # samples of one column of the picture; a power of two
STEP = 128
FLOOR_DB = -80.0  # what is quieter is black


def spectrum(samples: list[float]) -> list[complex]:
    """The discrete Fourier transform, by Cooley and Tukey's halving."""
    if len(samples) == 1:
        return [complex(samples[0])]
    even, odd = spectrum(samples[0::2]), spectrum(samples[1::2])
    half = len(even)
    turned = [cmath.exp(-1j * math.pi * k / half) * odd[k] for k in range(half)]
    return [even[k] + turned[k] for k in range(half)] + [even[k] - turned[k] for k in range(half)]


def decibels(amplitude: float) -> float:
    return max(FLOOR_DB, 20 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DB


def write_png(path: Path, rows: list[bytes]) -> None:
    """Gray, one byte a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


source = Path(os.environ["INPUT_FILE_PATH"])
try:
    with wave.open(str(source)) as sound:
        channels, width, rate, frames = sound.getparams()[:4]
        raw = sound.readframes(frames)
except (wave.Error, EOFError) as problem:
    sys.exit(f"{source.name} is not a WAV file that can be read: {problem}")
if width != 2:
    sys.exit(f"{source.name} has {8 * width} bits a sample; 16 are understood")
both = array.array("h", raw)
if sys.byteorder == "big":
    both.byteswap()
samples = [sum(both[i : i + channels]) / channels / 32768 for i in range(0, len(both), channels)]

hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / WINDOW) for i in range(WINDOW)]
columns = []
for start in range(0, len(samples) - WINDOW + 1, STEP):
    bins = spectrum([samples[start + i] * hann[i] for i in range(WINDOW)])[: WINDOW // 2]
    columns.append([decibels(abs(value) * 4 / WINDOW) for value in bins])
if not columns:
    sys.exit(f"{source.name} is shorter than {WINDOW} samples")

out = Path(os.environ["TMP_OUTPUT_DIR"])
shade = [[int(255 * (1 - level / FLOOR_DB)) for level in column] for column in columns]
rows = [bytes(min(255, column[line]) for column in shade) for line in reversed(range(WINDOW // 2))]
write_png(out / f"{source.stem}.png", rows)

loudest = [max(range(1, WINDOW // 2), key=column.__getitem__) for column in columns]
tones: list[int] = []
for column, line in zip(columns, loudest, strict=True):
    hertz = round(line * rate / WINDOW)
    if column[line] > -40 and tones[-1:] != [hertz]:
        tones.append(hertz)
figures = {
    "seconds": round(len(samples) / rate, 3),
    "peak_dbfs": round(decibels(max(map(abs, samples))), 1),
    "loudness_dbfs": round(decibels(math.sqrt(sum(s * s for s in samples) / len(samples))), 1),
    "tones_hertz": tones,
}
(out / f"{source.stem}.json").write_text(json.dumps(figures) + "\n")
print(f"{source.name}: {figures['seconds']} s, {len(columns)} columns, tones {tones}")
