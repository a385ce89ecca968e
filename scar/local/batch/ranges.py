"""What does each node of a multi-node parallel job run? Its range's container under what the submission says otherwise. Pure: no state, no sandbox.

Source: botocore batch:NodeRangeProperty, NodeOverrides, NodePropertyOverride. Where ranges overlap the narrowest one is a node's, whole. What is
overridden for several ranges at once is merged, the narrowest last, as it is over the definition: variables by name, amounts by type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from scar.local.batch.checks import executing
from scar.local.batch.properties import container_of, merged

_KEYS: Final = {"environment": "name", "resourceRequirements": "type"}


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring nodes that run the same. `definition` and `request` are those of a single job that would run what each of them does."""

    nodes: range
    definition: Mapping[str, Any]
    request: Mapping[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """What each of them runs, as DescribeJobs shows it."""
        return container_of(self.definition, self.request)


def targets(text: str, nodes: int) -> range:
    """The nodes that `0:3`, `:3`, `4:` or `2` names, of so many."""
    found = re.fullmatch(r"([0-9]*)(:?)([0-9]*)", text)
    if found is None or not text:
        raise executing("targetNodes should contain only digits.")
    first = int(found[1] or 0)
    last = int(found[3]) if found[3] else nodes - 1 if found[2] else first
    if not first <= last < nodes:
        raise executing(f"targetNodes {text} is out of range, the job has {nodes} nodes.")
    return range(first, last + 1)


def count_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> int:
    """How many nodes the job has."""
    asked = (request.get("nodeOverrides") or {}).get("numNodes")
    return int(definition["nodeProperties"]["numNodes"] if asked is None else asked)


def segments(definition: Mapping[str, Any], request: Mapping[str, Any]) -> list[Segment]:
    """All nodes of the job, in order. The submission's ranges must have been checked (nodes.check_node_overrides)."""
    properties, nodes = definition["nodeProperties"], count_of(definition, request)
    most = max(nodes, int(properties["numNodes"]))
    ranges = [(targets(one["targetNodes"], most), one) for one in properties["nodeRangeProperties"]]
    overrides = [(targets(one["targetNodes"], nodes), one) for one in _overrides(request)]
    bounds = {0, nodes} | {end for nodes_, _ in (*ranges, *overrides) for end in (nodes_.start, nodes_.stop)}
    ends = sorted(end for end in bounds if end <= nodes)
    return [_segment(range(first, stop), definition, request, ranges, overrides) for first, stop in pairwise(ends)]


def segment_of(definition: Mapping[str, Any], request: Mapping[str, Any], index: int) -> Segment:
    """The one that a node is in."""
    return next(one for one in segments(definition, request) if index in one.nodes)


def described(definition: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """`nodeProperties` as DescribeJobs shows them: the definition's ranges, or finer ones where the submission overrides something of a range."""
    properties, nodes = definition["nodeProperties"], count_of(definition, request)
    told = {**properties, "numNodes": nodes}
    if _overrides(request):
        found = segments(definition, request)
        told["nodeRangeProperties"] = [{"targetNodes": _text(one.nodes), "container": one.container} for one in found]
    return told


_Ranges = Sequence[tuple[range, Mapping[str, Any]]]


def _overrides(request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (request.get("nodeOverrides") or {}).get("nodePropertyOverrides") or ()
    return found


def _segment(
    nodes: range, definition: Mapping[str, Any], request: Mapping[str, Any], ranges: _Ranges, overrides: _Ranges
) -> Segment:
    *_, own = _over(nodes, ranges)
    rest = {name: value for name, value in definition.items() if name != "nodeProperties"}
    asked = {name: value for name, value in request.items() if name != "nodeOverrides"}
    containers = [one.get("containerOverrides") or {} for one in _over(nodes, overrides)]
    if any(containers):
        asked["containerOverrides"] = _together(containers)
    return Segment(nodes, {**rest, "type": "container", "containerProperties": own["container"]}, asked)


def _over(nodes: range, ranges: _Ranges) -> list[Mapping[str, Any]]:
    """What is said of a segment, of the widest range first."""
    found = [(len(whose), one) for whose, one in ranges if nodes.start in whose]
    return [one for _, one in sorted(found, key=lambda each: -each[0])]


def _together(containers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for container in containers:
        for name, value in container.items():
            told[name] = merged(told.get(name), value, key=_KEYS[name]) if name in _KEYS else value
    return told


def _text(nodes: range) -> str:
    return str(nodes.start) if len(nodes) == 1 else f"{nodes.start}:{nodes.stop - 1}"
