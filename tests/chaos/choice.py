"""Which of all points a sweep breaks: every one with `--whole`, else a choice that `--seed` makes the same again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
SEED = 20260


@dataclass(frozen=True)
class Choice:
    seed: int = SEED
    whole: bool = False

    def of(self, name: str, points: Iterable[T], most: int) -> list[T]:
        """All points in their order, or `most` of them: the first, the last and whatever the seed and the sweep's `name` choose."""
        all_ = list(points)
        if self.whole or len(all_) <= most:
            return all_
        between = sorted(self.random(name).sample(range(1, len(all_) - 1), most - 2))
        return [all_[index] for index in (0, *between, len(all_) - 1)]

    def random(self, name: str) -> random.Random:
        """Chance that belongs to `name` alone: what another test draws changes nothing here."""
        return random.Random(f"{self.seed} {name}")
