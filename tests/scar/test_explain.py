"""`scar explain` on a wire: what it looks at, and what it says of what nobody knows."""

from __future__ import annotations

import json

import pytest

from tests.support.runs_edge import Scar, World

FINE = {
    "computeEnvironmentName": "scar-cow",
    "state": "ENABLED",
    "status": "VALID",
    "computeResources": {"type": "EC2", "maxvCpus": 4, "subnets": ["subnet-1"], "instanceTypes": ["optimal"]},
}
NEEDS = {"container": {"resourceRequirements": [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "512"}]}}


@pytest.mark.parametrize(
    ("environment", "needs", "rule"),
    [
        (FINE | {"status": "INVALID", "statusReason": "CLIENT_ERROR - no role"}, NEEDS, "environment-invalid"),
        (FINE | {"state": "DISABLED"}, NEEDS, "environment-disabled"),
        (FINE, {"container": {"resourceRequirements": [{"type": "VCPU", "value": "8"}]}}, "too-many-vcpus"),
        (FINE, NEEDS, "waits-its-turn"),
    ],
)
def test_a_job_that_waits_is_explained_by_its_queue(
    world: World, scar: Scar, environment: dict[str, object], needs: dict[str, object], rule: str
) -> None:
    world.function("cow", queue="scar-cow")
    world.environments = [environment]
    one = world.job("cow", "RUNNABLE", **needs)  # type: ignore[arg-type]
    done = scar("explain", one, "-o", "json")
    assert done.code == 0
    [subject] = done.json
    assert [finding["rule"] for finding in subject["findings"]] == [rule]


def test_a_job_that_failed_is_explained_by_its_last_words(world: World, scar: Scar) -> None:
    world.function("cow", queue="scar-cow")
    world.environments = [FINE]
    one = world.job("cow", "FAILED", exit_code=1, streams=["cow/default/1"])
    words = {
        "errorType": "GangFailed",
        "errorMessage": "node 1 of 2 was lost",
        "request_id": "r",
        "runs": [],
        "schema": 1,
    }
    world.log("/aws/batch/job/cow", "cow/default/1", "working", json.dumps(words))
    text = scar("explain", one).out
    assert "node 1 of 2 was lost" in text
    assert f"→ scar log {one} --node all" in text
    assert scar("explain", f"{one}#1", "-n", "cow").code == 0


def test_a_run_is_followed_into_batch(world: World, scar: Scar) -> None:
    request = "0d0d0d0d-0000-4000-8000-00000000000d"
    world.function("pig", queue="scar-pig")
    one = world.job("pig", "FAILED", exit_code=137, container={"reason": "OutOfMemoryError: Container killed"})
    world.log(
        "/aws/lambda/pig",
        "s",
        f"START RequestId: {request} Version: $LATEST",
        json.dumps({"request_id": request, "fact": "handed over", "job_id": one}),
        f"REPORT RequestId: {request}\tDuration: 1.00 ms\tMemory Size: 512 MB\tMax Memory Used: 50 MB",
    )
    found = scar("explain", "-n", "pig", request, "-o", "json").json
    assert [subject["subject"].split()[0] for subject in found] == ["run", "job"]
    assert [finding["rule"] for finding in found[1]["findings"]] == ["job-out-of-memory"]


def test_what_nobody_knows_is_told_with_where_to_look(world: World, scar: Scar) -> None:
    unknown = "0e0e0e0e-0000-4000-8000-00000000000e"
    world.function("owl")
    assert scar("explain", unknown).code == 3
    assert "explain -n NAME" in scar("explain", unknown).err
    assert scar("explain", "-n", "owl", unknown).code == 3
    assert scar("explain", "nobody").code == 3
    assert scar("explain").code == 2
    assert scar("explain", "owl", "--object", "s3://bucket-only").code == 2
