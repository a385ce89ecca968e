"""The registry of the local ECR: what clients push is verified, kept over a crash, and shown by the control plane."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
import requests
from botocore.exceptions import ClientError
from lambda_bench import ACCOUNT, REGION, Layer, Local, layer

from scar.package.oci import OCI_MANIFEST

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


def small(text: str) -> Layer:
    return layer({"etc/note": text.encode()})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def repository(local: Local, name: str, **more: object) -> str:
    local.ecr.create_repository(repositoryName=name, **more)
    return name


def blobs(local: Local) -> set[str]:
    return {f"sha256:{path.name}" for path in (local.folder / "registry" / "blobs" / "sha256").iterdir()}


def test_a_client_must_log_in_with_the_token_that_ecr_hands_out(local: Local) -> None:
    data = local.ecr.get_authorization_token()["authorizationData"][0]
    assert data["proxyEndpoint"] == local.url
    refused = requests.get(f"{local.url}/v2/")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    user, _, secret = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    assert requests.get(f"{local.url}/v2/", auth=(user, secret)).status_code == 200
    assert requests.get(f"{local.url}/v2/", auth=(user, "guess")).status_code == 401
    assert requests.get(f"{local.url}/v2/", auth=("root", secret)).status_code == 401


def test_a_repository_that_ecr_does_not_have_is_unknown(local: Local) -> None:
    answer = local.web.post(f"{local.url}/v2/never/made/blobs/uploads/")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"


def test_a_blob_arrives_in_parts_and_is_read_back_whole_or_in_ranges(local: Local) -> None:
    name = repository(local, "parts/one")
    content = bytes(range(256)) * 1000
    where = local.web.post(f"{local.url}/v2/{name}/blobs/uploads/").headers["Location"]
    first = local.web.patch(local.url + where, data=content[:1000], headers={"Content-Range": "0-999"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-999")
    gap = local.web.patch(local.url + where, data=b"x", headers={"Content-Range": "5000-5000"})
    assert gap.status_code == 416
    streamed = local.web.patch(local.url + where, data=iter([content[1000:2000], content[2000:3000]]))
    assert streamed.headers["Range"] == "0-2999"
    assert local.web.get(local.url + where).headers["Range"] == "0-2999"
    done = local.web.put(local.url + where, params={"digest": digest_of(content)}, data=content[3000:])
    assert done.status_code == 201, done.text
    blob = f"{local.url}{done.headers['Location']}"
    head = local.web.head(blob)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
    assert local.web.get(blob).content == content
    part = local.web.get(blob, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    rest = local.web.get(blob, headers={"Range": "bytes=255990-"})
    assert rest.content == content[255990:]
    assert local.web.get(blob, headers={"Range": "bytes=999999-"}).status_code == 416


def test_a_blob_that_is_not_what_it_says_is_refused_and_leaves_nothing(local: Local) -> None:
    name = repository(local, "liar")
    before = blobs(local)
    where = local.web.post(f"{local.url}/v2/{name}/blobs/uploads/").headers["Location"]
    answer = local.web.put(local.url + where, params={"digest": digest_of(b"other")}, data=b"this")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert blobs(local) == before
    assert not list((local.folder / "registry" / "uploads").iterdir())
    evil = local.web.post(
        f"{local.url}/v2/{name}/blobs/uploads/", params={"digest": "sha256:../../../etc/x"}, data=b"x"
    )
    assert evil.status_code == 400


def test_a_blob_of_another_repository_is_mounted_without_sending_it(local: Local) -> None:
    source, target = repository(local, "mount/source"), repository(local, "mount/target")
    pushed = local.push_blob(source, b"shared content")
    local.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    mounted = local.web.post(
        f"{local.url}/v2/{target}/blobs/uploads/", params={"mount": pushed["digest"], "from": source}
    )
    assert mounted.status_code == 201
    absent = local.web.post(
        f"{local.url}/v2/{target}/blobs/uploads/", params={"mount": digest_of(b"no"), "from": source}
    )
    assert absent.status_code == 202


def test_a_pushed_image_is_what_ecr_shows(local: Local) -> None:
    name = repository(local, "shown")
    one = small("shown")
    digest = local.push(name, "v1", one)
    (detail,) = local.ecr.describe_images(repositoryName=name)["imageDetails"]
    assert (detail["imageDigest"], detail["imageTags"]) == (digest, ["v1"])
    assert detail["imageSizeInBytes"] == len(one.content)
    assert detail["imagePushedAt"]
    (image,) = local.ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])["images"]
    assert digest_of(image["imageManifest"].encode()) == digest
    assert image["imageId"]["imageDigest"] == digest
    assert local.ecr.list_images(repositoryName=name)["imageIds"] == [{"imageDigest": digest, "imageTag": "v1"}]
    for reference in ("v1", digest):
        manifest = local.web.get(f"{local.url}/v2/{name}/manifests/{reference}")
        assert (manifest.headers["Content-Type"], digest_of(manifest.content)) == (OCI_MANIFEST, digest)
        assert local.web.head(f"{local.url}/v2/{name}/manifests/{reference}").headers["Docker-Content-Digest"] == digest
    assert local.web.get(f"{local.url}/v2/{name}/tags/list").json() == {"name": name, "tags": ["v1"]}
    layers = local.ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[one.digest])["layers"]
    assert layers[0]["layerAvailability"] == "AVAILABLE"


def test_the_engine_finds_an_image_by_name_by_uri_by_tag_and_by_digest(local: Local) -> None:
    name = repository(local, "found/here")
    digest = local.push(name, "v1", small("found"))
    for place in (name, f"{HOST}/{name}"):
        for reference in ("v1", digest):
            assert local.registry.has(place, reference)
            assert local.registry.image(place, reference).digest == digest
    assert local.registry.image(name, "v1").config["config"]["Entrypoint"] == ["/bin/sh", "/bootstrap"]
    assert [path.is_file() for path in local.registry.image(name, "v1").layers] == [True]
    assert not local.registry.has(name, "v2")
    assert not local.registry.has(f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/{name}", "v1")
    assert not local.registry.has("found/nowhere", "v1")


def test_a_tag_that_moves_leaves_the_old_image_untagged(local: Local) -> None:
    name = repository(local, "moving")
    old, new = local.push(name, "latest", small("old")), local.push(name, "latest", small("new"))
    shown = {
        one["imageDigest"]: one.get("imageTags")
        for one in local.ecr.describe_images(repositoryName=name)["imageDetails"]
    }
    assert shown == {old: None, new: ["latest"]}
    assert local.registry.image(name, "latest").digest == new
    assert local.registry.has(name, old)
    assert local.push(name, "latest", small("new")) == new  # the same push again is fine


def test_an_immutable_tag_does_not_move(local: Local) -> None:
    name = repository(local, "fixed", imageTagMutability="IMMUTABLE")
    digest = local.push(name, "v1", small("one"))
    config = local.push_blob(name, json.dumps({"config": {}}).encode())
    other = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    url = f"{local.url}/v2/{name}/manifests/v1"
    refused = local.web.put(url, data=json.dumps(other), headers={"Content-Type": OCI_MANIFEST})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "TAG_INVALID")
    assert local.registry.image(name, "v1").digest == digest


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"not json", OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[]", OCI_MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2}', OCI_MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2, "config": {"digest": "x"}, "layers": []}', OCI_MANIFEST, "DIGEST_INVALID"),
        (b'{"schemaVersion": 2, "config": {}, "layers": []}', "text/plain", "MANIFEST_INVALID"),
        (
            b'{"schemaVersion": 2, "config": {"digest": "sha256:%s"}, "layers": []}' % (b"0" * 64),
            OCI_MANIFEST,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        (b" " * (4 * 1024 * 1024 + 1), OCI_MANIFEST, "MANIFEST_INVALID"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(local: Local, content: bytes, kind: str, code: str) -> None:
    if not local.ecr_has("picky"):
        repository(local, "picky")
    url = f"{local.url}/v2/picky/manifests/v1"
    refused = local.web.put(url, data=content, headers={"Content-Type": kind})
    assert refused.status_code in (400, 413)
    assert refused.json()["errors"][0]["code"] == code


def test_a_manifest_by_another_digest_is_refused(local: Local) -> None:
    name = repository(local, "mismatch")
    config = local.push_blob(name, b"{}")
    content = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
    url = f"{local.url}/v2/{name}/manifests/{digest_of(b'other')}"
    refused = local.web.put(url, data=content, headers={"Content-Type": OCI_MANIFEST})
    assert refused.json()["errors"][0]["code"] == "DIGEST_INVALID"


def test_a_deleted_image_takes_the_blobs_that_nobody_else_needs(local: Local) -> None:
    name = repository(local, "deleting")
    shared, first, second = small("shared by two"), small("first"), small("second")
    one = local.push(name, "one", shared, first)
    local.push(name, "two", shared, second)
    local.ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageDigest": one}])
    left = blobs(local)
    assert {shared.digest, second.digest} <= left
    assert not {one, first.digest} & left
    assert not local.registry.has(name, "one")
    with pytest.raises(ClientError, match="RepositoryNotEmpty"):
        local.ecr.delete_repository(repositoryName=name)
    local.ecr.delete_repository(repositoryName=name, force=True)
    assert not {shared.digest, second.digest} & blobs(local)


def test_put_image_gives_an_image_another_tag(local: Local) -> None:
    name = repository(local, "retagged")
    digest = local.push(name, "v1", small("retagged"))
    manifest = local.ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])["images"][0][
        "imageManifest"
    ]
    local.ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="v2")
    assert local.registry.image(name, "v2").digest == digest
    assert local.registry.image(name, "v1").digest == digest
    with pytest.raises(ClientError, match="ImageAlreadyExists"):
        local.ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="v2")
    unknown = json.loads(manifest)
    unknown["layers"][0]["digest"] = digest_of(b"never pushed")
    with pytest.raises(ClientError, match="LayersNotFound"):
        local.ecr.put_image(repositoryName=name, imageManifest=json.dumps(unknown), imageTag="v3")


def test_an_image_that_a_function_uses_runs_on_after_it_left_the_repository(local: Local) -> None:
    image = local.ensure_image("in-use")
    local.make("pinned", "echo 1 >/tmp/reply", image=image)
    local.ecr.batch_delete_image(repositoryName="in-use", imageIds=[{"imageDigest": image.partition("@")[2]}])
    assert local.invoke("pinned")["body"] == 1


def test_a_tag_is_resolved_when_the_function_is_made(local: Local) -> None:
    old = local.ensure_image("by-tag")
    local.make("by-tag", image=old.partition("@")[0] + ":latest")
    shown = local.lambda_.get_function(FunctionName="by-tag")
    assert shown["Code"]["ResolvedImageUri"] == old
    assert shown["Configuration"]["CodeSha256"] == old.partition("@sha256:")[2]
    new = local.push("by-tag", "latest", small("newer"))
    assert local.lambda_.get_function(FunctionName="by-tag")["Code"]["ResolvedImageUri"] == old
    local.lambda_.update_function_code(FunctionName="by-tag", ImageUri=old.partition("@")[0] + ":latest")
    assert local.lambda_.get_function(FunctionName="by-tag")["Code"]["ResolvedImageUri"].endswith(new)
