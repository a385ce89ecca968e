"""`scar rm` of functions with jobs, on the local AWS: refused while jobs run, and nothing is left afterwards."""

from __future__ import annotations

from typing import Any

from tests.e2e.batch.world import World, function


def _left(world: World, name: str) -> dict[str, Any]:
    """What an account has of a function, as AWS's own clients list it."""
    batch, iam, logs = world.batch, world.local.client("iam"), world.local.client("logs")
    roles = [role["RoleName"] for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
    profiles = [profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]]
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    definitions = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    functions = world.functions.list_functions()["Functions"]
    found = {
        "queues": batch.describe_job_queues(jobQueues=[f"scar-{name}"])["jobQueues"],
        "environments": batch.describe_compute_environments(computeEnvironments=[f"scar-{name}"])["computeEnvironments"],
        "definitions": [one for one in definitions if one["jobDefinitionName"].startswith(f"scar-{name}-")],
        "roles": [role for role in roles if role.startswith(f"scar-{name}")],
        "profiles": [profile for profile in profiles if profile.startswith(f"scar-{name}")],
        "log groups": [group for group in groups if group.endswith(f"/{name}")],
        "functions": [one for one in functions if one["FunctionName"] == name],
    }  # fmt: skip
    return {kind: items for kind, items in found.items() if items}


def test_a_function_whose_job_runs_is_removed_only_when_its_jobs_may_be_stopped(world: World) -> None:
    """T1-23, and a second `init` that finds everything as it is (T1-12)."""
    name = "leaving"
    world.deploy("leaving.yaml", function("without-jobs"), function(name, "batch"))
    assert "unchanged" in world.local.must("init", "-f", "leaving.yaml").out
    job = world.running(name, world.put(name, "long", sleep=300))
    before = _left(world, name)

    refused = world.scar("rm", "-f", "leaving.yaml")
    assert refused.code == 5
    assert _left(world, "without-jobs"), "the first of the file is there, too"
    assert "1 job has not finished" in refused.err
    assert f"(RUNNING)\n  See them with `scar --local jobs -n {name}`" in refused.err
    assert _left(world, name) == before
    assert len(before) == 7

    world.local.must("rm", "-f", "leaving.yaml", "--stop-jobs")
    (ended,) = world.described(job["jobId"])
    assert (ended["status"], ended["statusReason"]) == ("FAILED", f"scar rm -n {name} --stop-jobs")
    assert (_left(world, name), _left(world, "without-jobs")) == ({}, {})
    assert world.output(name, "long") is None
