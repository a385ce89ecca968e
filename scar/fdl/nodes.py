"""The `multi_node_parallel` section of a function's jobs: how many machines one job takes, and what each of them is."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Final

from scar import limits
from scar.fdl.key import Form, Key, Pattern, Range
from scar.fdl.vocabulary import BATCH_GUIDE

NODE_GROUPS: Final = "AWS Batch user guide, mnp-node-groups"
_SPAN: Final = r"\d{1,3}|\d{1,3}:|:\d{1,3}|\d{1,3}:\d{1,3}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRange:
    """Some of a job's nodes, and what is different about them. What is not said is the function's own."""

    nodes: Annotated[
        str,
        Key(
            "Which ones, counted from 0, both ends included: `0:3`, `4:` (to the last), `:3` (from 0), or `2` alone.",
            Pattern(_SPAN, says="`0:3`, `4:`, `:3` or one number, counted from 0", source=BATCH_GUIDE),
            as_written=True,
        ),
    ]
    vcpus: Annotated[int | None, Key("vCPUs of each of them.", Range(1, 9999))] = None
    memory: Annotated[
        int | None,
        Key(
            "Memory of each of them.",
            Range(limits.BATCH_LEAST_MEMORY_MIB, None, owner="Batch's", source=BATCH_GUIDE),
            unit="MiB",
        ),
    ] = None
    image: Annotated[
        str | None,
        Key(
            "Another image, named as `container.image` is. It gets the agent and the script as the function's own image does.",
            Form("image", limits.IMAGE_PATTERN, says="`[registry/]name[:tag][@sha256:…]` in lower case"),
        ),
    ] = None
    slots: Annotated[
        int | None,
        Key("How many processes `mpirun` starts on each of them when it is not told; 0: none.", Range(0, 9999)),
    ] = None

    def span(self, nodes: int) -> tuple[int, int]:
        """The first and the last of them, in a job of so many nodes."""
        first, colon, last = self.nodes.partition(":")
        if not colon:
            return int(first), int(first)
        return int(first or 0), int(last) if last else nodes - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiNodeParallel:
    """One job on several machines: its script runs on the main node, and what `mpirun` starts there runs on all of them."""

    enabled: Annotated[bool, Key("Whether a job takes several machines.", aliases=("enable",))] = False
    number_nodes: Annotated[
        int, Key("How many.", Range(1, limits.BATCH_NODES, owner="Batch's", source=NODE_GROUPS))
    ] = 10
    main_node_index: Annotated[
        int,
        Key(
            "Which of them is the main one, counted from 0: it runs the script and publishes what that leaves behind.",
            Range(0, limits.BATCH_NODES - 1, owner="Batch's", source=NODE_GROUPS),
        ),
    ] = 0
    slots_per_node: Annotated[
        int | None,
        Key(
            "How many processes `mpirun` starts on a node when it is not told; 0: none. Without it: as many as the node has vCPUs.",
            Range(0, 9999),
        ),
    ] = None
    start_timeout: Annotated[
        int,
        Key(
            "How long the main node waits until all others are there; less when `timeout` is shorter. Then the job fails, and says which ones "
            "are missing.",
            Range(1, 86_400, owner="SCAR's"),
            unit="s",
        ),
    ] = 600
    input_on_workers: Annotated[
        bool,
        Key("Whether every node gets the file that started the job. Without it, only the main node does."),
    ] = False
    script_on_workers: Annotated[
        bool,
        Key(
            "Whether every node runs the script, which then tells the nodes apart by `$SCAR_NODE_INDEX`, as scripts for SCAR 4 do by "
            "`$AWS_BATCH_JOB_NODE_INDEX`. Only the main node publishes."
        ),
    ] = False
    node_ranges: Annotated[
        tuple[NodeRange, ...],
        Key(
            "What is different about some of the nodes. Where ranges overlap, what the later one says holds. AWS takes "
            f"{limits.BATCH_NODE_RANGES} ranges in all, and SCAR needs one of them for the main node, and one for every stretch of nodes "
            "between those that are named.",
            most=10,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """Nodes of a job, from `first` to `last`, that are alike. `image` is None for the function's own."""

    first: int
    last: int
    vcpus: int
    memory_mib: int
    image: str | None
    slots: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def target(self) -> str:
        """As Batch's `targetNodes`."""
        return f"{self.first}:{self.last}"


def groups(nodes: MultiNodeParallel, vcpus: int, memory_mib: int) -> tuple[NodeGroup, ...]:
    """All nodes of a job, each in one group, in their order; the main node is alone in its own. `vcpus` and `memory_mib` are a node's own.

    Ranges have to lie within the nodes (`rules_nodes` sees to it). How many groups come of them is not limited here.
    """
    spans = [(*each.span(nodes.number_nodes), each) for each in nodes.node_ranges]
    main = nodes.main_node_index
    firsts, lasts = [first for first, _, _ in spans], [last for _, last, _ in spans]
    edges = sorted({0, main, main + 1, nodes.number_nodes, *firsts, *(last + 1 for last in lasts)})
    found: list[NodeGroup] = []
    for first, end in pairwise(edges):
        plain = NodeGroup(first=first, last=end - 1, vcpus=vcpus, memory_mib=memory_mib, image=None, slots=0)
        group = _as_said(plain, nodes.slots_per_node, [each for low, high, each in spans if low <= first <= high])
        if found and main not in (found[-1].first, first) and _alike(found[-1], group):
            found[-1] = replace(found[-1], last=group.last)
        else:
            found.append(group)
    return tuple(found)


def _alike(one: NodeGroup, other: NodeGroup) -> bool:
    return replace(one, first=0, last=0) == replace(other, first=0, last=0)


def _as_said(plain: NodeGroup, slots: int | None, said: list[NodeRange]) -> NodeGroup:
    """What later ranges say goes before what earlier ones do, key by key."""
    vcpus, memory_mib, image = plain.vcpus, plain.memory_mib, plain.image
    for each in said:
        vcpus = vcpus if each.vcpus is None else each.vcpus
        memory_mib = memory_mib if each.memory is None else each.memory
        image = image if each.image is None else each.image
        slots = slots if each.slots is None else each.slots
    return replace(plain, vcpus=vcpus, memory_mib=memory_mib, image=image, slots=vcpus if slots is None else slots)
