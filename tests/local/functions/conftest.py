"""Local AWSes for the tests of this folder; `lambda_bench` says what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lambda_bench import Local, reset_moto

from scar.local.functions.engine import Pace


@pytest.fixture
def make_local(tmp_path: Path) -> Iterator[Callable[..., Local]]:
    """Start a local AWS with a pace of one's own; it ends with the test."""
    made: list[Local] = []

    def make(**settings: Any) -> Local:
        made.append(Local(tmp_path / f"local{len(made)}", **settings).__enter__())
        return made[-1]

    yield make
    for local in made:
        local.__exit__()
    reset_moto()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One local AWS for a module's tests, which use functions of their own names."""
    folder = tmp_path_factory.mktemp("local")
    with Local(folder, pace=Pace(retry_scale=1 / 600)) as started:
        yield started
    reset_moto()
