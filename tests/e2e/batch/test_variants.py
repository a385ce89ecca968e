"""The hand-over is the same where the agent runs outside the image (TM19), and where podman makes the containers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import Local
from tests.e2e.test_zip_functions import glibc_archive
from tests.support.fault_proxy import FaultProxy

SLEEPER = """#!/bin/sh
echo half > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH" .json).out"
[ -n "$AWS_BATCH_JOB_ID" ] || sleep 30
cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH" .json).out"
echo "whole, $GREETING from $(pwd)"
"""


def test_a_zip_function_hands_over_to_a_job_of_the_same_image(world: World) -> None:
    """TM19."""
    glibc_archive(world.folder / "both-zip.tar")
    (world.folder / "sleeper.sh").write_text(SLEEPER)
    container = {"image_file": "both-zip.tar", "timeout_threshold": 3}
    more = {"runtime": "python3.13", "init_script": "sleeper.sh", "container": container, "timeout": 8}
    world.deploy("both-zip.yaml", function("both-zip", "lambda-batch", **more))
    key = world.put("both-zip", "zip", said="so")
    job = world.job("both-zip", key)
    assert job["status"] == "SUCCEEDED", job.get("statusReason")
    assert world.output("both-zip", "zip") == '{"said": "so"}'
    assert world.published("both-zip", "zip") == 1
    assert "whole, hello from /data" in world.lines("both-zip")


@pytest.fixture
def podman(own_local: Local) -> Iterator[World]:
    if shutil.which("podman") is None or os.getuid() != 0:
        pytest.skip("podman is not set up for this user; the gate installs it and runs as root")
    own_local.engine = "podman"
    own_local.must("local", "up")
    with FaultProxy(own_local.url) as proxy:
        yield World(own_local, proxy)


def test_podman_runs_both_legs(podman: World) -> None:
    """TM2, BA4, BA5 with real containers of another engine."""
    podman.deploy("both.yaml", function("both", "lambda-batch", timeout=6))
    assert podman.local.status["engine"]["name"] == "podman"
    late = podman.put("both", "late", sleep_lambda=30)
    seven = podman.put("both", "seven", sleep_lambda=30, exit=7)
    eater = podman.put("both", "eater", sleep_lambda=30, eat_mib_batch=400)
    assert podman.job("both", late, 60)["status"] == "SUCCEEDED"
    assert podman.output("both", "late") == "batch"
    assert podman.published("both", "late") == 1
    assert podman.job("both", seven)["container"]["exitCode"] == 7
    eaten = podman.job("both", eater)
    assert (eaten["container"]["exitCode"], "OutOfMemoryError" in eaten["container"]["reason"]) == (137, True)
