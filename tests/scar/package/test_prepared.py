"""`create_image: false`: an image that is in ECR already is run as it is, after it was looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.aws.clients import Aws
from scar.errors import ConflictError, NotFoundError, ScarError, UsageError
from scar.fdl.model import Function
from scar.package import function_image, oci
from scar.package.agent import host_architecture
from scar.package.ecr import ecr_registry
from scar.package.prepared import PreparedImage, prepared_image
from scar.package.registry.push import push
from tests.local.functions.lambda_bench import REGION, Local, reset_moto
from tests.scar.package.ecr_bench import HOST, aws_of, definition, push_image, push_manifest

PREPARED = "        create_image: false\n"
MORE = "        environment: {Variables: {COLOUR: blue, TOKEN: s3cr3t}}\n        timeout_threshold: 20\n"
OTHER = "arm64" if host_architecture() == "amd64" else "amd64"
REPOSITORY = "team/prepared"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("aws")) as started:
        started.ecr.create_repository(repositoryName=REPOSITORY)
        yield started
    reset_moto()


@pytest.fixture(scope="module")
def aws(local: Local) -> Aws:
    return aws_of(local)


@pytest.fixture(scope="module")
def ours(aws: Aws, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> oci.Image:
    """A function's image, pushed as `v1` by somebody with the definition below."""
    fn = definition(tmp_path_factory.mktemp("definition"), "scratch", MORE)
    image = function_image(fn, cache=cache)
    push(image, ecr_registry(aws), REPOSITORY, tag="v1")
    return image


def wanted(folder: Path, image: str, lines: str = MORE, *, script: str = "echo hello\n") -> Function:
    return definition(folder, image, PREPARED + lines, script=script)


def looked_at(folder: Path, aws: Aws, image: str) -> PreparedImage:
    return prepared_image(wanted(folder, image), aws)


def test_an_image_that_was_made_for_this_definition_is_run_by_its_digest(
    ours: oci.Image, aws: Aws, tmp_path: Path
) -> None:
    for name in (f"{HOST}/{REPOSITORY}:v1", f"{HOST}/{REPOSITORY}@{ours.digest}"):
        assert looked_at(tmp_path, aws, name) == PreparedImage(
            uri_by_digest=f"{HOST}/{REPOSITORY}@{ours.digest}", digest=ours.digest, size=ours.size, has_agent=True
        )


@pytest.mark.usefixtures("ours")
def test_what_differs_from_the_definition_is_named_key_by_key_and_never_with_its_value(
    aws: Aws, tmp_path: Path
) -> None:
    lines = "        environment: {Variables: {COLOUR: red, TOKEN: s3cr3t, SIZE: big}}\n        timeout_threshold: 30\n"
    with pytest.raises(ConflictError) as refused:
        prepared_image(wanted(tmp_path, f"{HOST}/{REPOSITORY}:v1", lines, script="echo bye\n"), aws)
    message = str(refused.value)
    assert (
        "container.timeout_threshold, container.environment.COLOUR, container.environment.SIZE, init_script differ"
        in message
    )
    assert "scar image push -f" in message
    assert "TOKEN" not in message
    assert "blue" not in message


def test_an_image_of_somebody_else_is_run_with_a_warning(local: Local, aws: Aws, tmp_path: Path) -> None:
    digest = push_image(local, REPOSITORY, "foreign", Cmd=["handler"])
    image = looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:foreign")
    assert (image.digest, image.has_agent) == (digest, False)
    (warning,) = image.warnings
    assert "SCAR's agent is not in this image" in warning


def test_an_image_that_lambda_cannot_start_is_refused(local: Local, aws: Aws, tmp_path: Path) -> None:
    push_image(local, REPOSITORY, "empty", Entrypoint=None)
    with pytest.raises(ScarError, match="neither ENTRYPOINT nor CMD"):
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:empty")
    push_image(local, REPOSITORY, "other-processor", architecture=OTHER)
    with pytest.raises(ScarError, match=f"is for linux/{OTHER}, the function for linux/{host_architecture()}"):
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:other-processor")
    push_image(local, REPOSITORY, "zstd", layer_type="application/vnd.oci.image.layer.v1.tar+zstd")
    with pytest.raises(ScarError, match="gzip-compressed layers only") as refused:
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:zstd")
    assert "create_image: true" in str(refused.value)


