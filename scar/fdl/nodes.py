"""The `multi_node_parallel` section of a function's jobs: how many machines one job takes, and what each of them is."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from dataclasses import dataclass
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
            "Another image, of a registry. It gets the function's agent and script as the function's own image does.",
            Form("image", limits.IMAGE_PATTERN, says="`[registry/]name[:tag][@sha256:…]` in lower case"),
        ),
    ] = None
    slots: Annotated[
        int | None,
        Key("How many processes `mpirun` starts on each of them when it is not told; 0: none.", Range(0, 9999)),
    ] = None


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
            "How long the main node waits until all others are there. When the time is up the job fails, and says which ones are missing.",
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
        ),
    ] = ()
