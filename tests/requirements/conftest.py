"""One local AWS with a function of each mode and a chain of three, deployed once by `scar init`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import Local
from tests.support.fault_proxy import FaultProxy

APPEND = """#!/usr/bin/env python3
import hashlib, os, pathlib
source = pathlib.Path(os.environ["INPUT_FILE_PATH"])
body = source.read_bytes()
where = b"batch" if "AWS_BATCH_JOB_ID" in os.environ else b"lambda"
target = pathlib.Path(os.environ["TMP_OUTPUT_DIR"], source.name)
target.write_bytes(body + b"\\n" + where + b" " + hashlib.sha256(body).hexdigest().encode())
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """`light` runs in Lambda, `both` in Lambda and then in Batch, `heavy` in Batch, one job at a time; `chain-1` to `chain-3` hand on."""
    base = tmp_path_factory.mktemp("requirements")
    (base / "work").mkdir()
    local = Local(base / "work", base / "state")
    local.must("local", "up")
    try:
        with FaultProxy(local.url) as proxy:
            made = World(local, proxy)
            (made.folder / "append.py").write_text(APPEND)
            made.deploy(
                "world.yaml",
                function("light"),
                function("both", "lambda-batch"),
                function("heavy", "batch", batch={"compute_resources": {"min_v_cpus": 0, "max_v_cpus": 1}}),
                chained(1),
                chained(2, "batch"),
                chained(3),
            )
            yield made
    finally:
        local.scar("local", "down")


def chained(number: int, mode: str | None = None) -> dict[str, object]:
    places = {"input": [{"path": f"chain/{number}"}], "output": [{"path": f"chain/{number + 1}"}]}
    return function(f"chain-{number}", mode, init_script="append.py", **places)


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test makes its own."""
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").proxy.rules.clear()
