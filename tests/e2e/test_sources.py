"""Images that lie in Podman's store or in ECR become functions; one that was made before is run as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Local
from tests.e2e.test_images import docker_archive

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
SCRIPT = '#!/bin/sh\necho "$GREETING from $(pwd)"\n'


def run(local: Local, name: str) -> str:
    return local.must("run", "-n", name).out.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="rootless podman needs sub-uids, which a bare test user has not")
def test_an_image_of_podmans_store_becomes_a_function(local: Local, tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "shout.tar")
    name = f"localhost/scar-e2e-{os.getpid()}:1"
    skopeo = ["skopeo", "--insecure-policy", "--tmpdir", str(tmp_path), "copy", "--quiet"]
    subprocess.run([*skopeo, f"docker-archive:{archive}", f"containers-storage:{name}"], check=True)
    try:
        local.function("from-podman", SCRIPT, container={"image": f"containers-storage:{name}"})
    finally:
        subprocess.run(["podman", "rmi", "--force", name], check=True, capture_output=True)
    assert run(local, "from-podman") == "hello from /data"


def test_an_image_in_ecr_is_derived_from_and_a_prepared_one_is_run_as_it_is(local: Local) -> None:
    docker_archive(local.folder / "shout.tar")
    local.function("in-ecr", SCRIPT, container={"image": "docker-archive:shout.tar"})
    local.client("ecr").create_repository(repositoryName="team/shout")
    there = f"{ECR}/team/shout:1"
    local.must("image", "push", "-f", "in-ecr.yaml", "--to", there)
    assert (
        "create_image" in local.scar("image", "derive", "-f", written(local, there)).err
    )  # what to do with such an image
    local.function("in-ecr", SCRIPT, container={"image": there, "create_image": False})
    assert run(local, "in-ecr") == "hello from /data"
    (local.folder / "in-ecr.script").write_text(SCRIPT + "echo more\n")
    refused = local.scar("init", "-f", "in-ecr.yaml")
    assert refused.code == 5
    assert "init_script differs" in refused.err
    local.must("rm", "-n", "in-ecr")
    names = {found["repositoryName"] for found in local.client("ecr").describe_repositories()["repositories"]}
    assert "team/shout" in names
    assert "scar/in-ecr" not in names


def written(local: Local, image: str) -> str:
    """A definition that would derive from an image that was derived already; its file."""
    file = "twice.yaml"
    (local.folder / file).write_text(
        f'functions: {{aws: [{{lambda: {{name: twice, container: {{image: "{image}"}}}}}}]}}'
    )
    return file
