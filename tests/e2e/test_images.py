"""Images from wherever the user has them become functions: an archive of `docker save`, an OCI layout, a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Local, until

BUSYBOX = shutil.which("busybox")
SHOUT = """#!/bin/sh
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"
echo "$GREETING from $(pwd)"
"""


def busybox_layer() -> bytes:
    """A tar with a static busybox under the names that the tests use."""
    if BUSYBOX is None:
        pytest.skip("busybox is not installed (package busybox-static); the gate installs it")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for folder in ("bin", "usr", "usr/bin", "data"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        content = Path(BUSYBOX).read_bytes()
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
        for name in ("sh", "tr", "basename", "cat", "echo", "ls"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return raw.getvalue()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def config_of(layer: bytes, **process: Any) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/data", **process},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    return json.dumps(document).encode()


def docker_archive(path: Path, **process: Any) -> Path:
    """What `docker save` writes: manifest.json, a config and uncompressed layers."""
    layer = busybox_layer()
    config = config_of(layer, **process)
    files = {
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": ["shout:1"], "Layers": ["layer.tar"]}]
        ).encode(),
        "config.json": config,
        "layer.tar": layer,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def oci_layout(path: Path, **process: Any) -> Path:
    """An OCI layout directory with one gzip-compressed layer."""
    layer = busybox_layer()
    packed, config = gzip.compress(layer, mtime=0), config_of(layer, **process)

    def put(content: bytes, kind: str) -> dict[str, Any]:
        place = path / "blobs" / "sha256" / digest(content)[7:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(content), "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config, "config.v1+json"),
        "layers": [put(packed, "layer.v1.tar+gzip")],
    }
    index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (path / "index.json").write_text(json.dumps(index))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return path


def shouts(local: Local, name: str, container: dict[str, Any]) -> None:
    """The function works: its script runs in that image, with its ENV and WORKDIR, and its output is published."""
    bucket = local.function(name, SHOUT, container=container)
    local.client("s3").put_object(Bucket=bucket, Key="in/word.txt", Body=b"quiet")
    until("the output", lambda: local.keys(bucket, "out/"))
    assert local.client("s3").get_object(Bucket=bucket, Key="out/word.txt")["Body"].read() == b"QUIET"
    assert "hello from /data" in local.log(name)


def test_a_docker_save_archive_becomes_a_function(local: Local) -> None:
    docker_archive(local.folder / "shout.tar")
    shouts(local, "from-archive", {"image_file": "shout.tar"})


def test_an_oci_layout_becomes_a_function(local: Local) -> None:
    oci_layout(local.folder / "layout")
    shouts(local, "from-layout", {"image_file": "layout"})


def test_an_image_in_a_registry_becomes_a_function(local: Local) -> None:
    """The registry is the local AWS's own, used as any other: loopback is spoken to over HTTP, credentials are Docker's."""
    layout = oci_layout(local.folder / "pushed")
    reference = push(local, layout, "base/shout")
    local.home = local.folder
    try:
        shouts(local, "from-registry", {"image": reference})
    finally:
        local.home = None


def push(local: Local, layout: Path, repository: str) -> str:
    """Put a layout into the local ECR with nothing but HTTP; answers the reference by digest."""
    import requests

    ecr = local.client("ecr")
    ecr.create_repository(repositoryName=repository)
    token = ecr.get_authorization_token()["authorizationData"][0]
    headers = {"Authorization": f"Basic {token['authorizationToken']}"}
    base = f"{token['proxyEndpoint']}/v2/{repository}"
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    manifest = (layout / "blobs" / "sha256" / entry["digest"][7:]).read_bytes()
    document = json.loads(manifest)
    for blob in (document["config"], *document["layers"]):
        content = (layout / "blobs" / "sha256" / blob["digest"][7:]).read_bytes()
        place = requests.post(f"{base}/blobs/uploads/", headers=headers, timeout=10).headers["Location"]
        url = place if place.startswith("http") else token["proxyEndpoint"] + place
        answer = requests.put(url, params={"digest": blob["digest"]}, data=content, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text
    kind = {"Content-Type": entry["mediaType"]}
    answer = requests.put(f"{base}/manifests/{entry['digest']}", data=manifest, headers=headers | kind, timeout=10)
    assert answer.status_code == 201, answer.text
    host = token["proxyEndpoint"].removeprefix("http://")
    (local.folder / ".docker").mkdir(exist_ok=True)
    (local.folder / ".docker" / "config.json").write_text(
        json.dumps({"auths": {host: {"auth": token["authorizationToken"]}}})
    )
    return f"{host}/{repository}@{entry['digest']}"


def test_without_a_script_the_images_own_command_runs_and_arguments_replace_it(local: Local) -> None:
    docker_archive(local.folder / "cow.tar", Entrypoint=["/bin/echo", "moo"], Cmd=["says", "the", "cow"])
    body = {"name": "cow", "container": {"image_file": "cow.tar"}}
    (local.folder / "cow.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    local.must("init", "-f", "cow.yaml")
    assert local.must("run", "-n", "cow").out == "moo says the cow\n"
    assert local.must("run", "-n", "cow", "again", "and again").out == "moo again and again\n"
    (local.folder / "hello.sh").write_text('#!/bin/sh\necho "a script of the moment: $GREETING"\n')
    assert local.must("run", "-n", "cow", "-s", "hello.sh").out == "a script of the moment: hello\n"
    local.must("run", "-n", "cow", "-o", "said.txt")
    assert (local.folder / "said.txt").read_text() == "moo says the cow\n"


def test_the_container_is_what_lambda_would_give_it(local: Local) -> None:
    """Read-only root, a private /tmp, an unprivileged user, nothing of this machine."""
    script = """#!/usr/bin/env python3
import json, os
def fails(what):
    try:
        what()
        return False
    except OSError:
        return True
print(json.dumps({
    "uid": os.getuid(),
    "root is read-only": fails(lambda: open("/new", "w")),
    "agent is read-only": fails(lambda: open("/opt/scar/app/new", "w")),
    "tmp is writable": not fails(lambda: open("/tmp/new", "w")),
    "tmp is its own": os.listdir("/tmp") == ["new"] or all(name.startswith(("new", "scar-run-")) for name in os.listdir("/tmp")),
    "no home of this machine": not os.path.exists("THIS_MACHINE"),
    "runtime api is hidden": "AWS_LAMBDA_RUNTIME_API" not in os.environ,
    "few processes": len([p for p in os.listdir("/proc") if p.isdigit()]) < 10,
}))
"""
    local.function("inside", script.replace("THIS_MACHINE", str(local.folder)))
    said = json.loads(local.must("run", "-n", "inside").out)
    assert said.pop("uid") != 0
    assert all(said.values()), said


def test_more_memory_than_configured_ends_the_run_visibly(local: Local) -> None:
    script = "#!/usr/bin/env python3\nblock = []\nwhile True:\n    block.append(b'x' * (8 << 20))\n"
    local.function("greedy", script, memory=256)
    done = local.scar("run", "-n", "greedy")
    assert done.code == 137
    assert "killed" in done.err
