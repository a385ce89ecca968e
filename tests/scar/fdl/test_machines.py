"""What is known of instance types by their names, held against every type that botocore knows."""

from __future__ import annotations

import re

import botocore.session
import pytest

from scar import limits
from scar.fdl import machines

EVERY_TYPE = botocore.session.get_session().get_service_model("ec2").shape_for("InstanceType").enum  # type: ignore[attr-defined]
FAMILIES = sorted({machines.family(each) for each in EVERY_TYPE})


def test_every_type_that_there_is_may_be_written_and_every_family() -> None:
    assert len(FAMILIES) > 150
    assert [each for each in (*EVERY_TYPE, *FAMILIES) if not re.fullmatch(limits.INSTANCE_TYPE_PATTERN, each)] == []


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        *((name, "x86_64") for name in ("m5.large", "c7i", "r6i", "g4dn.xlarge", "g6e", "i3en", "x2idn", "z1d", "hpc6a", "u-6tb1", "optimal")),
        *((name, "arm64") for name in ("a1", "m6g.large", "c7gn", "t4g", "im4gn", "is4gen", "x2gd", "g5g", "hpc7g", "p6e-gb200", "default_arm64")),
    ],
)  # fmt: skip
def test_the_processor_is_known_by_the_name(name: str, architecture: str) -> None:
    assert machines.architecture(name) == architecture


def test_gpus_are_known_by_the_family_and_no_other_family_is_taken_for_one() -> None:
    found = {each for each in FAMILIES if machines.has_gpu(each)}
    assert {"g4dn", "g5", "g5g", "g6", "g6e", "gr6", "p4d", "p4de", "p5", "p5en"} <= found
    assert all(each.startswith(("g", "p")) for each in found)
    assert found.isdisjoint({"g2", "g3", "g3s", "g4ad", "p2", "p3", "p3dn"})


@pytest.mark.parametrize("name", ["a1", "g2", "g3", "p2", "p3", "m3.medium", "c3", "r3", "t1"])
def test_what_is_gone_or_going_has_a_successor_that_is_there_and_is_not_itself(name: str) -> None:
    successor = machines.successor_of_unsupported(name) or machines.successor_of_previous(name)
    assert successor in FAMILIES
    assert machines.architecture(successor) == machines.architecture(name)
    assert machines.successor_of_unsupported(successor) is None
    assert machines.successor_of_previous(successor) is None
    assert machines.has_gpu(successor) is (name[0] in "gp")


def test_the_size_of_a_machine_is_in_its_name() -> None:
    sizes = (
        "t3.nano",
        "m6g.medium",
        "c7i.large",
        "m5.xlarge",
        "c7i.12xlarge",
        "c7i",
        "optimal",
        "m7i.metal-24xl",
        "hpc7a.96xlarge",
    )
    assert [machines.vcpus(name) for name in sizes] == [2, 1, 2, 4, 48, None, None, None, None]


def test_every_size_that_there_is_has_vcpus_or_is_not_told() -> None:
    """A name that says a wrong number would let jobs wait for ever: numbers are told for plain sizes alone."""
    told = {each: machines.vcpus(each) for each in EVERY_TYPE}
    assert sum(count is not None for count in told.values()) > 0.8 * len(told)
    assert all(count is None for each, count in told.items() if "metal" in each or each.startswith("hpc"))


@pytest.mark.parametrize(
    ("types", "architecture", "job", "bounds"),
    [
        ((), "x86_64", (1, 1024), (2, 2)),  # c7i.large and the like
        ((), "arm64", (1, 1024), (1, 2)),
        (("c7i",), "x86_64", (3, 2048), (2, 4)),
        ((), "x86_64", (1, 30_000), (2, 32)),  # memory decides
        (("g5.2xlarge",), "x86_64", (1, 1024), (8, 8)),
        (("c7i.large", "c7i.4xlarge"), "x86_64", (2, 2048), (2, 16)),
        (("hpc7a.96xlarge",), "x86_64", (4, 2048), (2, 192)),
        ((), "x86_64", (400, 2048), (2, 400)),
    ],
)
def test_how_large_the_machines_of_a_node_are(
    types: tuple[str, ...], architecture: str, job: tuple[int, int], bounds: tuple[int, int]
) -> None:
    least = machines.least_vcpus(types, architecture)
    assert (least, machines.likely_vcpus(types, architecture, *job)) == bounds
