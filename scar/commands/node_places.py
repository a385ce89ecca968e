"""Where the nodes of multi-node jobs are to stand, looked at before a plan is made: what AWS refuses at its place in the file, the rest as warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.design import Site
    from scar.fdl.model import Function


def looked_at(
    aws: Aws, sites: Sequence[tuple[Function, Site]], *, warned: bool = True
) -> Mapping[str, tuple[str, ...]]:
    """By function, what may keep its nodes from working, if one is to be `warned` of it. Raises FdlError for a placement group that its
    machines cannot be in.
    """
    from scar.aws.node_network import check_placement_group, doubts

    found: dict[str, tuple[str, ...]] = {}
    for fn, site in sites:
        if fn.jobs is None or fn.jobs.type != "MANAGED" or fn.jobs.fargate:
            continue
        machines = fn.jobs.compute_resources
        subnets = machines.subnets or (site.network.subnets if site.network else ())
        try:
            if machines.placement_group is not None:
                check_placement_group(aws, machines.placement_group, subnets)
            if warned and fn.jobs.multi_node_parallel.enabled:
                found[fn.name] = doubts(aws, subnets, machines.security_group_ids)
        except UsageError as error:
            from scar.fdl.locate import problem_of

            raise problem_of(fn, error.where or "batch", error.what, error.fix) from error
    return found
