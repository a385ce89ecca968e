"""A local AWS of its own, with podman where that can be used: both legs, and the death of the local AWS."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import Local, until
from tests.e2e.test_main_job import processes_with
from tests.support.fault_proxy import FaultProxy


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("apart")
    (folder / "work").mkdir()
    engine = "podman" if os.getuid() == 0 and shutil.which("podman") else "auto"
    local = Local(folder / "work", folder / "state", engine)
    local.must("local", "up")
    try:
        with FaultProxy(local.url) as proxy:
            world = World(local, proxy)
            world.deploy("apart.yaml", function("apart", "lambda-batch"))
            yield world
    finally:
        local.scar("local", "down")


def test_both_legs_run_in_it(apart: World) -> None:
    """TM2, BA4, BA5."""
    late = apart.put("apart", "late", sleep_lambda=30)
    seven = apart.put("apart", "seven", sleep_lambda=30, exit=7)
    eater = apart.put("apart", "eater", sleep_lambda=30, eat_mib_batch=400)
    assert apart.job("apart", late, 60)["status"] == "SUCCEEDED"
    assert apart.output("apart", "late") == "batch"
    assert apart.published("apart", "late") == 1
    assert apart.job("apart", seven)["container"]["exitCode"] == 7
    eaten = apart.job("apart", eater)
    assert (eaten["container"]["exitCode"], "OutOfMemoryError" in eaten["container"]["reason"]) == (137, True)


def test_kill_dash_9_of_the_local_aws_while_a_job_runs_ends_the_record_once(apart: World) -> None:
    """LO2, BA7: the attempt ends as on a lost host, the next one publishes; no process is left of the first."""
    marker = f"scar-restart-{time.time_ns()}"
    key = apart.put("apart", "restart", sleep_lambda=30, marker_batch=marker, from_attempt=2)
    job = apart.running("apart", key)
    os.kill(apart.local.daemon_pid(), signal.SIGKILL)
    apart.local.must("local", "up")
    until("nothing is left of the first attempt", lambda: not processes_with(marker) or apart.settled("apart"), 15)
    ended = apart.job("apart", key, 60)
    assert ended["jobId"] == job["jobId"]
    assert ended["status"] == "SUCCEEDED", ended.get("statusReason")
    assert [attempt["statusReason"][:9] for attempt in ended["attempts"]] == ["Host EC2 ", "Essential"]
    assert apart.output("apart", "restart") == "batch"
    assert apart.published("apart", "restart") == 1
    until("no process", lambda: not processes_with(marker), 15)
