"""The hand-over is the same where the agent runs outside the image."""

from __future__ import annotations

from tests.e2e.batch.world import World, function
from tests.e2e.test_zip_functions import glibc_archive

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
