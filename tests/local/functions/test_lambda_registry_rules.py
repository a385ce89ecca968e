"""What ECR enforces, the local one enforces: what a repository holds, tags that stay, parts of layers, mounting, and lifecycle rules."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from lambda_bench import Layer, Local, layer

from scar.package.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST

MIB = 1 << 20


def small(text: str) -> Layer:
    return layer({"etc/note": text.encode()})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def repository(local: Local, name: str, **more: object) -> str:
    local.ecr.create_repository(repositoryName=name, **more)
    return name


def upload(local: Local, name: str, *parts: bytes) -> str:
    """A layer pushed by ECR's own calls; the upload, not yet completed."""
    upload_id = str(local.ecr.initiate_layer_upload(repositoryName=name)["uploadId"])
    first = 0
    for part in parts:
        last = first + len(part) - 1
        answer = local.ecr.upload_layer_part(
            repositoryName=name, uploadId=upload_id, partFirstByte=first, partLastByte=last, layerPartBlob=part
        )
        assert answer["lastByteReceived"] == last
        first = last + 1
    return upload_id


def complete(local: Local, name: str, upload_id: str, content: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = local.ecr.complete_layer_upload(
        repositoryName=name, uploadId=upload_id, layerDigests=[digest_of(content)]
    )
    return answer


def test_a_repository_holds_only_what_was_pushed_to_it(local: Local) -> None:
    mine, other = repository(local, "holds/mine"), repository(local, "holds/other")
    one = small("only in one")
    local.push(mine, "v1", one)
    assert local.web.head(f"{local.url}/v2/{mine}/blobs/{one.digest}").status_code == 200
    assert local.web.head(f"{local.url}/v2/{other}/blobs/{one.digest}").status_code == 404
    manifest = local.web.get(f"{local.url}/v2/{mine}/manifests/v1")
    refused = local.web.put(
        f"{local.url}/v2/{other}/manifests/v1", data=manifest.content, headers={"Content-Type": OCI_MANIFEST}
    )
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_blobs_are_mounted_only_where_the_account_wants_it(local: Local) -> None:
    source, target = repository(local, "wish/source"), repository(local, "wish/target")
    blob = local.push_blob(source, b"to be mounted")
    ask = {"mount": blob["digest"], "from": source}
    where = f"{local.url}/v2/{target}/blobs/uploads/"
    local.ecr.put_account_setting(name="BLOB_MOUNTING", value="DISABLED")
    assert local.ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "DISABLED"
    assert local.web.post(where, params=ask).status_code == 202
    local.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    assert local.web.post(where, params={**ask, "from": "wish/nowhere"}).status_code == 202
    assert local.web.post(where, params=ask).status_code == 201
    assert local.web.get(f"{local.url}/v2/{target}/blobs/{blob['digest']}").content == b"to be mounted"
    kms = repository(local, "wish/encrypted", encryptionConfiguration={"encryptionType": "KMS", "kmsKey": "mine"})
    assert local.web.post(f"{local.url}/v2/{kms}/blobs/uploads/", params=ask).status_code == 202
    with pytest.raises(ClientError, match="Validation"):
        local.ecr.get_account_setting(name="NO_SUCH")


def test_an_immutable_tag_is_refused_by_the_api_in_its_own_words(local: Local) -> None:
    name = repository(local, "rules/fixed", imageTagMutability="IMMUTABLE")
    local.push(name, "v1", small("one"))
    local.push(name, "v2", small("two"))
    (second,) = local.ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v2"}])["images"]
    with pytest.raises(ClientError) as refused:
        local.ecr.put_image(repositoryName=name, imageManifest=second["imageManifest"], imageTag="v1")
    assert refused.value.response["Error"]["Code"] == "ImageTagAlreadyExistsException"
    with pytest.raises(ClientError, match="ImageDigestDoesNotMatch"):
        local.ecr.put_image(
            repositoryName=name, imageManifest=second["imageManifest"], imageTag="v3", imageDigest=digest_of(b"other")
        )
    with pytest.raises(ClientError, match="InvalidParameter"):
        local.ecr.put_image(repositoryName=name, imageManifest="not json", imageTag="v3")


def test_a_layer_is_pushed_and_fetched_by_ecrs_own_calls(local: Local) -> None:
    name = repository(local, "rules/parts")
    content = os.urandom(5 * MIB) + b"the rest"
    upload_id = upload(local, name, content[: 5 * MIB], content[5 * MIB :])
    assert complete(local, name, upload_id, content)["layerDigest"] == digest_of(content)
    (known,) = local.ecr.batch_check_layer_availability(
        repositoryName=name, layerDigests=[digest_of(content), digest_of(b"other")]
    )["layers"]
    assert (known["layerDigest"], known["layerSize"]) == (digest_of(content), len(content))
    url = local.ecr.get_download_url_for_layer(repositoryName=name, layerDigest=digest_of(content))["downloadUrl"]
    assert requests.get(url).content == content
    assert requests.get(url.replace(digest_of(content), digest_of(b"other"))).status_code == 401
    assert requests.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 401
    assert requests.put(url).status_code == 401
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    complete(local, name, upload(local, name, config), config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": OCI_LAYER_GZIP, "digest": digest_of(content), "size": len(content)}],
    }
    local.ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="v1")
    (detail,) = local.ecr.describe_images(repositoryName=name)["imageDetails"]
    assert (detail["imageTags"], detail["imageSizeInBytes"]) == (["v1"], len(content))


