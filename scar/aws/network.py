"""Where machines may stand when a definition does not say: the account's default VPC, or the rest of the one that is named.

A handful of reads, asked only for functions that run jobs and leave something open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from scar.aws.errors import code_of, mapped
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, SubnetTypeDef

    from scar.aws.clients import Aws


@dataclass(frozen=True, slots=True)
class Network:
    """Subnets and security groups of one VPC, sorted. `public`: what stands there gets a public address, and the way out needs one.

    `default`: it is the account's default VPC.
    """

    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    vpc: str
    public: bool = False
    default: bool = False


def default_network(aws: Aws) -> Network | None:
    """The subnets of the default VPC and its default security group; None when the account has no (whole) default VPC. Three calls."""
    with mapped("look for the default VPC"):
        vpc = _default_vpc(aws)
        return None if vpc is None else _whole(aws, vpc)


def network_of_subnets(aws: Aws, subnets: Sequence[str]) -> Network:
    """The default security group of the VPC that these subnets are in. Two calls.

    Raises NotFoundError for an unknown subnet, UsageError for subnets of several VPCs.
    """
    with mapped("look for the subnets' VPC"):
        try:
            found = aws.ec2.describe_subnets(SubnetIds=list(subnets))["Subnets"]
        except ClientError as error:
            if not code_of(error).startswith("InvalidSubnetID"):
                raise
            raise _absent(aws, error) from error
        vpcs = {subnet["VpcId"] for subnet in found}
        if len(vpcs) != 1:
            raise UsageError(
                f"the subnets are of several VPCs: {', '.join(sorted(vpcs))}", fix="Name subnets of one VPC."
            )
        (vpc,) = vpcs
        return Network(tuple(subnets), _default_group(aws, vpc), vpc)


def network_of_groups(aws: Aws, groups: Sequence[str]) -> Network:
    """The subnets to go with these security groups: the default VPC's, when the groups are of it. Two to three calls.

    Of another VPC only its owner knows which subnets are meant for machines: UsageError.
    """
    with mapped("look for the security groups' VPC"):
        try:
            found = aws.ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
        except ClientError as error:
            if not code_of(error).startswith("InvalidGroup"):
                raise
            raise _absent(aws, error) from error
        vpcs = {group["VpcId"] for group in found}
        default = _default_vpc(aws)
        if vpcs != {default}:
            raise UsageError(
                f"the security groups are of {' and '.join(sorted(vpcs))}, which is not the default VPC: its subnets may not be for machines",
                fix="Name the subnets as well.",
            )
        assert default is not None, "a group's VPC was found to be it"
        subnets, public = _subnets(aws, default)
        return Network(subnets, tuple(groups), default, public, default=True)


def _whole(aws: Aws, vpc: str) -> Network | None:
    subnets, public = _subnets(aws, vpc)
    groups = _default_group(aws, vpc)
    return Network(subnets, groups, vpc, public, default=True) if subnets and groups else None


def _default_vpc(aws: Aws) -> str | None:
    found = aws.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    return found[0]["VpcId"] if found else None


def _subnets(aws: Aws, vpc: str) -> tuple[tuple[str, ...], bool]:
    """Those that AWS made with the VPC (one a zone), or else all of it; at most 16, as many as Batch takes for Fargate."""
    pages = aws.ec2.get_paginator("describe_subnets").paginate(Filters=[_in(vpc)])
    found = [subnet for page in pages for subnet in page["Subnets"]]
    chosen = [subnet for subnet in found if subnet.get("DefaultForAz")] or found
    chosen = sorted(chosen, key=lambda subnet: subnet["SubnetId"])[:16]
    return tuple(subnet["SubnetId"] for subnet in chosen), bool(chosen) and all(map(_is_public, chosen))


def _is_public(subnet: SubnetTypeDef) -> bool:
    return bool(subnet.get("MapPublicIpOnLaunch"))


def _default_group(aws: Aws, vpc: str) -> tuple[str, ...]:
    filters: list[FilterTypeDef] = [_in(vpc), {"Name": "group-name", "Values": ["default"]}]
    return tuple(group["GroupId"] for group in aws.ec2.describe_security_groups(Filters=filters)["SecurityGroups"])


def _in(vpc: str) -> FilterTypeDef:
    return {"Name": "vpc-id", "Values": [vpc]}


def _absent(aws: Aws, error: ClientError) -> NotFoundError:
    return NotFoundError(
        error.response["Error"].get("Message", "AWS does not know it"),
        where=f"account {aws.account}, region {aws.region}",
        fix="Name what is there, or leave it out: the default VPC is then taken.",
    )
