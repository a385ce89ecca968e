from __future__ import annotations

import pytest

from tests.chaos.choice import Choice
from tests.e2e.conftest import local as local
from tests.e2e.conftest import own_local as own_local
from tests.e2e.conftest import shared_local as shared_local


@pytest.fixture(scope="session")
def choice(request: pytest.FixtureRequest) -> Choice:
    return Choice(request.config.getoption("--seed"), request.config.getoption("--whole"))
