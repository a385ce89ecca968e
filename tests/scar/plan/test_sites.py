"""Where a function's jobs stand: the default VPC where the definition leaves it open, and a clear refusal where there is none (T1-06)."""

from __future__ import annotations

from pathlib import Path

import pytest

from scar.aws.network import Network
from scar.commands.sites import sites_of
from scar.design import design
from scar.errors import FdlError
from scar.fdl.load import load
from scar.fdl.model import Function
from tests.support.account import Account, FakeImage

FUNCTION = """
    - lambda: {{name: {name}, execution_mode: {mode}, container: {{image: scratch}}}}
      batch:
        shared: lab
        compute_resources: {{type: EC2{more}}}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "scar.yaml"


def functions(path: Path, *bodies: str) -> tuple[Function, ...]:
    path.write_text("functions:\n  aws:" + "".join(bodies))
    return load(path).functions


def body(name: str = "f", mode: str = "batch", more: str = "") -> str:
    return FUNCTION.format(name=name, mode=mode, more=more)


def default(acct: Account) -> Network:
    """As the account has it, asked for in another way."""
    (vpc,) = (each["VpcId"] for each in acct.aws.ec2.describe_vpcs()["Vpcs"] if each["IsDefault"])
    of_vpc = {"Filters": [{"Name": "vpc-id", "Values": [vpc]}]}
    subnets = sorted(each["SubnetId"] for each in acct.aws.ec2.describe_subnets(**of_vpc)["Subnets"])  # type: ignore[arg-type]
    groups = acct.aws.ec2.describe_security_groups(**of_vpc)["SecurityGroups"]  # type: ignore[arg-type]
    acct.wire.clear()
    return Network(tuple(subnets), tuple(each["GroupId"] for each in groups), vpc, public=True, default=True)


def another_vpc(acct: Account) -> tuple[str, str, str]:
    """VPC, a subnet and its security group."""
    vpc = acct.aws.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = acct.aws.ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    groups = acct.aws.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    acct.wire.clear()
    return vpc, subnet, groups["SecurityGroups"][0]["GroupId"]


def test_the_default_vpc_is_taken_and_asked_for_once(acct: Account, written: Path) -> None:
    network = default(acct)
    found = sites_of(acct.aws, functions(written, body("f"), body("g", "lambda-batch"), body("h")))
    assert [site.network for _, site in found] == [network] * 3
    assert [operation for _, operation in acct.wire.calls] == [
        "DescribeVpcs",
        "DescribeSubnets",
        "DescribeSecurityGroups",
    ]


def test_the_plan_says_that_it_was_taken(acct: Account, written: Path) -> None:
    network = default(acct)
    ((fn, site),) = sites_of(acct.aws, functions(written, body()))
    (note,) = (each.note for each in design(fn, site, FakeImage()) if each.id.kind == "compute environment")  # type: ignore[attr-defined]
    assert f"subnets and security group of the default VPC {network.vpc}" in note


def test_nobody_is_asked_for_functions_that_leave_nothing_open(acct: Account, written: Path) -> None:
    both = ", subnets: [subnet-1], security_group_ids: [sg-1]"
    unmanaged = """
    - lambda: {name: u, execution_mode: batch, container: {image: scratch}}
      batch: {type: UNMANAGED, service_role: 'arn:aws:iam::123456789012:role/mine'}
"""
    found = sites_of(acct.aws, functions(written, body("f", "lambda"), body("g", more=both), unmanaged))
    assert [site.network for _, site in found] == [None] * 3
    assert acct.wire.calls == []


def test_without_a_default_vpc_the_key_is_named_at_its_place_and_nothing_is_made(acct: Account, written: Path) -> None:
    for vpc in acct.aws.ec2.describe_vpcs()["Vpcs"]:
        for subnet in acct.aws.ec2.describe_subnets()["Subnets"]:
            acct.aws.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        acct.aws.ec2.delete_vpc(VpcId=vpc["VpcId"])
    acct.wire.clear()
    with pytest.raises(FdlError) as refused:
        sites_of(acct.aws, functions(written, body("f", "lambda"), body("g")))
    (problem,) = refused.value.problems
    assert refused.value.exit_code == 2
    assert (problem.file, problem.line) == (str(written), 11)
    assert problem.path == "functions.aws[1].batch.compute_resources.subnets"
    assert "no default VPC" in problem.what
    assert "123456789012" in problem.what
    assert "security_group_ids" in (problem.fix or "")
    assert acct.wire.writes == []


def test_of_given_subnets_the_vpcs_own_group_is_taken(acct: Account, written: Path) -> None:
    vpc, subnet, group = another_vpc(acct)
    ((_, site),) = sites_of(acct.aws, functions(written, body(more=f", subnets: [{subnet}]")))
    assert site.network == Network((subnet,), (group,), vpc)


def test_of_given_groups_the_default_vpcs_subnets_are_taken(acct: Account, written: Path) -> None:
    network = default(acct)
    given = f", security_group_ids: [{network.security_groups[0]}]"
    ((_, site),) = sites_of(acct.aws, functions(written, body(more=given)))
    assert site.network == network


def test_of_groups_of_another_vpc_the_subnets_are_not_guessed(acct: Account, written: Path) -> None:
    _, _, group = another_vpc(acct)
    with pytest.raises(FdlError) as refused:
        sites_of(acct.aws, functions(written, body(more=f", security_group_ids: [{group}]")))
    (problem,) = refused.value.problems
    assert problem.path == "functions.aws[0].batch.compute_resources.security_group_ids"
    assert "not the default VPC" in problem.what
    assert problem.line == 6


def test_subnets_of_several_vpcs_are_refused(acct: Account, written: Path) -> None:
    _, subnet, _ = another_vpc(acct)
    with pytest.raises(FdlError, match="several VPCs"):
        sites_of(acct.aws, functions(written, body(more=f", subnets: [{subnet}, {default(acct).subnets[0]}]")))


def test_an_unknown_subnet_is_told_at_its_place(acct: Account, written: Path) -> None:
    with pytest.raises(FdlError, match=r"scar\.yaml:6:\d+: .*subnets: .*subnet-nowhere"):
        sites_of(acct.aws, functions(written, body(more=", subnets: [subnet-nowhere]")))


def test_without_its_file_a_problem_is_told_without_a_line(acct: Account, written: Path) -> None:
    found = functions(written, body(more=", subnets: [subnet-nowhere]"))
    written.unlink()
    with pytest.raises(FdlError, match=r"scar\.yaml: functions\.aws\[0\]\.batch\.compute_resources\.subnets: "):
        sites_of(acct.aws, found)
