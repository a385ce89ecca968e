"""A function's image is known in its repository by its digest, and by the one tag that its jobs name it by."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.aws.clients import Aws
from scar.aws.resources.repository import image_tag
from scar.commands.function_image import FunctionImage
from scar.errors import ConflictError
from scar.package import function_image
from scar.package.ecr import ecr_registry
from scar.report import Report, style_of
from tests.local.functions.lambda_bench import Local, reset_moto
from tests.scar.package.ecr_bench import aws_of, definition, push_image


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
    made = function_image(definition(tmp_path, "scratch"), cache=cache)
    return FunctionImage(made, Report(quiet, io.StringIO(), io.StringIO()), cache)


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
