"""How much of this machine does a local AWS take, and does that grow with the events it has seen?"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """After so many events: what one look found, a number for each thing that is looked at."""

    events: int
    found: Mapping[str, float]


def children_of(pid: int) -> list[int]:
    """Of all its threads; none when it is gone."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, listed.read_text().split())
        except OSError:
            continue
    return found


def tree_below(pid: int) -> Iterator[int]:
    for child in children_of(pid):
        yield child
        yield from tree_below(child)


def resident_kib(pid: int) -> int:
    """What is its own alone: pages of files come and go as the kernel likes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split(None, 1)[0])


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def slope(samples: Sequence[Sample], name: str) -> float:
    """Growth of one thing for each event over the second half, by Theil and Sen: the median of the slopes between all pairs of samples.

    Half of the samples may be anything at all before this moves far; a line of least squares follows the one sample in which a collection of
    garbage was late.
    """
    return statistics.median(_slopes(combinations(_second_half(samples), 2), name))


def steady_slope(samples: Sequence[Sample], name: str) -> float:
    """The same between neighbours alone: what each event adds, and nothing of the few moments in which a pool of memory becomes larger for good.

    In a short soak one such moment is most of the growth, and no leak.
    """
    return statistics.median(_slopes(pairwise(_second_half(samples)), name))


def _second_half(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[len(samples) // 2 :]


def _slopes(pairs: Iterable[tuple[Sample, Sample]], name: str) -> Iterator[float]:
    for earlier, later in pairs:
        yield (later.found[name] - earlier.found[name]) / (later.events - earlier.events)


def bytes_below(folder: Path, *, without: Sequence[str] = ()) -> int:
    """Of all files in a folder; `without` are names of its folders that may grow."""
    total = 0
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in without]
        for name in names:
            if name.startswith("daemon.log"):
                continue
            try:
                total += os.lstat(f"{parent}/{name}").st_size
            except FileNotFoundError:
                continue
    return total
