#!/usr/bin/env python3
"""Number and fingerprint every line of INPUT_FILE_PATH, a quarter of a second each: it stands for work that takes its time."""

import hashlib
import os
import time
from pathlib import Path

SECONDS_A_LINE = 0.25

text = Path(os.environ["INPUT_FILE_PATH"])
report = Path(os.environ["TMP_OUTPUT_DIR"], f"{text.stem}.report.txt")
lines = text.read_text().splitlines()
with report.open("w") as out:
    for number, line in enumerate(lines, 1):
        time.sleep(SECONDS_A_LINE)
        out.write(f"{number:3} {hashlib.sha256(line.encode()).hexdigest()[:16]} {line}\n")
        print(f"{text.name}: line {number} of {len(lines)}", flush=True)
