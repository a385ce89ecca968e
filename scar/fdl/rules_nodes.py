"""What the nodes of a multi-node job ask of each other and of their machines, and what AWS Batch asks. Each rule names the page that it is from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from scar import limits
from scar.fdl import machines
from scar.fdl.batch import Batch
from scar.fdl.model import Function
from scar.fdl.nodes import NODE_GROUPS, MultiNodeParallel, NodeGroup
from scar.fdl.places import shown
from scar.fdl.read import Reading

Add = Callable[[str, str, str], None]  # key below `batch`, what, fix

_API: Final = "AWS Batch API reference"
_HOSTS: Final = "AWS Batch user guide, mnp-ce"
_GUIDE: Final = "AWS Batch user guide, multi-node-parallel-jobs"
_SECTION: Final = "multi_node_parallel"
_MOST_KEY: Final = "compute_resources.max_v_cpus"
# Why a mode has no gangs
_MODES: Final = {
    "lambda": "`execution_mode: lambda` has no jobs, and only a job has several nodes",
    "lambda-batch": (
        "with `execution_mode: lambda-batch` a run begins in Lambda, on one node, and one that ends there in time never gets the others: "
        "how long it takes would decide how many nodes it has"
    ),
}


def not_in_lambda(fn: Function, path: str, reading: Reading) -> bool:
    """Whether a mode that does not take several nodes was asked for them; `path` is the function's. An error, not a warning: the mode
    or the nodes are a mistake, and a run would not be what was asked for.
    """
    at = f"{path}.batch.{_SECTION}"
    why = _MODES.get(fn.lambda_.execution_mode)
    failed = f"{path}.lambda.execution_mode" in reading.failed
    if why is None or failed or not fn.batch.multi_node_parallel.enabled or not reading.sound(at):
        return False
    place = reading.place(f"{at}.enable" if f"{at}.enable" in reading.places else f"{at}.enabled")
    fix = f"Write `execution_mode: batch`, or remove `{_SECTION}`."
    reading.problems.add(place, f"{at}.enabled", why, fix)
    return True


def several_nodes(fn: Function, batch: Batch, add: Add, warn: Add) -> None:
    """What is wrong with the nodes of a function's jobs. What is said of nodes that are not enabled has to be right as well."""
    several = batch.multi_node_parallel
    if several.main_node_index >= several.number_nodes:
        add(
            f"{_SECTION}.main_node_index",
            f"there is no node {several.main_node_index} among {several.number_nodes}, counted from 0 ({_API}, NodeProperties)",
            f"Write a number from 0 to {several.number_nodes - 1}.",
        )
    _spans(several, add)
    if not several.enabled:
        return
    kind = _kind(batch)
    if kind != "EC2":
        add(
            f"{_SECTION}.enabled",
            f"a job on several machines runs on neither Spot, Fargate nor unmanaged machines, and these are {kind} ({_HOSTS})",
            "Write `compute_resources: {type: EC2}`.",
        )
    elif are_sound(batch):
        _groups(several, batch.nodes, add)
        _room(fn, batch, add, warn)
    if not fn.lambda_.container.create_image:
        for index, each in enumerate(several.node_ranges):
            if each.image is not None:
                what = "an image of its own has to be derived, and with `create_image: false` nothing is"
                fix = "Remove it, or remove `container.create_image` and name the images that these are made from."
                add(f"{_SECTION}.node_ranges[{index}].image", what, fix)


def are_sound(batch: Batch) -> bool:
    """Whether `batch.nodes` can be asked for: every node that is named is there."""
    several = batch.multi_node_parallel
    return (
        several.main_node_index < several.number_nodes
        and batch.vcpus.isdecimal()
        and not any(True for _ in _wrong_spans(several))
    )


def with_room(functions: Sequence[Function], reading: Reading) -> tuple[Function, ...]:
    """The same functions; where no `max_v_cpus` is said, the machines may be as many as all nodes of a job need.

    Functions that share machines have in common what the largest of them needs.
    """
    open_ = [
        index for index in range(len(functions)) if f"functions.aws[{index}].batch.{_MOST_KEY}" not in reading.places
    ]
    needs = {index: _generous(functions[index]) for index in open_ if not _failed(index, reading)}
    found = list(functions)
    for index, own in needs.items():
        fn = functions[index]
        label = fn.batch.shared
        alike = [needs[other] for other in needs if label is not None and functions[other].batch.shared == label]
        most = max(own, *alike, fn.batch.compute_resources.max_v_cpus)
        if most > fn.batch.compute_resources.max_v_cpus:
            resources = replace(fn.batch.compute_resources, max_v_cpus=most)
            found[index] = replace(fn, batch=replace(fn.batch, compute_resources=resources))
    return tuple(found)


