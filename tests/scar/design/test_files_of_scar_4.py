"""Definition files in the form that SCAR 4.3.1's users wrote are planned as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from scar.aws.network import Network
from scar.design import Site, design
from scar.fdl.load import load
from tests.support.account import FakeImage, FakeZip

CASES = sorted((Path(__file__).parents[2] / "cases" / "fdl" / "good").glob("*of-scar-4*.yaml"))
SITE = Site(
    "123456789012",
    "eu-west-1",
    network=Network(("subnet-a", "subnet-b"), ("sg-default",), "vpc-1", public=True, default=True),
)
# What a file asks for besides a function, of which at least one is made
MADE = {
    "batch-mnp-of-scar-4": "job definition",
    "batch-of-scar-4": "job queue",
    "endpoint-of-scar-4": "rest api",
    "endpoint-of-scar-4-in-full": "rest api",
    "files-of-scar-4": "function",
    "plants-of-scar-4": "compute environment",
    "storage-of-scar-4": "notification",
    "video-process-of-scar-4": "notification",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_it_is_designed_and_no_credential_is_in_the_design(case: Path) -> None:
    """T1-08, T1-25, CL15, SE5"""
    kinds = set()
    for fn in load(case).functions:
        made = design(fn, SITE, FakeImage() if fn.lambda_.runtime == "image" else FakeZip())
        kinds |= {resource.id.kind for resource in made}
        shown = repr(made) + str([resource.id for resource in made])
        assert not [word for word in ("minio123", "98765432", "not ${env.ANY}") if word in shown]
    assert MADE[case.stem] in kinds, kinds
