"""`create_image: false`: an image that somebody put into ECR is run as it is, and outlives the function."""

from __future__ import annotations

import json

from tests.e2e.conftest import Local

ACCOUNT = "123456789012"
REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"


def test_a_prepared_image_is_deployed_by_digest_and_left_alone(local: Local) -> None:
    local.must("local", "up")
    local.client("ecr").create_repository(repositoryName="theirs")
    (local.folder / "prepared.script").write_text("#!/bin/sh\necho prepared\n")
    body = {"name": "prepared", "init_script": "prepared.script", "container": {"image": "scratch"}}
    file = local.folder / "prepared.yaml"
    file.write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    local.must("image", "push", "-f", "prepared.yaml", "--to", f"{REGISTRY}/theirs:1")

    body["container"] = {"image": f"{REGISTRY}/theirs:1", "create_image": False}
    file.write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    planned = " ".join(local.must("plan", "-f", "prepared.yaml").out.split())
    assert "+ function prepared (an image that is there already)" in planned
    assert "repository" not in planned
    local.must("init", "-f", "prepared.yaml")
    found = local.client("lambda").get_function(FunctionName="prepared")["Code"]["ImageUri"]
    assert found.startswith(f"{REGISTRY}/theirs@sha256:")
    assert "unchanged" in local.must("plan", "-f", "prepared.yaml").out

    local.must("rm", "-n", "prepared")
    assert len(local.client("ecr").describe_images(repositoryName="theirs")["imageDetails"]) == 1
