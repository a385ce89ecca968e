"""Can the nodes of a multi-node job work where they are to stand? Asked of EC2 before anything is made, and only for functions that have such jobs.

What AWS would refuse raises; what would leave nodes without each other or without S3 is answered in sentences, for only the owner of a
network knows all ways through it. A handful of reads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from scar.aws.errors import code_of, mapped
from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws

# The keys that a UsageError of this file is about
SUBNETS: Final = "batch.compute_resources.subnets"
GROUPS: Final = "batch.compute_resources.security_group_ids"
PLACEMENT: Final = "batch.compute_resources.placement_group"
_HOSTS: Final = "AWS Batch user guide, mnp-ce"
_ANYWHERE: Final = "0.0.0.0/0"
# Ports that Linux takes for connections when nobody says which (ip(7)): MPI's are all of that kind, and so are the agent's.
_FREE_PORTS: Final = (32_768, 60_999)


def check_placement_group(aws: Aws, group: str, subnets: Sequence[str]) -> None:
    """Raises UsageError when the machines of a cluster placement group would be in several zones, or when there is no such group.

    Whose strategy one may not see is taken for a cluster's: that is what is made for MPI.
    """
    strategy = _strategy(aws, group)
    if strategy not in (None, "cluster"):
        return
    zones = _zones(_subnets(aws, subnets))
    if len(zones) > 1:
        told = ", ".join(f"{name} in {zone}" for zone, name in sorted(zones.items()))
        raise UsageError(
            f"a cluster placement group is in a single Availability Zone, and the subnets are in {len(zones)} ({told}) "
            f"({_HOSTS}; Amazon EC2 user guide, placement-strategies)",
            where=PLACEMENT,
            fix="Name one subnet, or subnets of one zone, in `batch.compute_resources.subnets`.",
        )


def doubts(aws: Aws, subnets: Sequence[str], named_groups: Sequence[str]) -> tuple[str, ...]:
    """What speaks against nodes that find each other and S3. `named_groups` are the user's own: a VPC's default group lets its members in.

    Raises UsageError for what is named and is not there.
    """
    with mapped("look at the network of the nodes"):
        try:
            found = _subnets(aws, subnets)
            return (*_no_way_out(aws, found), *_strangers(aws, named_groups, found))
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) == "UnauthorizedOperation":
                return (
                    f"{error.operation_name} is not allowed, so it is not known whether the nodes reach each other and S3",
                )
            raise


def _strategy(aws: Aws, group: str) -> str | None:
    """None when it cannot be known."""
    try:
        found = aws.ec2.describe_placement_groups(GroupNames=[group])["PlacementGroups"]
    except ClientError as error:
        if code_of(error).startswith("InvalidPlacementGroup"):
            raise UsageError(
                f"there is no placement group {group} in account {aws.account}, region {aws.region}",
                where=PLACEMENT,
                fix=f"Make it (aws ec2 create-placement-group --group-name {group} --strategy cluster), or leave it out.",
            ) from error
        return None
    return next((each.get("Strategy") for each in found), None)


def _subnets(aws: Aws, subnets: Sequence[str]) -> list[Mapping[str, Any]]:
    with mapped("look at the subnets of the nodes"), _named(aws, "InvalidSubnetID", SUBNETS):
        return list(aws.ec2.describe_subnets(SubnetIds=list(subnets))["Subnets"])


@contextmanager
def _named(aws: Aws, code: str, key: str) -> Iterator[None]:
    """What AWS does not know becomes a UsageError at the key that named it."""
    try:
        yield
    except ClientError as error:
        if not code_of(error).startswith(code):
            raise
        what = f"{error.response['Error'].get('Message', code)} (account {aws.account}, region {aws.region})"
        raise UsageError(
            what, where=key, fix="Name what is there, or leave it out: the default VPC is then taken."
        ) from error


def _zones(subnets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Each zone with one of its subnets."""
    return {each["AvailabilityZone"]: each["SubnetId"] for each in reversed(subnets)}


