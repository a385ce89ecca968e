"""Where each function is to stand: account, region, and for its jobs a network, asked for only where the definition leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.network import Network
    from scar.design import Site
    from scar.fdl.model import Function

_RESOURCES = "batch.compute_resources"


def sites_of(aws: Aws, functions: Sequence[Function]) -> list[tuple[Function, Site]]:
    """Each function with its site. Raises FdlError, at the place in the file, when there is no network for one of them."""
    from scar.design import Site

    site = Site.of(aws)
    networks = _Networks(aws)
    return [(fn, replace(site, network=networks.of(fn))) for fn in functions]


class _Networks:
    """The networks of one account and region; the default one is asked for once."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._default: tuple[Network | None] | None = None

    def of(self, fn: Function) -> Network | None:
        """None for a function that runs no jobs on machines of Batch's, or says itself where they stand."""
        from scar.aws.network import network_of_groups, network_of_subnets

        if fn.jobs is None or fn.jobs.type != "MANAGED":
            return None
        subnets, groups = fn.jobs.compute_resources.subnets, fn.jobs.compute_resources.security_group_ids
        try:
            if subnets and groups:
                return None
            if subnets:
                return network_of_subnets(self._aws, subnets)
            if groups:
                return network_of_groups(self._aws, groups)
        except (UsageError, NotFoundError) as error:
            from scar.fdl.locate import problem_of

            key = f"{_RESOURCES}.{'subnets' if subnets else 'security_group_ids'}"
            raise problem_of(fn, key, error.what, error.fix) from error
        return self._default_for(fn)

    def _default_for(self, fn: Function) -> Network:
        from scar.aws.network import default_network

        if self._default is None:
            self._default = (default_network(self._aws),)
        (network,) = self._default
        if network is None:
            from scar.fdl.locate import problem_of

            where = f"account {self._aws.account}, region {self._aws.region}"
            raise problem_of(
                fn,
                f"{_RESOURCES}.subnets",
                f"jobs need subnets and a security group, and there is no default VPC to take them from ({where})",
                "Name `subnets` and `security_group_ids`, or make a default VPC: aws ec2 create-default-vpc",
            )
        return network
