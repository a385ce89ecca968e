"""An account with an ECR of its own: the local AWS's control plane and registry, without the daemon around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scar.aws.clients import Access, Aws
from scar.fdl.load import load
from scar.fdl.model import Function
from scar.package import oci
from scar.package.agent import host_architecture
from tests.local.functions.lambda_bench import ACCOUNT, REGION, Local
from tests.scar.package.images import bytes_of, small_layer

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
LAMBDA_NAME = {"amd64": "x86_64", "arm64": "arm64"}[host_architecture()]


def aws_of(local: Local, region: str = REGION) -> Aws:
    return Aws(Access(region, endpoint_url=local.url, access_key="local", secret_key="local"))


def push_manifest(local: Local, repository: str, tag: str, manifest: dict[str, Any], media_type: str = "") -> str:
    done = local.web.put(
        f"{local.url}/v2/{repository}/manifests/{tag}",
        data=json.dumps(manifest).encode(),
        headers={"Content-Type": media_type or manifest["mediaType"]},
    )
    assert done.status_code == 201, done.text
    return str(done.headers["Docker-Content-Digest"])


def push_image(
    local: Local,
    repository: str,
    tag: str,
    *,
    architecture: str = host_architecture(),
    system: str = "linux",
    layer_type: str = oci.OCI_LAYER_GZIP,
    config_type: str = oci.OCI_CONFIG,
    **settings: object,
) -> str:
    """An image of one small layer; its digest. The repository is made when it is not there."""
    if not local.ecr_has(repository):
        local.ecr.create_repository(repositoryName=repository)
    layer = small_layer()
    config = {
        "architecture": architecture,
        "os": system,
        "config": {"Entrypoint": ["/bin/hello"], **settings},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": {"mediaType": config_type, **local.push_blob(repository, json.dumps(config).encode())},
        "layers": [{"mediaType": layer_type, **local.push_blob(repository, bytes_of(layer))}],
    }
    return push_manifest(local, repository, tag, manifest)


def definition(folder: Path, image: str, lines: str = "", *, script: str = "echo hello\n") -> Function:
    """A function that is defined in a file, as its user does it. `lines` are more keys of `container`."""
    (folder / "script.sh").write_text(script)
    (folder / "scar.yaml").write_text(
        f"""\
functions:
  aws:
  - lambda:
      name: grayify
      init_script: script.sh
      architectures: [{LAMBDA_NAME}]
      container:
        image: "{image}"
{lines}"""
    )
    (fn,) = load(folder / "scar.yaml").functions
    return fn
