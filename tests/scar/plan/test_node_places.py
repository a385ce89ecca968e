"""Where the nodes of a job are to stand: what AWS would refuse is refused before anything is made, what would leave them alone is told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from scar.commands.node_places import looked_at
from scar.commands.sites import sites_of
from scar.errors import FdlError
from scar.fdl.load import load
from tests.support.account import REGION, Account, account

FUNCTION = """
functions:
  aws:
    - lambda: {{name: f, execution_mode: batch, container: {{image: scratch}}}}
      batch:
        multi_node_parallel: {{enabled: {enabled}, number_nodes: 2}}
        compute_resources: {{{more}}}
"""


@pytest.fixture(scope="module")
def acct() -> Iterator[Account]:
    """One account for all: no test looks at what another has made."""
    with account() as made:
        yield made


@pytest.fixture
def seen(acct: Account, tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """What is told of one function whose `compute_resources` say so much."""

    def look(more: str = "", *, enabled: bool = True) -> tuple[str, ...]:
        path = tmp_path / "scar.yaml"
        path.write_text(FUNCTION.format(more=more, enabled=str(enabled).lower()))
        found = looked_at(acct.aws, sites_of(acct.aws, load(path).functions))
        return found["f"] if enabled else tuple(found)

    return look


@pytest.fixture
def groups(acct: Account) -> Iterator[dict[str, str]]:
    """Placement groups by name with their strategies, which moto has not. `denied`: one that nobody may look at."""
    known: dict[str, str] = {}

    def answer(params: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        name = params["body"]["GroupName.1"]
        metadata = {"HTTPStatusCode": 200 if name in known and name != "denied" else 400, "RetryAttempts": 0}
        if metadata["HTTPStatusCode"] == 200:
            body: dict[str, Any] = {"PlacementGroups": [{"GroupName": name, "Strategy": known[name]}]}
        else:
            code = "UnauthorizedOperation" if name == "denied" else "InvalidPlacementGroup.Unknown"
            body = {"Error": {"Code": code, "Message": name}}
        raw = SimpleNamespace(stream=lambda: iter(()))
        return AWSResponse("", metadata["HTTPStatusCode"], {}, raw), {**body, "ResponseMetadata": metadata}

    events = acct.aws.ec2.meta.events
    events.register("before-call.ec2.DescribePlacementGroups", answer)
    yield known
    events.unregister("before-call.ec2.DescribePlacementGroups", answer)


class Vpc:
    """A VPC with its main route table, and subnets with tables of their own."""

    def __init__(self, acct: Account) -> None:
        self._ec2: Any = acct.aws.ec2
        self.id = self._ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        of_vpc = [{"Name": "vpc-id", "Values": [self.id]}]
        self.main = self._ec2.describe_route_tables(Filters=of_vpc)["RouteTables"][0]["RouteTableId"]
        self.default_group = self._ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"][0]["GroupId"]
        self._subnets = 0

    def subnet(self, zone: str = "a", table: str | None = None) -> str:
        self._subnets += 1
        asked = {"CidrBlock": f"10.9.{self._subnets}.0/24", "AvailabilityZone": f"{REGION}{zone}"}
        found: str = self._ec2.create_subnet(VpcId=self.id, **asked)["Subnet"]["SubnetId"]
        if table is not None:
            self._ec2.associate_route_table(RouteTableId=table, SubnetId=found)
        return found

    def table(self, **route: str) -> str:
        """A route table whose way out leads so."""
        found: str = self._ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        self._ec2.create_route(RouteTableId=found, DestinationCidrBlock="0.0.0.0/0", **route)
        return found

    def internet(self) -> str:
        gateway: str = self._ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self._ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.id)
        return self.table(GatewayId=gateway)

    def nat(self, inside: str) -> str:
        return self.table(NatGatewayId=self._ec2.create_nat_gateway(SubnetId=inside)["NatGateway"]["NatGatewayId"])

    def to_s3(self, *tables: str) -> None:
        name = f"com.amazonaws.{REGION}.s3"
        self._ec2.create_vpc_endpoint(VpcId=self.id, ServiceName=name, RouteTableIds=list(tables))

    def group(self, **rule: Any) -> str:
        found: str = self._ec2.create_security_group(GroupName=token_hex(4), Description="g", VpcId=self.id)["GroupId"]
        if rule:
            sources = {"UserIdGroupPairs": [{"GroupId": found}]} if "IpRanges" not in rule else {}
            self._ec2.authorize_security_group_ingress(GroupId=found, IpPermissions=[{**rule, **sources}])
        return found


@pytest.fixture(scope="module")
def vpc(acct: Account) -> Vpc:
    return Vpc(acct)


def test_the_public_subnets_of_the_default_vpc_are_told_with_a_way_to_s3(acct, seen):
    """A node's interface gets no public address, so that nothing of AWS would answer it."""
    (warning,) = seen()
    assert "are public" in warning
    assert "AWS Batch user guide, mnp-ce" in warning
    command = re.search(r"--vpc-id (\S+) --service-name (\S+) --route-table-ids (\S+)$", warning)
    assert command is not None
    asked: dict[str, Any] = {
        "VpcEndpointType": "Gateway",
        "VpcId": command[1],
        "ServiceName": command[2],
        "RouteTableIds": [command[3]],
    }
    made = acct.aws.ec2.create_vpc_endpoint(**asked)["VpcEndpoint"]["VpcEndpointId"]
    try:
        assert seen() == ()
    finally:
        acct.aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[made])


