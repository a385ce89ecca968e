"""A daemon of its own for whoever asks, or one for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from local_daemon import Running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def stopped(folder: Path) -> Iterator[Running]:
    """A daemon that the test starts itself, as often as it likes."""
    with ExitStack() as stack:
        daemon = Running(folder)
        stack.callback(daemon.close)
        yield daemon


@pytest.fixture
def daemon(stopped: Running) -> Running:
    return stopped.start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all tests of a module that do not restart it."""
    running = Running(tmp_path_factory.mktemp("shared") / "state")
    try:
        yield running.start()
    finally:
        running.close()
