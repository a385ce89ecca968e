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
