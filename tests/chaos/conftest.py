from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.choice import Choice
from tests.chaos.storming import Deployed, deployed_in
from tests.e2e.conftest import local as local
from tests.e2e.conftest import own_local as own_local
from tests.e2e.conftest import shared_local as shared_local


@pytest.fixture(scope="session")
def choice(request: pytest.FixtureRequest) -> Choice:
    return Choice(request.config.getoption("--seed"), request.config.getoption("--whole"))


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One local AWS for storms, events and reclaims: tests name their files apart, and leave all functions as they were."""
    with deployed_in(tmp_path_factory.mktemp("storm")) as made:
        yield made
