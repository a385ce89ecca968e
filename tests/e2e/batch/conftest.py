"""Three functions, one of each mode, deployed once: tests name their files apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import Local
from tests.support.fault_proxy import FaultProxy


@pytest.fixture(scope="session")
def world(shared_local: Local) -> Iterator[World]:
    """`both` is in mode lambda-batch, `heavy` in batch. Lambda reaches Batch and S3 through the proxy, a job S3."""
    shared_local.must("local", "up")
    with FaultProxy(shared_local.url) as proxy:
        made = World(shared_local, proxy)
        ways = {"environment": made.through("batch", "s3")}
        jobs = {"environment": made.through("s3")}
        made.deploy(
            "world.yaml",
            function("both", "lambda-batch", batch=jobs, **ways),
            function("heavy", "batch", batch=jobs, **ways),
        )
        yield made


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test makes its own."""
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").proxy.rules.clear()
