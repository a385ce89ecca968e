from __future__ import annotations

import pytest

from tests.chaos.choice import Choice


@pytest.fixture(scope="session")
def choice(request: pytest.FixtureRequest) -> Choice:
    return Choice(request.config.getoption("--seed"), request.config.getoption("--whole"))
