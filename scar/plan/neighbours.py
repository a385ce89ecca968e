"""The workflow of an account: every function of ours in the region, by what its tags say of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.plan.listing import tagged
from scar.workflow.ends import End
from scar.workflow.graph import Node


def nodes(aws: Aws) -> tuple[Node, ...]:
    """Sorted by name. Inputs and outputs that found no room in a tag are counted only. Calls: one per 100 functions."""
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
        hidden=sum(
            int(item) for key in (tags.INPUT, tags.OUTPUT) for item in _items(said, key) if item.startswith("+")
        ),
    )


def _ends(said: Mapping[str, str], key: str) -> tuple[End, ...]:
    return tuple(End.read(item) for item in _items(said, key) if not item.startswith("+"))


def _items(said: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tags.unpacked(said.get(key, ""))
