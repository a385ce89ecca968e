"""Which keys of which bucket: one end of a function, and when two of them have a key in common."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class End:
    """Keys below `path` (`bucket[/folder]`) of a store whose rest begins with one of `prefixes` and ends with one of `suffixes`; none of
    either is any.

    `where` is the place in a file that says so, '' if there is none.
    """

    path: str
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    store: str = "s3"
    where: str = field(default="", compare=False)

    @property
    def bucket(self) -> str:
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        return self.path.partition("/")[2].rstrip("/")

    @property
    def starts(self) -> tuple[str, ...]:
        """What its keys begin with, shortest possible: none begins with another."""
        below = f"{self.folder}/" if self.folder else ""
        return without_covered((below + prefix for prefix in self.prefixes or ("",)), str.startswith)

    @property
    def stops(self) -> tuple[str, ...]:
        """What its keys end with: none ends with another."""
        return without_covered(self.suffixes or ("",), str.endswith)

    def __str__(self) -> str:
        """`photos/in`, `minio.lab://photos/in`; with what is filtered behind it: `photos/in (*.png)`."""
        path = self.path if self.store == "s3" else f"{self.store}://{self.path}"
        return f"{path} ({self.filter})" if self.filter else path

    def written(self) -> str:
        """As one line that `read` understands: without filters, what `str` says."""
        plain = replace(self, prefixes=(), suffixes=())
        return "".join(
            [str(plain), *(f"\t{prefix}" for prefix in self.prefixes), *(f"\n{suffix}" for suffix in self.suffixes)]
        )

    @classmethod
    def read(cls, text: str) -> End:
        """What `written` was called on, but for its `where`."""
        place, *filters = re.split(r"(?=[\t\n])", text)
        store, separator, path = place.partition("://")
        return cls(
            path if separator else place,
            tuple(each[1:] for each in filters if each.startswith("\t")),
            tuple(each[1:] for each in filters if each.startswith("\n")),
            store if separator else "s3",
        )

    @property
    def filter(self) -> str:
        """`*.png, *.jpg`; '' when every file counts."""
        if not self.prefixes and not self.suffixes:
            return ""
        return ", ".join(f"{prefix}*{suffix}" for prefix in self.prefixes or ("",) for suffix in self.suffixes or ("",))


def meet(one: End, other: End) -> bool:
    """Whether there can be a key of both. Where prefixes and suffixes go together, a key that is long enough has all four."""
    return (
        (one.store, one.bucket) == (other.store, other.bucket)
        and any(a.startswith(b) or b.startswith(a) for a in one.starts for b in other.starts)
        and any(a.endswith(b) or b.endswith(a) for a in one.stops for b in other.stops)
    )


def without_covered(affixes: Iterable[str], covers: Callable[[str, str], bool]) -> tuple[str, ...]:
    """Only those that no other covers, sorted: of `a/` and `a/b/` as beginnings the first, of `g` and `.jpg` as endings the first."""
    kept: list[str] = []
    for affix in sorted(set(affixes), key=lambda text: (len(text), text)):
        if not any(covers(affix, shorter) for shorter in kept):
            kept.append(affix)
    return tuple(sorted(kept))


class Finder:
    """Answers which ends meet one, among many, without looking at all of them."""

    def __init__(self, ends: Iterable[End]) -> None:
        self._ends: list[End] = []
        self._of_bucket: dict[tuple[str, str], _Starts] = {}
        for end in ends:
            starts = self._of_bucket.setdefault((end.store, end.bucket), _Starts())
            for start in end.starts:
                starts.add(start, len(self._ends))
            self._ends.append(end)

    def meeting(self, end: End) -> list[int]:
        """The numbers of those that meet it, in order."""
        starts = self._of_bucket.get((end.store, end.bucket))
        if starts is None:
            return []
        near = {number for start in end.starts for number in starts.near(start)}
        return [number for number in sorted(near) if meet(end, self._ends[number])]


class _Starts:
    """Beginnings of keys of one bucket: those above a given one are found by their lengths, those below it in the sorted list."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._sorted: list[str] | None = None
        self._lengths: list[int] = []

    def add(self, start: str, number: int) -> None:
        self._numbers.setdefault(start, []).append(number)
        self._sorted = None

    def near(self, start: str) -> Iterator[int]:
        if self._sorted is None:
            self._sorted = sorted(self._numbers)
            self._lengths = sorted({len(each) for each in self._sorted})
        for length in self._lengths:
            if length >= len(start):
                break
            yield from self._numbers.get(start[:length], ())
        at = bisect_left(self._sorted, start)
        while at < len(self._sorted) and self._sorted[at].startswith(start):
            yield from self._numbers[self._sorted[at]]
            at += 1
