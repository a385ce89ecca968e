"""Whatever ranges a definition names, each node of its jobs is in one group, and is what the last word about it says."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from scar import limits
from scar.errors import FdlError
from scar.fdl.load import validate
from scar.fdl.model import Batch
from scar.fdl.nodes import NodeRange

SPAN = st.integers(0, 14)


@st.composite
def spans(draw: st.DrawFn) -> str:
    first, last = draw(SPAN), draw(SPAN)
    return draw(
        st.sampled_from(
            [f"{first}", f"{first}:", f":{last}", f"{first}:{last}", f"{min(first, last)}:{max(first, last)}"]
        )
    )


RANGES = st.lists(
    st.fixed_dictionaries(
        {"nodes": spans()},
        optional={
            "vcpus": st.integers(1, 3),
            "memory": st.sampled_from([512, 1024]),
            "image": st.sampled_from(["a", "b:1"]),
            "slots": st.integers(0, 2),
        },
    ),
    max_size=4,
)


def read(nodes: int, main: int, ranges: list[dict[str, object]], slots: int | None) -> Batch | None:
    """None for what is refused."""
    section = {
        "enabled": True,
        "number_nodes": nodes,
        "main_node_index": main,
        "slots_per_node": slots,
        "node_ranges": ranges,
    }
    function = {
        "lambda": {"name": "f", "execution_mode": "batch", "container": {"image": "scratch"}},
        "batch": {"vcpus": 2, "memory": 2048, "multi_node_parallel": section},
    }
    try:
        (found,) = validate({"functions": {"aws": [function]}}).functions
    except FdlError:
        return None
    return found.batch


def expected(node: int, nodes: int, ranges: list[dict[str, object]], slots: int | None) -> tuple[object, ...]:
    """What is said of one node, asked of every range in turn."""
    said: dict[str, object] = {"vcpus": 2, "memory": 2048, "image": None, "slots": slots}
    for each in ranges:
        first, last = NodeRange(nodes=str(each["nodes"])).span(nodes)
        if first <= node <= last:
            said |= {key: value for key, value in each.items() if key != "nodes"}
    if said["slots"] is None:
        said["slots"] = said["vcpus"]
    return said["vcpus"], said["memory"], said["image"], said["slots"]


@settings(max_examples=150, deadline=None)
@given(nodes=st.integers(1, 12), main=SPAN, ranges=RANGES, slots=st.none() | st.integers(0, 3))
def test_the_groups_of_an_accepted_definition_are_all_nodes_each_once_and_the_main_node_alone(
    nodes: int, main: int, ranges: list[dict[str, object]], slots: int | None
) -> None:
    """T1-19, MP13"""
    whole = [NodeRange(nodes=str(each["nodes"])).span(nodes) for each in ranges]
    batch = read(nodes, main, ranges, slots)
    if main >= nodes or any(not 0 <= first <= last < nodes for first, last in whole):
        assert batch is None
        return
    if batch is None:  # then for the number of groups alone: each node a group of its own is a bound on them
        wanted = [(expected(node, nodes, ranges, slots), node == main) for node in range(nodes)]
        runs = 1 + sum(before != after or after[1] for before, after in pairwise(wanted))
        assert runs > limits.BATCH_NODE_RANGES
        return
    groups = batch.nodes
    assert len(groups) <= limits.BATCH_NODE_RANGES
    assert [node for group in groups for node in range(group.first, group.last + 1)] == list(range(nodes))
    assert [(group.first, group.last) for group in groups if group.first <= main <= group.last] == [(main, main)]
    for group in groups:
        for node in range(group.first, group.last + 1):
            found = (group.vcpus, group.memory_mib, group.image, group.slots)
            assert found == expected(node, nodes, ranges, slots)
    assert batch.compute_resources.max_v_cpus >= sum(group.count * group.vcpus for group in groups)


def test_a_range_is_read_with_both_of_its_ends() -> None:
    def span(text: str) -> tuple[int, int]:
        return NodeRange(nodes=text).span(10)

    assert [span("3"), span("3:"), span(":3"), span("0:3"), span("9:")] == [(3, 3), (3, 9), (0, 3), (0, 3), (9, 9)]


def test_a_thousand_nodes_are_five_groups_at_most_and_take_no_time() -> None:
    """MP13"""
    batch = read(1000, 500, [{"nodes": ":99", "slots": 1}, {"nodes": "900:", "slots": 1}], None)
    assert batch is not None
    assert [group.target for group in batch.nodes] == ["0:99", "100:499", "500:500", "501:899", "900:999"]
