"""What the nodes of a multi-node parallel job definition may be: ranges that cover them all, each with what runs there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import executing
from scar.local.batch.containers import check_container
from scar.local.batch.tasks import check_task

MAX_NODES: Final = 1000  # docs.aws.amazon.com/batch/latest/userguide/multi-node-parallel-jobs.html
MAX_RANGES: Final = 5  # docs.aws.amazon.com/batch/latest/userguide/mnp-node-groups.html
_KINDS: Final = ("container", "ecsProperties", "eksProperties")


def check_nodes(properties: Mapping[str, Any]) -> None:
    """Refuse `nodeProperties` that Batch does not register."""
    nodes, ranges = int(properties["numNodes"]), properties["nodeRangeProperties"]
    if not 1 <= nodes <= MAX_NODES:
        raise executing(f"Number of nodes must be between 1 and {MAX_NODES}.")
    if not 0 <= properties["mainNode"] < nodes:
        raise executing("Main node index is out of range, must be less than numNodes.")
    if len(ranges) > MAX_RANGES:
        raise executing(f"Maximum allowed size of node range properties is {MAX_RANGES}")
    covered: set[int] = set()
    for one in ranges:
        covered.update(targets(one["targetNodes"], nodes))
        _check_range(one)
    if covered != set(range(nodes)):
        raise executing(f"The node ranges cover {len(covered)} of the {nodes} nodes.")
    if len({name for one in ranges for name in _types(one)}) > 1:
        raise executing("All node groups must use the same instance type.")


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


def _check_range(one: Mapping[str, Any]) -> None:
    given = [name for name in _KINDS if one.get(name) is not None]
    if not given:
        raise executing(f"Must specify container for node range {one['targetNodes']}")
    if len(given) > 1:
        raise executing(f"NodeRangeProperties can not use both {given[1]} and {given[0]} fields")
    if one.get("instanceTypes") and given != ["ecsProperties"]:
        raise executing("Using instanceTypes with nodeRangeProperty is only allowed for ecsProperties jobs.")
    if len(one.get("instanceTypes") or ()) > 1:
        raise executing("instanceTypes of a node range can have one element.")
    match given[0]:
        case "container":
            check_container(one["container"], fargate=False)
        case "ecsProperties":
            check_task(one["ecsProperties"], fargate=False)
        case _:
            raise executing("Multi-node parallel jobs are not supported on EKS.")


def _types(one: Mapping[str, Any]) -> list[str]:
    container = one.get("container") or {}
    return [*(one.get("instanceTypes") or ()), *([container["instanceType"]] if "instanceType" in container else ())]
