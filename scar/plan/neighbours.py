"""The workflow of an account: every function of ours in the region, by what its tags say of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.plan.owned import tagged
from scar.workflow.ends import End
from scar.workflow.graph import Node


def nodes(aws: Aws) -> tuple[Node, ...]:
    """Sorted by name. Inputs and outputs that found no room in a tag are not among them. Calls: one per 100 functions."""
    with mapped("list functions"):
        ours = tagged(aws)
    return tuple(sorted((_node(said) for said in ours.values()), key=lambda node: node.name))


def _node(said: Mapping[str, str]) -> Node:
    return Node(
        said[tags.FUNCTION],
        inputs=_ends(said, tags.INPUT),
        outputs=_ends(said, tags.OUTPUT),
        mode=said.get(tags.MODE, "lambda"),
        known=False,
    )


def _ends(said: Mapping[str, str], key: str) -> tuple[End, ...]:
    items = tags.unpacked(said.get(key, ""))
    return tuple(End.read(item) for item in items if not item.startswith("+"))