def _no_way_out(aws: Aws, subnets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Public subnets from which S3 cannot be reached: a node's interface has no public address, and the way out of them takes one."""
    vpc = subnets[0]["VpcId"] if subnets else ""
    tables = aws.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    lost: dict[str, str] = {}
    for subnet in subnets:
        table = _table_of(subnet["SubnetId"], tables)
        if _is_public(subnet, table):
            lost[subnet["SubnetId"]] = table["RouteTableId"] if table else ""
    served = _with_s3(aws, vpc) if lost else frozenset()
    lost = {subnet: table for subnet, table in lost.items() if table not in served}
    if lost:
        which = (
            f"subnet {', '.join(lost)} is"
            if len(lost) == 1
            else f"{len(lost)} subnets of {vpc} ({', '.join(lost)}) are"
        )
        tables_ = " ".join(sorted({table for table in lost.values() if table}))
        yield (
            f"{which} public: on AWS the network interface of a node gets no public address there, reaches nothing outside of the VPC, S3 "
            f"included, and every job fails ({_HOSTS}). Name private subnets with a NAT gateway, or let nodes reach S3 by an endpoint of the "
            f"VPC, which costs nothing: aws ec2 create-vpc-endpoint --vpc-id {vpc} --service-name com.amazonaws.{aws.region}.s3 "
            f"--route-table-ids {tables_}"
        )


def _table_of(subnet: str, tables: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The subnet's own, or else the VPC's main one."""
    joined = [(table, link) for table in tables for link in table.get("Associations", ())]
    own = next((table for table, link in joined if link.get("SubnetId") == subnet), None)
    return own or next((table for table, link in joined if link.get("Main")), None)


def _is_public(subnet: Mapping[str, Any], table: Mapping[str, Any] | None) -> bool:
    routes = [route for route in (table or {}).get("Routes", ()) if route.get("DestinationCidrBlock") == _ANYWHERE]
    if any(str(route.get("GatewayId", "")).startswith("igw-") for route in routes):
        return True
    return not routes and bool(subnet.get("MapPublicIpOnLaunch"))


def _with_s3(aws: Aws, vpc: str) -> frozenset[str]:
    """Route tables of the VPC that lead to S3 without leaving it."""
    found = aws.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
    of_s3 = [each for each in found if each.get("ServiceName", "").endswith(f".{aws.region}.s3")]
    return frozenset(table for each in of_s3 for table in each.get("RouteTableIds", ()))


def _strangers(aws: Aws, groups: Sequence[str], subnets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Security groups that do not let nodes speak to each other."""
    if not groups:
        return
    with _named(aws, "InvalidGroup", GROUPS):
        found = aws.ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    rules = [rule for group in found for rule in group.get("IpPermissions", ())]
    blocks = [str(subnet["CidrBlock"]) for subnet in subnets]
    if not any(_lets_in(rule, groups, blocks) for rule in rules):
        names = ", ".join(groups)
        yield (
            f"no rule of {names} lets the nodes of a job reach each other: they would never be complete. Add one, such as: "
            f"aws ec2 authorize-security-group-ingress --group-id {groups[0]} --protocol all --source-group {groups[0]}"
        )


def _lets_in(rule: Mapping[str, Any], groups: Sequence[str], blocks: Sequence[str]) -> bool:
    """Whether TCP on any port that is free to be taken gets in, from members of the groups or from an address of the subnets."""
    protocol, low, high = rule.get("IpProtocol"), rule.get("FromPort", 0), rule.get("ToPort", 65_535)
    wide = protocol == "-1" or (protocol in ("tcp", "6") and low <= _FREE_PORTS[0] and high >= _FREE_PORTS[1])
    from_group = any(pair.get("GroupId") in groups for pair in rule.get("UserIdGroupPairs", ()))
    ranges = [ipaddress.ip_network(each["CidrIp"]) for each in rule.get("IpRanges", ())]
    near = [ipaddress.ip_network(block) for block in blocks]
    return wide and (from_group or bool(rule.get("PrefixListIds")) or any(a.overlaps(b) for a in ranges for b in near))
