"""Functions that would start each other for ever, those of the account among them: refused before anything is planned.

Loops within one file are found when it is read, without an account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.fdl.model import Function


def refuse_loops(aws: Aws, functions: Sequence[Function]) -> None:
    """Raises FdlError, at the first output of the ring that is in the file. One call for every 100 functions of the account."""
    from scar.fdl.locate import problem_of
    from scar.fdl.rules_workflow import node_of
    from scar.plan.neighbours import nodes
    from scar.workflow.graph import graph
    from scar.workflow.proof import loops, ring_told

    if not any(fn.lambda_.input for fn in functions) or not any(fn.lambda_.output for fn in functions):
        return
    names = {fn.name: fn for fn in functions}
    found = graph([*map(node_of, functions), *(node for node in nodes(aws) if node.name not in names)])
    for ring in loops(found):
        edge = next((edge for edge in ring if found.nodes[edge.source].known), None)
        if edge is None:
            continue  # another's, and there already
        node = found.nodes[edge.source]
        at = node.outputs.index(edge.output)
        raise problem_of(names[node.name], f"lambda.output[{at}].path", *ring_told(found, ring))
