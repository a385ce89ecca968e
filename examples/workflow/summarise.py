#!/usr/bin/env python3
"""Second step: one figure for each month and station of a table of `date,station,temperature`."""

import csv
import json
import os
import statistics
from collections import defaultdict
from pathlib import Path

source = Path(os.environ["INPUT_FILE_PATH"])
found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
with source.open(newline="") as table:
    for row in csv.DictReader(table):
        found[row["station"]][row["date"][:7]].append(float(row["temperature"]))
means = {
    station: {month: round(statistics.fmean(values), 2) for month, values in sorted(months.items())}
    for station, months in sorted(found.items())
}
Path(os.environ["TMP_OUTPUT_DIR"], f"{source.stem}.json").write_text(json.dumps(means, indent=1) + "\n")
print(f"{source.name}: {sum(map(len, means.values()))} months of {len(means)} stations")
