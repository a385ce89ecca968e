"""What a definition's inputs and outputs are to the workflow: ends of functions, and the rules by which S3 tells a function of a file."""

from __future__ import annotations

from collections.abc import Iterable

from scar.fdl.model import Io
from scar.workflow.ends import End


def end(item: Io) -> End:
    return End(item.path, item.prefix, item.suffix, item.provider)


def rules(items: Iterable[Io]) -> tuple[tuple[str, str], ...]:
    """Prefix and suffix of each rule for the inputs of one bucket ('' is any), sorted.

    S3 refuses rules that overlap, so one that another covers is left out: a folder inside another, an ending of an ending.
    """
    ends = [end(item) for item in items]
    found = {(start, stop) for each in ends for start in each.starts for stop in each.stops}
    return tuple(sorted(rule for rule in found if not any(_covers(other, rule) for other in found - {rule})))


def _covers(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return other[0].startswith(one[0]) and other[1].endswith(one[1])
