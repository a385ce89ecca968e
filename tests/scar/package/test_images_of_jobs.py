"""What jobs run: the function's own image, by the one tag that it bears; beside a zip too; and no image that has no agent in it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from faassupervisor import contract
from scar.aws.clients import Aws
from scar.aws.resources.repository import ImageVersion, Repository, image_tag
from scar.commands.code import made
from scar.commands.function_image import FunctionImage
from scar.design import Site, WithNodeImages
from scar.design.code import design as code_design
from scar.errors import ConflictError, UsageError
from scar.package import function_image
from scar.package.compress import gunzip
from scar.package.ecr import ecr_registry
from scar.report import Report, style_of
from scar.settings import Asked, Settings, settle
from tests.local.functions.lambda_bench import Local, reset_moto
from tests.scar.package.ecr_bench import HOST, aws_of, definition, push_image
from tests.support.small_images import image_of, oci_layout


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("aws")) as started:
        yield started
    reset_moto()


@pytest.fixture(scope="module")
def aws(local: Local) -> Aws:
    return aws_of(local)


@pytest.fixture
def image(tmp_path: Path, cache: Path) -> FunctionImage:
    quiet = style_of("table", quiet=True, out=io.StringIO(), err=io.StringIO(), environ={})
    derived = function_image(definition(tmp_path, "scratch"), cache=cache)
    return FunctionImage(derived, Report(quiet, io.StringIO(), io.StringIO()), cache)


def tags(local: Local, repository: str) -> dict[str, list[str]]:
    found = local.ecr.describe_images(repositoryName=repository)["imageDetails"]
    return {each["imageDigest"]: each.get("imageTags", []) for each in found}


def test_it_bears_its_tag_however_often_it_is_published(local: Local, aws: Aws, image: FunctionImage) -> None:
    local.ecr.create_repository(repositoryName="scar/tagged", imageTagMutability="IMMUTABLE")
    for _ in range(2):
        image.publish(aws, "scar/tagged")
    assert tags(local, "scar/tagged") == {image.digest: [image_tag(image.digest)]}
    assert ecr_registry(aws).manifest("scar/tagged", image_tag(image.digest)).digest == image.digest


def test_a_tag_that_names_another_image_is_never_taken_for_its_own(
    local: Local, aws: Aws, image: FunctionImage
) -> None:
    local.ecr.create_repository(repositoryName="scar/taken", imageTagMutability="IMMUTABLE")
    other = push_image(local, "scar/taken", image_tag(image.digest))
    with pytest.raises(ConflictError, match="immutable"):
        image.publish(aws, "scar/taken")
    assert tags(local, "scar/taken")[other] == [image_tag(image.digest)]


def spec_in(image: FunctionImage) -> contract.Spec:
    blob = image.image.layers[-1].blob
    with tarfile.open(fileobj=io.BytesIO(b"".join(gunzip(blob.open(), blob.descriptor.digest)))) as tar:
        member = tar.extractfile(contract.SPEC_PATH[1:])
        assert member is not None
        return contract.Spec.from_json(member.read())


def test_nodes_that_run_another_image_run_the_same_function_in_it(
    local: Local, aws: Aws, image: FunctionImage, tmp_path: Path, cache: Path
) -> None:
    """What a range names is anything that a function's own image may be; it gets the agent and the function, and keeps its own process."""
    oci_layout(image_of([], Env=["PATH=/opt/mpi/bin"], User="worker"), tmp_path / "workers")
    nodes = """\
    batch:
      multi_node_parallel:
        enabled: true
        number_nodes: 3
        node_ranges: [{nodes: "1:", image: "oci:workers"}, {nodes: 0, image: scratch}]
"""
    fn = definition(tmp_path, "scratch", f"      execution_mode: batch\n{nodes}")
    code = made(image.report, settings(cache), aws, fn)
    assert isinstance(code, WithNodeImages)
    own, workers = code.nodes["scratch"], code.nodes["oci:workers"]
    assert isinstance(workers, FunctionImage)
    assert isinstance(code.code, FunctionImage)
    assert own.digest == code.code.digest
    process = contract.ImageProcess(command=("/bin/sh",), environment={"PATH": "/opt/mpi/bin"}, user="worker")
    assert spec_in(workers) == replace(spec_in(code.code), image=process)
    resources = code_design(fn, Site.of(aws), code).made
    (repository,) = (each for each in resources if isinstance(each, Repository))
    repository.create(aws)
    for each in resources:
        if isinstance(each, ImageVersion):
            each.create(aws)
    wanted = {digest: [image_tag(digest)] for digest in (own.digest, workers.digest)}
    assert tags(local, "scar/grayify") == wanted
    assert repository.read(aws) == repository  # with the rules that keep both


def settings(cache: Path) -> Settings:
    return settle(Asked(local=True), {"SCAR_CACHE": str(cache), "HOME": "/nonexistent"})


def test_an_image_without_the_agent_hands_nothing_over_and_is_refused_for_jobs(
    local: Local, aws: Aws, image: FunctionImage, tmp_path: Path, cache: Path
) -> None:
    push_image(local, "base/theirs", "1")
    fn = definition(tmp_path, f"{HOST}/base/theirs:1", "        create_image: false\n")
    assert fn.jobs is None
    assert made(image.report, settings(cache), aws, fn)
    jobs = replace(fn, lambda_=replace(fn.lambda_, execution_mode="lambda-batch"))
    with pytest.raises(UsageError, match="agent is not in the image") as refused:
        made(image.report, settings(cache), aws, jobs)
    assert "execution_mode: lambda" in (refused.value.fix or "")
