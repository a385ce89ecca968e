"""What a function runs, as resources: a repository and an image, objects in a bucket, or nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from scar import limits
from scar.aws import names, tags
from scar.aws.resources.code import Code, ImageCode, ZipCode
from scar.aws.resources.code_objects import CodeObject, CodeObjects
from scar.aws.resources.repository import ImageVersion, Repository, image_tag
from scar.aws.resources.role import canonical
from scar.design import iam
from scar.design.site import FunctionImage, FunctionZip, Made, PreparedImage, Site, WithNodeImages, ZipAndJobImage
from scar.fdl.model import Function
from scar.plan.resource import Resource

KEPT_IMAGES: Final = 10
WRAPPER: Final = "/var/task/scar-bootstrap"


@dataclass(frozen=True, slots=True)
class Design:
    """The part of a design that depends on what a function's code is made of.

    `runtime`, `layers` and `variables` are what the function is given because of it, `bucket` is where its code lies in S3, and
    `readable` what its role must be able to read (an ARN). `job_image` is the image of its jobs, as a job definition names it,
    `node_images` those of nodes that run another (by what the definition calls it), and `job_repository` the ARN of the repository that
    they are in.
    """

    code: Code
    made: tuple[Resource, ...] = ()
    runtime: str = ""
    layers: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    bucket: str | None = None
    readable: str | None = None
    job_image: str = ""
    node_images: Mapping[str, str] = field(default_factory=dict)
    job_repository: str = ""
    note: str = ""


def design(fn: Function, site: Site, made: Made) -> Design:
    """A function's code as resources. What was made of it decides, not what the definition says."""
    if isinstance(made, WithNodeImages):
        return _with_nodes(fn, site, made)
    if isinstance(made, ZipAndJobImage):
        zip_, image = _zip(fn, site, made.code), _image(fn, site, made.job_image)
        return replace(
            zip_, made=(*zip_.made, *image.made), job_image=image.job_image, job_repository=image.job_repository
        )
    if isinstance(made, FunctionZip):
        return _zip(fn, site, made)
    if isinstance(made, FunctionImage):
        return _image(fn, site, made)
    return _prepared(fn, site, made)


def _image(fn: Function, site: Site, image: FunctionImage) -> Design:
    repository = _repository(fn, site)
    version = ImageVersion(repository.name, image.digest, image, image.size)
    uri = f"{site.registry}/{repository.name}"
    return Design(
        ImageCode(f"{uri}@{image.digest}"),
        (repository, version),
        job_image=f"{uri}:{image_tag(image.digest)}",
        job_repository=repository.arn,
    )


def _with_nodes(fn: Function, site: Site, made: WithNodeImages) -> Design:
    """The images of nodes lie in the function's repository, and stay there as long as its definition names them."""
    code = design(fn, site, made.code)
    name = names.repository(fn.name)
    tags_ = {called: image_tag(image.digest) for called, image in made.nodes.items()}
    own = code.job_image.rpartition(":")[2]
    lifecycle = canonical(_lifecycle(sorted({own, *tags_.values()})))
    there = {resource.id for resource in code.made}
    versions = {
        version.id: version
        for version in (ImageVersion(name, image.digest, image, image.size) for image in made.nodes.values())
        if version.id not in there
    }
    return replace(
        code,
        made=(
            *(replace(each, lifecycle=lifecycle) if isinstance(each, Repository) else each for each in code.made),
            *versions.values(),
        ),
        node_images={called: f"{site.registry}/{name}:{tag}" for called, tag in tags_.items()},
    )


def _prepared(fn: Function, site: Site, image: PreparedImage) -> Design:
    """Jobs name the image as the definition does: by its tag, and by its digest only when it has no tag (see `image_tag`)."""
    found = re.fullmatch(limits.ECR_IMAGE_PATTERN, image.uri_by_digest.partition("@")[0])
    repository = image.uri_by_digest.partition("/")[2].partition("@")[0]
    name, _, digest = (fn.lambda_.container.image or "").removeprefix("docker://").partition("@")
    where = (found["region"] or found["dual"], found["account"]) if found else (site.region, site.account)
    return Design(
        ImageCode(image.uri_by_digest),
        job_image=name if ":" in name.rpartition("/")[2] or not digest else f"{name}@{digest}",
        job_repository=f"arn:{site.partition}:ecr:{where[0]}:{where[1]}:repository/{repository}",
        note="an image that is there already",
    )


def _zip(fn: Function, site: Site, code: FunctionZip) -> Design:
    settings = fn.lambda_
    prefix = names.code_prefix(site.account, fn.name)
    objects: tuple[CodeObjects, ...] = ()
    place = readable = None
    if code.bucket is not None:
        stored = tuple(CodeObject(item.name, item.size, item.open) for item in code.objects)
        state = names.state_bucket(site.account, site.region)
        objects = (CodeObjects(fn.name, code.bucket, prefix, state, stored, code.watch),)
        place = (code.bucket, prefix + code.zip_name) if code.zip_name else None
        readable = f"{site.bucket_arn(code.bucket)}/{prefix}*"
    return Design(
        code=ZipCode(code.sha256, code.content, place),
        made=objects,
        runtime=limits.LAMBDA_PYTHON if settings.runtime in limits.LAMBDA_PYTHON_DEPRECATED else settings.runtime,
        layers=settings.layers,
        variables={limits.LAMBDA_WRAPPER_VARIABLE: WRAPPER},
        bucket=code.bucket,
        readable=readable,
        note=f"zip of {code.size / 1_000_000:.1f} MB; {code.runs}",
    )


def _repository(fn: Function, site: Site) -> Repository:
    name = names.repository(fn.name)
    keep = {} if fn.ecr.delete_image else {tags.KEEP: "true"}
    return Repository(
        name=name,
        arn=site.arn("ecr", f"repository/{name}"),
        function=fn.name,
        lifecycle=canonical(_lifecycle()),
        policy=canonical(iam.ecr_pull(site, fn.name)),
        tags=tags.of_function(fn.name, fn.lambda_.tags, keep),
    )


def _lifecycle(kept: Sequence[str] = ()) -> dict[str, Any]:
    """Keep the last few images: the newest is the one the function runs, those before it are what one may go back to.

    Those with the tags `kept` stay, however old they are: what a rule selects, no later one expires
    (AmazonECR/latest/userguide/LifecyclePolicies).
    """
    ages = {"countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES}
    last = (f"the last {KEPT_IMAGES} images", {"tagStatus": "any", **ages})
    one = {**ages, "countNumber": 1}
    staying = [("of jobs", {"tagStatus": "tagged", "tagPrefixList": [tag], **one}) for tag in kept]
    return {
        "rules": [
            {"rulePriority": number, "description": told, "selection": selection, "action": {"type": "expire"}}
            for number, (told, selection) in enumerate([*staying, last], 1)
        ]
    }
