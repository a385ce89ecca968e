"""An agent layer that is built once, and registries on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.package.agent import AgentLayer, agent_layer
from tests.scar.package.faulty import Faulty
from tests.support.registries import PASSWORD as PASSWORD
from tests.support.registries import USER as USER
from tests.support.registries import (
    RunningRegistry,
    TokenServer,
    start_basic_registry,
    start_registry,
    start_token_registry,
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def agent(cache: Path) -> AgentLayer:
    return agent_layer(cache=cache)


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = start_registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def other_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = start_registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = start_basic_registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[RunningRegistry]:
    """A registry that takes tokens only: all may pull, bob may push."""
    registry = start_token_registry(tmp_path_factory.mktemp("registry"), tokens)
    yield registry
    registry.stop()


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    server = Faulty()
    yield server
    server.close()
