"""What a job is told to have died of, and that it ends as its script says. Scenarios BA1 to BA17 by their ids."""

from __future__ import annotations

import os
import random
import urllib.request
from typing import Any

from tests.e2e.batch.world import World, function
from tests.e2e.conftest import until
from tests.e2e.test_images import docker_archive
from tests.support.fault_proxy import Alter, Answer, Refuse

CODES = {"0": 0, "1": 1, "126": 126, "127": 127, "137": 137, "143": 143, "255": 255}


def test_every_exit_code_of_a_script_is_its_jobs(world: World) -> None:
    """BA4: and nothing is published but for 0. 137 and 143 are told by signals too."""
    for name, code in CODES.items():
        world.put("heavy", f"ba4-{name}", exit=code)
    world.put("heavy", "ba4-kill", signal=9)
    world.put("heavy", "ba4-term", signal=15)
    expected = {**CODES, "kill": 137, "term": 143}
    for name, code in expected.items():
        job = world.job("heavy", f"in/ba4-{name}.json", 60)
        assert job["container"]["exitCode"] == code, (name, job)
        assert job["status"] == ("FAILED" if code else "SUCCEEDED")
        assert len(job["attempts"]) == 1
        assert world.published("heavy", f"ba4-{name}") == (not code)


def test_waiting_ends_with_the_jobs_own_code(world: World) -> None:
    """BA6, BA15: an exit code that is missing is a failure; a job that describing does not know yet is waited for."""
    key = world.put("heavy", "ba6", exit=3)
    job = world.job("heavy", key)
    assert world.scar("wait", job["jobId"]).code == 3

    def without_code(document: Any) -> Any:
        for one in document.get("jobs", ()):
            for container in (one["container"], *(attempt["container"] for attempt in one["attempts"])):
                container.pop("exitCode", None)
        return document

    world.proxy.add("batch", "DescribeJobs", Alter(without_code), times=None)
    assert world.scar_by_proxy("wait", job["jobId"]).code == 1
    world.proxy.rules.clear()
    empty = world.proxy.add("batch", "DescribeJobs", Answer({"jobs": []}), times=2)
    assert world.scar_by_proxy("wait", job["jobId"]).code == 3
    assert empty.met >= 3


def test_a_job_that_needs_more_memory_than_it_has_says_so(world: World) -> None:
    """BA5: exit code 137, and Batch's word for it; once."""
    key = world.put("heavy", "ba5", eat_mib=400)
    job = world.job("heavy", key)
    assert job["status"] == "FAILED"
    assert job["container"]["exitCode"] == 137
    assert "OutOfMemoryError" in job["container"]["reason"]
    assert len(job["attempts"]) == 1
    assert "OutOfMemoryError" in world.local.must("jobs", job["jobId"]).out
    assert world.published("heavy", "ba5") == 0


def test_a_host_that_is_lost_is_another_attempt_that_begins_clean(world: World) -> None:
    """BA7, BA8: Spot took the machine of the first attempt; only what the second one wrote is published."""
    key = world.put("heavy", "ba7", from_attempt=2, text="second")
    job = world.running("heavy", key)
    reclaim(world, job["jobId"])
    ended = world.job("heavy", key)
    assert ended["status"] == "SUCCEEDED", ended.get("statusReason")
    first, second = ended["attempts"]
    assert first["statusReason"].startswith("Host EC2")
    assert second["container"]["exitCode"] == 0
    assert world.output("heavy", "ba7") == "second"
    assert world.published("heavy", "ba7") == 1  # in/ba7.attempt1 would count too
    assert world.scar("wait", job["jobId"]).code == 0


def reclaim(world: World, job_id: str) -> None:
    """What AWS does to a Spot machine."""
    asked = urllib.request.Request(f"{world.local.url}/_scar/batch/reclaim/{job_id}", method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200


def test_two_dozen_submissions_through_a_throttled_aws_are_two_dozen_jobs(world: World) -> None:
    """BA12: each refused with a chance of a half."""
    chance = random.Random(12)
    world.proxy.add(
        "batch",
        "SubmitJob",
        Refuse(429, "TooManyRequestsException", "Too Many Requests"),
        times=None,
        where=lambda _: chance.random() < 0.5,
    )
    names = [f"ba12-{n:02}" for n in range(24)]
    for name in names:
        world.put("heavy", name)
    until("all outputs", lambda: len(world.local.keys("bucket-heavy", "out/ba12-")) == len(names), 120)
    until("all jobs' end", lambda: world.settled("heavy"))
    assert len(world.jobs("heavy", "in/ba12-")) == len(names)
    assert all(world.published("heavy", name) == 1 for name in names)


WHO = """#!/bin/busybox sh
echo "by $(/bin/busybox id -u)" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH" .json).out"
"""
IMAGES = {
    "ba17-entrypoint": {"Entrypoint": ["/bin/cat"], "Cmd": ["/no/such/file"]},
    "ba17-user": {"User": "12345:12345"},
}


def test_images_that_are_not_made_for_scripts_run_them_in_batch_and_one_that_is_gone_is_named(world: World) -> None:
    """BA17, BA5, T1-18: the agent is the entry point; an image without a shell is what all other tests use (`scratch`)."""
    (world.folder / "who.sh").write_text(WHO)
    for name, process in IMAGES.items():
        docker_archive(world.folder / f"{name}.tar", **process)
    made = [function(name, "batch", container={"image_file": f"{name}.tar"}, init_script="who.sh") for name in IMAGES]
    world.deploy("ba17.yaml", *made)
    somebody = 12345 if os.geteuid() == 0 else 0  # without root's rights a local sandbox has one user only
    for name, user in (("ba17-entrypoint", 0), ("ba17-user", somebody)):
        key = world.put(name, "who")
        assert world.job(name, key)["status"] == "SUCCEEDED"
        assert world.output(name, "who") == f"by {user}\n"
    ecr, repository = world.local.client("ecr"), "scar/ba17-user"
    ecr.batch_delete_image(repositoryName=repository, imageIds=ecr.list_images(repositoryName=repository)["imageIds"])
    gone = world.job("ba17-user", world.put("ba17-user", "gone"))
    assert gone["status"] == "FAILED"
    assert "CannotPullContainerError" in gone["container"]["reason"]