def test_parts_of_a_layer_that_ecr_would_refuse_are_refused(local: Local) -> None:
    name = repository(local, "rules/bad-parts")
    with pytest.raises(ClientError, match="LayerPartTooSmall"):
        complete(local, name, upload(local, name, b"small", b"parts"), b"smallparts")
    with pytest.raises(ClientError, match="EmptyUpload"):
        complete(local, name, upload(local, name), b"")
    with pytest.raises(ClientError, match="InvalidLayerException"):
        complete(local, name, upload(local, name, b"this"), b"that")
    upload_id = upload(local, name, b"this")
    with pytest.raises(ClientError, match="InvalidLayerPart"):
        local.ecr.upload_layer_part(
            repositoryName=name, uploadId=upload_id, partFirstByte=9, partLastByte=9, layerPartBlob=b"x"
        )
    complete(local, name, upload_id, b"this")
    with pytest.raises(ClientError, match="LayerAlreadyExists"):
        complete(local, name, upload(local, name, b"this"), b"this")
    with pytest.raises(ClientError, match="UploadNotFound"):
        complete(local, name, upload_id, b"this")
    with pytest.raises(ClientError, match="LayersNotFound"):
        local.ecr.get_download_url_for_layer(repositoryName=name, layerDigest=digest_of(b"none"))
    with pytest.raises(ClientError, match="RepositoryNotFound"):
        local.ecr.initiate_layer_upload(repositoryName="rules/nowhere")
    with pytest.raises(ClientError, match="RepositoryNotFound"):
        local.ecr.put_image(repositoryName="rules/nowhere", imageManifest="{}")


def lifecycle(*rules: dict[str, Any]) -> str:
    numbered = [
        {"rulePriority": number, "action": {"type": "expire"}, "selection": {"countType": "imageCountMoreThan", **rule}}
        for number, rule in enumerate(rules, 1)
    ]
    return json.dumps({"rules": numbered})


def test_the_lifecycle_rule_keeps_the_last_images_only(local: Local) -> None:
    name = repository(local, "rules/last")
    rule = lifecycle(
        {"tagStatus": "tagged", "tagPrefixList": ["release"], "countNumber": 1}, {"tagStatus": "any", "countNumber": 2}
    )
    local.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=rule)
    release = local.push(name, "release-1", small("release"))
    pushed = [local.push(name, f"v{number}", small(f"number {number}")) for number in range(4)]
    left = {image["imageDigest"] for image in local.ecr.list_images(repositoryName=name)["imageIds"]}
    assert left == {release, *pushed[-2:]}
    assert local.web.get(f"{local.url}/v2/{name}/manifests/v0").status_code == 404
    assert local.web.get(f"{local.url}/v2/{name}/tags/list").json()["tags"] == ["release-1", "v2", "v3"]


def account(local: Local) -> str:
    data = local.ecr.get_authorization_token()["authorizationData"][0]
    return base64.b64decode(data["authorizationToken"]).decode()


def test_skopeo_pushes_and_pulls(local: Local, tmp_path: Path) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo, "this test needs skopeo: apt-get install skopeo"
    name = repository(local, "tools/skopeo")
    local.push(name, "v1", small("for skopeo"))
    there = f"docker://{local.url.removeprefix('http://')}/{name}"
    run = [skopeo, "--insecure-policy", "--tmpdir", str(tmp_path), "copy"]
    creds = account(local)
    subprocess.run(
        [*run, "--src-tls-verify=false", f"--src-creds={creds}", f"{there}:v1", f"dir:{tmp_path}/image"],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [*run, "--dest-tls-verify=false", f"--dest-creds={creds}", f"dir:{tmp_path}/image", f"{there}:v2"],
        check=True,
        capture_output=True,
    )
    (detail,) = local.ecr.describe_images(repositoryName=name)["imageDetails"]
    assert sorted(detail["imageTags"]) == ["v1", "v2"]
    refused = subprocess.run(
        [*run, "--dest-tls-verify=false", f"--dest-creds={creds}", f"dir:{tmp_path}/image", f"{there}-unknown:v2"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "does not exist" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="rootless podman needs sub-uids, which a bare test user has not")
def test_podman_pushes_and_pulls(local: Local, tmp_path: Path) -> None:
    name = repository(local, "tools/podman")
    (tmp_path / "note").write_text("from podman")
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY note /note\nCMD ["/note"]\n')
    there = f"{local.url.removeprefix('http://')}/{name}:v1"
    creds = ["--creds", account(local), "--tls-verify=false", "--quiet"]

    def podman(*arguments: str) -> str:
        done = subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        podman("build", "--quiet", "--tag", there, str(tmp_path))
        podman("push", *creds, there)
        podman("rmi", there)
        pulled = podman("pull", *creds, there)
        shown = podman("image", "inspect", "--format", "{{.Digest}}", pulled)
    finally:
        subprocess.run(["podman", "rmi", "--ignore", "--force", there], check=False, capture_output=True)
    (detail,) = local.ecr.describe_images(repositoryName=name)["imageDetails"]
    assert shown == detail["imageDigest"]
    assert local.registry.image(name, "v1").config["config"]["Cmd"] == ["/note"]
