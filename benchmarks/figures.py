"""What all benchmarks share: a line of the table, the table, and the files of results with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One line of the table. `unit` is s, MiB …; `ratio` is ours divided by the peer's; `goal` bounds the ratio or the value.

    An item that begins with two spaces belongs to the one above it.
    """

    item: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None


def table(figures: Sequence[Figure]) -> str:
    from tabulate import tabulate

    rows = [
        (
            f.item.replace("  ", "· ", 1) if f.item.startswith("  ") else f.item,
            _number(f.ours, f.unit),
            f.peer,
            _number(f.theirs, f.unit),
            "" if f.ratio is None else f"{f.ratio:.2f}",
            f.goal,
        )
        for f in figures
    ]
    return tabulate(rows, headers=("item", "SCAR", "peer", "peer's", "ratio", "goal"), tablefmt="github")


def as_documents(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [asdict(f) | {"ratio": f.ratio} for f in figures]


def write(name: str, text: str, document: Mapping[str, Any]) -> None:
    """`results/NAME.md` and `.json`, with the machine."""
    machine = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    RESULTS.mkdir(exist_ok=True)
    whole = json.dumps({"machine": machine, **document}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(whole + "\n")
    (RESULTS / f"{name}.md").write_text(text + "\n")


def _number(value: float | None, unit: str) -> str:
    match unit:
        case _ if value is None:
            return ""
        case "s":
            return f"{value:.3f} s"
        case "1/s":
            return f"{value:.0f} 1/s"
        case _:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
