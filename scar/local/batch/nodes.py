"""What the nodes of a multi-node parallel job definition may be: ranges that cover them all, each with what runs there; and what of it a
submission may say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import executing
from scar.local.batch.containers import check_container
from scar.local.batch.ranges import targets
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


def check_node_overrides(properties: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse `nodeOverrides` of SubmitJob that do not go with a definition's `nodeProperties`.

    Source: botocore batch:NodeOverrides, NodePropertyOverride
    """
    nodes = overrides.get("numNodes")
    if nodes is not None:
        _check_number(properties, int(nodes))
    for one in overrides.get("nodePropertyOverrides") or ():
        targets(one["targetNodes"], int(properties["numNodes"] if nodes is None else nodes))
        for member in ("ecsPropertiesOverride", "eksPropertiesOverride"):
            if one.get(member):
                raise executing(f"{member} does not go with node ranges of containers.")
        if one.get("instanceTypes"):
            raise executing(
                "Using instanceTypes with nodePropertyOverrides is only allowed for ecsProperties jobs; "
                "containerOverrides has instanceType."
            )


def _check_number(properties: Mapping[str, Any], nodes: int) -> None:
    ranges = [str(one["targetNodes"]) for one in properties["nodeRangeProperties"]]
    if not 1 <= nodes <= MAX_NODES:
        raise executing(f"Number of nodes must be between 1 and {MAX_NODES}.")
    if not any(text.endswith(":") for text in ranges):
        raise executing("numNodes can be overridden only where a node range has an open upper boundary, such as n:")
    if properties["mainNode"] >= nodes:
        raise executing("Main node index is out of range, must be less than numNodes.")
    for text in ranges:
        if int(text.partition(":")[0] or 0) >= nodes:
            raise executing(f"The lower boundary of the node range {text} must be less than numNodes, {nodes}.")


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