def test_an_index_is_refused_with_the_digest_to_name(local: Local, aws: Aws, tmp_path: Path) -> None:
    children = {name: push_image(local, REPOSITORY, f"only-{name}", architecture=name) for name in ("amd64", "arm64")}
    index = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": [
            {"mediaType": oci.OCI_MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
            for name, digest in children.items()
        ],
    }  # fmt: skip
    push_manifest(local, REPOSITORY, "all", index)
    with pytest.raises(UsageError, match="an index of images") as refused:
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:all")
    named = f"{HOST}/{REPOSITORY}@{children[host_architecture()]}"
    assert f"image: {named}" in str(refused.value)
    assert looked_at(tmp_path, aws, named).digest == children[host_architecture()]


def test_an_attestation_is_no_image(local: Local, aws: Aws, tmp_path: Path) -> None:
    push_image(local, REPOSITORY, "provenance", architecture="unknown", system="unknown")
    with pytest.raises(ScarError, match="attestation"):
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:provenance")
    push_image(local, REPOSITORY, "chart", config_type="application/vnd.cncf.helm.config.v1+json")
    with pytest.raises(ScarError, match="not a container image"):
        looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}:chart")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (HOST.replace(REGION, "eu-west-1") + "/x:1", "is in eu-west-1, the function is made in us-east-1"),
        ("ubuntu:24.04", "private ECR repositories only"),
        ("public.ecr.aws/lambda/python:3.13", "private ECR repositories only"),
        ("containers-storage:localhost/x", "needs an image that is in ECR"),
        ("oci:layout:v1", "needs an image that is in ECR"),
        ("scratch", "private ECR repositories only"),
    ],
)
def test_only_images_of_this_regions_ecr_can_be_run_as_they_are(
    aws: Aws, tmp_path: Path, image: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        prepared_image(naming(wanted(tmp_path, f"{HOST}/x:1"), image), aws)


def naming(fn: Function, image: str) -> Function:
    """Another image than the definition language would let through."""
    container = dataclasses.replace(fn.lambda_.container, image=image)
    return dataclasses.replace(fn, lambda_=dataclasses.replace(fn.lambda_, container=container))


@pytest.mark.parametrize("name", [f"{REPOSITORY}:none", "team/none:1", f"{REPOSITORY}@sha256:{'0' * 64}"])
def test_an_image_that_is_not_there_is_told_before_anything_is_made(aws: Aws, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="ECR has no such image") as missing:
        looked_at(tmp_path, aws, f"{HOST}/{name}")
    assert "scar image push -f" in str(missing.value)


def test_nothing_is_derived_from_a_prepared_image(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as it is"):
        function_image(wanted(tmp_path, f"{HOST}/x:1"), cache=cache)


def test_looking_changes_nothing(ours: oci.Image, local: Local, aws: Aws, tmp_path: Path) -> None:
    before = local.ecr.describe_images(repositoryName=REPOSITORY)["imageDetails"]
    looked_at(tmp_path, aws, f"{HOST}/{REPOSITORY}@{ours.digest}")
    assert local.ecr.describe_images(repositoryName=REPOSITORY)["imageDetails"] == before
    assert [found["repositoryName"] for found in local.ecr.describe_repositories()["repositories"]] == [REPOSITORY]


def test_an_image_in_the_repository_of_the_function_itself_is_told_to_go_with_it(
    ours: oci.Image, local: Local, aws: Aws, tmp_path: Path
) -> None:
    local.ecr.create_repository(repositoryName="scar/grayify")
    push(ours, ecr_registry(aws), "scar/grayify", tag="v1")
    (warning,) = looked_at(tmp_path, aws, f"{HOST}/scar/grayify:v1").warnings
    assert "goes with it when the function is removed" in warning
    assert "--to" in warning
    local.ecr.delete_repository(repositoryName="scar/grayify", force=True)