def _failed(index: int, reading: Reading) -> bool:
    return any(failed.startswith(f"functions.aws[{index}].batch") for failed in reading.failed)


def _wrong_spans(several: MultiNodeParallel) -> Iterator[tuple[int, str, str]]:
    last = several.number_nodes - 1
    for index, each in enumerate(several.node_ranges):
        low, high = each.span(several.number_nodes)
        if max(low, high) > last:
            what = (
                f"`{shown(each.nodes)}` goes beyond the nodes that there are, 0 to {last} ({_API}, NodeRangeProperty)"
            )
            yield index, what, f"Name nodes from 0 to {last}, or raise `number_nodes`."
        elif low > high:
            what = f"`{shown(each.nodes)}` ends before it begins ({_API}, NodeRangeProperty)"
            yield index, what, f"Write `{high}:{low}`."


def _spans(several: MultiNodeParallel, add: Add) -> None:
    for index, what, fix in _wrong_spans(several):
        add(f"{_SECTION}.node_ranges[{index}].nodes", what, fix)


def _groups(several: MultiNodeParallel, groups: Sequence[NodeGroup], add: Add) -> None:
    if len(groups) <= limits.BATCH_NODE_RANGES:
        return
    told = ", ".join(group.target for group in groups)
    main = several.main_node_index
    left = limits.BATCH_NODE_RANGES - 1
    add(
        f"{_SECTION}.node_ranges",
        f"with these the nodes fall into {len(groups)} ranges ({told}), and Batch takes {limits.BATCH_NODE_RANGES} in a job ({NODE_GROUPS}); "
        f"one is the main node's alone ({main}:{main}), which leaves {left} for all others, those included that nothing is said of",
        "Say the same of more nodes, let ranges begin where others end, or put the main node first or last.",
    )


def _room(fn: Function, batch: Batch, add: Add, warn: Add) -> None:
    """A gang starts only when all its nodes find room at once: with less it would wait for ever."""
    most = batch.compute_resources.max_v_cpus
    nodes = batch.multi_node_parallel.number_nodes
    needed = sum(group.count * group.vcpus for group in batch.nodes)
    least = machines.least_vcpus(batch.compute_resources.instance_types, fn.lambda_.architecture)
    largest = max(
        least, *(group.vcpus for group in batch.nodes)
    )  # the nodes of a job have machines of one type (mnp-node-groups)
    on_machines = nodes * largest
    if most < needed:
        add(
            _MOST_KEY,
            f"the {_nodes(nodes)} of a job need {needed} vCPUs together, and all jobs together have {most}: it would wait for ever "
            f"({_API}, ComputeResource.maxvCpus; {_GUIDE})",
            f"Raise it to {needed} or more, remove it, or take fewer nodes.",
        )
    elif most < on_machines:
        warn(
            _MOST_KEY,
            f"each node has a machine to itself, all of one type and of {largest} vCPUs at least, so the {_nodes(nodes)} of a job take "
            f"{on_machines}, and this allows {most}: on AWS it may wait for ever ({_GUIDE}; {NODE_GROUPS})",
            f"Raise it to {on_machines} or more, or remove it.",
        )


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _generous(fn: Function) -> int:
    """vCPUs of the machines of one gang, whatever machines Batch takes for it; 0 for a function that has no gangs."""
    batch = fn.batch
    several = fn.jobs is not None and batch.multi_node_parallel.enabled and _kind(batch) == "EC2"
    if not several or not are_sound(batch):
        return 0
    types = batch.compute_resources.instance_types
    sizes = (
        machines.likely_vcpus(types, fn.lambda_.architecture, group.vcpus, group.memory_mib) for group in batch.nodes
    )
    return batch.multi_node_parallel.number_nodes * max(sizes)


def _kind(batch: Batch) -> str:
    return batch.compute_resources.type if batch.type == "MANAGED" else batch.type