def test_a_subnet_is_public_by_its_way_out(seen, vpc):
    public, private = vpc.internet(), vpc.subnet(table=None)
    out, behind = vpc.subnet(table=public), vpc.subnet(table=vpc.nat(private))
    assert seen(f"subnets: [{behind}]") == ()
    assert seen(f"subnets: [{private}]") == ()  # no way out at all: its owner will have endpoints there
    (warning,) = seen(f"subnets: [{out}, {behind}]")
    assert f"subnet {out} is public" in warning
    vpc.to_s3(vpc.main)
    assert seen(f"subnets: [{out}]") != ()
    vpc.to_s3(public)
    assert seen(f"subnets: [{out}]") == ()


@pytest.mark.parametrize(
    ("rule", "enough"),
    [
        ({"IpProtocol": "-1"}, True),
        ({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535}, True),
        ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}, False),
        ({"IpProtocol": "udp", "FromPort": 0, "ToPort": 65535}, False),
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}, True),
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.8.0.0/16"}]}, False),
        ({}, False),
    ],
)
def test_security_groups_have_to_let_the_nodes_speak_to_each_other(seen, vpc, rule, enough):
    subnet, group = vpc.subnet(), vpc.group(**rule)
    told = seen(f"subnets: [{subnet}], security_group_ids: [{group}]")
    assert (told == ()) is enough
    if not enough:
        assert told[0].endswith(f"--group-id {group} --protocol all --source-group {group}")


def test_the_members_of_a_default_group_speak_to_each_other_unasked(acct, seen, vpc):
    acct.wire.clear()
    assert seen(f"subnets: [{vpc.subnet()}]") == ()
    assert acct.wire.count()["DescribeSecurityGroups"] == 1  # which one it is; not what is in it


@pytest.mark.parametrize("strategy", ["cluster", None])
def test_a_cluster_placement_group_in_several_zones_is_refused_with_the_rule(seen, groups, vpc, strategy):
    """T1-22. A group that one may not look at is taken for a cluster's."""
    name = "denied" if strategy is None else "close"
    groups[name] = "cluster"
    first, second = vpc.subnet("a"), vpc.subnet("b")
    with pytest.raises(FdlError) as refused:
        seen(f"placement_group: {name}, subnets: [{first}, {second}]")
    (problem,) = refused.value.problems
    assert problem.path == "functions.aws[0].batch.compute_resources.placement_group"
    assert problem.line == 7
    assert "a cluster placement group is in a single Availability Zone" in problem.what
    assert f"{first} in {REGION}a, {second} in {REGION}b" in problem.what
    assert "AWS Batch user guide, mnp-ce" in problem.what
    assert refused.value.exit_code == 2
    third = vpc.subnet("a")
    assert seen(f"placement_group: {name}, subnets: [{first}, {third}]") == ()


def test_the_default_vpc_has_a_subnet_in_each_zone_which_a_cluster_is_not(seen, groups):
    """T1-22"""
    groups["close"] = "cluster"
    with pytest.raises(FdlError, match="Name one subnet"):
        seen("placement_group: close")
    with pytest.raises(FdlError, match="Name one subnet"):
        seen("placement_group: close", enabled=False)  # machines of jobs of one node are no nearer to each other


@pytest.mark.parametrize("strategy", ["spread", "partition"])
def test_machines_that_are_to_be_apart_may_be_in_several_zones(seen, groups, vpc, strategy):
    groups["apart"] = strategy
    assert seen(f"placement_group: apart, subnets: [{vpc.subnet('a')}, {vpc.subnet('b')}]") == ()


def test_a_placement_group_that_is_not_there_is_refused_with_the_command_that_makes_it(seen, groups, vpc):
    with pytest.raises(FdlError, match="there is no placement group close") as refused:
        seen(f"placement_group: close, subnets: [{vpc.subnet()}]")
    assert "create-placement-group --group-name close --strategy cluster" in str(refused.value)


@pytest.mark.parametrize(("key", "name"), [("subnets", "subnet-0nowhere"), ("security_group_ids", "sg-0nowhere")])
def test_what_is_named_and_not_there_is_refused_at_its_place(seen, vpc, key, name):
    named = {"subnets": vpc.subnet(), "security_group_ids": vpc.default_group, key: name}
    with pytest.raises(FdlError) as refused:
        seen(", ".join(f"{each}: [{value}]" for each, value in named.items()))
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == (f"functions.aws[0].batch.compute_resources.{key}", 7)
    assert name in problem.what


def test_nothing_is_asked_for_functions_without_gangs(acct, seen):
    acct.wire.clear()
    assert seen(enabled=False) == ()
    assert set(acct.wire.count()) == {"DescribeVpcs", "DescribeSubnets", "DescribeSecurityGroups"}


def test_what_may_not_be_looked_at_is_told_and_nothing_is_refused(acct, seen):
    def deny(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        body = {
            "Error": {"Code": "UnauthorizedOperation", "Message": "no"},
            "ResponseMetadata": {"HTTPStatusCode": 403},
        }
        return AWSResponse("", 403, {}, SimpleNamespace(stream=io.BytesIO)), body

    acct.aws.ec2.meta.events.register("before-call.ec2.DescribeRouteTables", deny)
    try:
        (warning,) = seen()
    finally:
        acct.aws.ec2.meta.events.unregister("before-call.ec2.DescribeRouteTables", deny)
    assert warning.startswith("DescribeRouteTables is not allowed")
