"""kill -9 of the command itself, at many moments: the same command finishes what the killed one left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.e2e.conftest import Local, until
from tests.e2e.test_main_job import COPY

MOMENTS = 6


def definition(local: Local) -> None:
    (local.folder / "copy.script").write_text(COPY)
    functions = [
        {"lambda": {"name": name, "init_script": "copy.script", "container": {"image": "scratch"},
                    "input": [{"path": f"{source}/in"}], "output": [{"path": f"{target}/in"}]}}
        for name, source, target in (("first", "bucket-a", "bucket-b"), ("second", "bucket-b", "bucket-c"))
    ]  # fmt: skip
    (local.folder / "pair.yaml").write_text(json.dumps({"functions": {"aws": functions}}))


def killed_after(local: Local, seconds: float, *words: str) -> None:
    """Start `scar --local WORDS` and kill it, unless it was faster."""
    argv = [sys.executable, "-m", "scar", "--local", *words]
    process = subprocess.Popen(
        argv, cwd=local.folder, env=local.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def account(local: Local) -> dict[str, Any]:
    """What the account holds, by the AWS's own word."""
    s3, logs, iam, ecr = (local.client(name) for name in ("s3", "logs", "iam", "ecr"))
    buckets = sorted(item["Name"] for item in s3.list_buckets()["Buckets"])
    return {
        "functions": local.must("ls", "-o", "json").json,
        "buckets": buckets,
        "notifications": {
            name: s3.get_bucket_notification_configuration(Bucket=name).get("LambdaFunctionConfigurations")
            for name in buckets
        },
        "log groups": sorted(item["logGroupName"] for item in logs.describe_log_groups()["logGroups"]),
        "roles": sorted(item["RoleName"] for item in iam.list_roles()["Roles"]),
        "repositories": sorted(item["repositoryName"] for item in ecr.describe_repositories()["repositories"]),
    }


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    functions = [{key: value for key, value in item.items() if key != "modified"} for item in document["functions"]]
    return {**document, "functions": functions}


def test_init_and_rm_killed_at_any_moment_are_finished_by_the_same_command(own_local: Local) -> None:
    definition(own_local)
    own_local.must("local", "up")
    started = time.monotonic()
    own_local.must("init", "-f", "pair.yaml")
    whole = time.monotonic() - started
    clean = without_times(account(own_local))
    own_local.must("rm", "-f", "pair.yaml")
    empty = without_times(account(own_local))
    assert empty["functions"] == empty["roles"] == empty["repositories"] == empty["log groups"] == []
    for moment in range(1, MOMENTS + 1):
        for _ in range(2):  # killed twice in a row
            killed_after(own_local, whole * moment / MOMENTS, "init", "-f", "pair.yaml")
        own_local.must("init", "-f", "pair.yaml")
        assert own_local.must("plan", "-f", "pair.yaml", "-o", "json").json["steps"] == []
        assert without_times(account(own_local)) == clean
        killed_after(own_local, whole * moment / MOMENTS / 2, "rm", "-f", "pair.yaml")
        own_local.must("rm", "-f", "pair.yaml")
        assert without_times(account(own_local)) == empty


def test_put_killed_in_the_middle_leaves_no_half_object(own_local: Local) -> None:
    bucket = own_local.function("watcher", COPY, ephemeral_storage=1024)
    data = bytes(range(256)) * 4096 * 100  # 100 MiB
    (own_local.folder / "large.bin").write_bytes(data)
    for seconds in (0.4, 0.6, 0.8, 1.0):
        killed_after(own_local, seconds, "put", "-b", f"{bucket}/in", "-p", "large.bin")
        sizes = [item["size"] for item in own_local.must("ls", "-b", f"{bucket}/in", "-o", "json").json]
        assert sizes in ([], [len(data)])
    own_local.must("put", "-b", f"{bucket}/in", "-p", "large.bin")
    until("the output", lambda: own_local.keys(bucket, "out/"), 60)
