"""What is kept of images on this machine, and what of it can go? Everything here can be made or fetched again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scar.package.cache import REMOVED, is_used, remove_unused

# The folders of the cache, as people call what is in them.
_WORDS: Final[Mapping[str, str]] = {
    "agent": "agent layer",
    "archives": "unpacked archive",
    "debian": "package of the agent",
    "layers": "compressed layer",
    "scans": "what is in an image",
    "sightings": "where layers are",
    "stores": "saved image",
    "zips": "agent as a zip",
}
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Kept:
    """One directory of the cache. `used_at` is in seconds since 1970."""

    what: str
    path: Path
    size_bytes: int
    used_at: float
    in_use: bool


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, and what stayed; both the most recently used first."""

    removed: tuple[Kept, ...]
    kept: tuple[Kept, ...]

    @property
    def freed_bytes(self) -> int:
        return sum(item.size_bytes for item in self.removed)

    @property
    def kept_bytes(self) -> int:
        return sum(item.size_bytes for item in self.kept)


def prune(cache: Path, *, max_bytes: int, dry_run: bool = False) -> Pruned:
    """Remove the least recently used until at most `max_bytes` are kept. What a process is using stays, also beyond the bound.

    Any number of processes may do this at once, and others may fill the cache meanwhile.
    """
    if not dry_run:
        _finish_removals(cache)
    removed: list[Kept] = []
    kept = sorted(_kept(cache), key=lambda item: item.used_at, reverse=True)
    total = sum(item.size_bytes for item in kept)
    for item in reversed(kept):
        if total <= max_bytes:
            break
        if item.in_use if dry_run else not remove_unused(item.path):
            continue
        removed.append(item)
        total -= item.size_bytes
    gone = {item.path for item in removed}
    return Pruned(tuple(reversed(removed)), tuple(item for item in kept if item.path not in gone))


def _kept(cache: Path) -> Iterator[Kept]:
    """Only what SCAR knows by its lock: whatever else somebody put there is not ours."""
    for lock in sorted(cache.glob(f"*/*/{_LOCK}")):
        directory = lock.parent
        if directory.name.startswith(REMOVED):
            continue
        try:
            used_at = lock.stat().st_mtime
        except OSError:  # removed meanwhile
            continue
        word = _WORDS.get(directory.parent.name, directory.parent.name)
        yield Kept(word, directory, _size(directory), used_at, is_used(directory))


def _size(directory: Path) -> int:
    """As far as it is still there: another process may be removing it."""
    return sum(_size_of(Path(folder, name)) for folder, _, names in os.walk(directory) for name in names)


def _size_of(path: Path) -> int:
    """What it takes on disk: a file with holes takes less than it is long."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def _finish_removals(cache: Path) -> None:
    """Of a process that was killed while it removed something."""
    leftovers: Sequence[Path] = [*cache.glob(f"*/{REMOVED}*")]
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)
