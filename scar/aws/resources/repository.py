"""The private ECR repository of one function, and the one image in it that the function is to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.role import canonical
from scar.aws.tags import Pairs
from scar.plan.resource import Id


@dataclass(frozen=True, slots=True)
class Repository:
    """Tags never move and every push is scanned. `lifecycle` and `policy` are canonical JSON.

    Old images are left to the lifecycle rule: nothing that a function may still be running is ever deleted here.
    """

    name: str
    arn: str
    function: str
    lifecycle: str | None
    policy: str | None
    tags: Pairs
    immutable: bool = True
    scan_on_push: bool = True

    @property
    def id(self) -> Id:
        return Id("repository", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return ()

    def read(self, aws: Aws) -> Repository | None:
        try:
            repository = aws.ecr.describe_repositories(repositoryNames=[self.name])["repositories"][0]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        found = tags.pairs_of(aws.ecr.list_tags_for_resource(resourceArn=self.arn)["tags"])
        tags.ours_only(found, f"repository {self.name}", self.function)
        scanning: Mapping[str, Any] = repository.get("imageScanningConfiguration") or {}
        return Repository(
            name=self.name,
            arn=self.arn,
            function=self.function,
            lifecycle=_document(lambda: aws.ecr.get_lifecycle_policy(repositoryName=self.name)["lifecyclePolicyText"]),
            policy=_without_lambdas_own(
                _document(lambda: aws.ecr.get_repository_policy(repositoryName=self.name)["policyText"])
            ),
            tags=found,
            immutable=repository.get("imageTagMutability") == "IMMUTABLE",
            scan_on_push=bool(scanning.get("scanOnPush", False)),
        )

    def present(self, aws: Aws) -> Repository | None:
        """As `read`, for half the calls and without a complaint: itself with its tags when it is there and ours, else None.

        A function that is a zip, or an image from elsewhere, has no repository: one of that name may be anybody's.
        """
        try:
            found = tags.pairs_of(aws.ecr.list_tags_for_resource(resourceArn=self.arn)["tags"])
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return replace(self, tags=found) if tags.is_ours(found, self.function) else None

    def create(self, aws: Aws) -> None:
        try:
            aws.ecr.create_repository(
                repositoryName=self.name,
                imageTagMutability="IMMUTABLE" if self.immutable else "MUTABLE",
                imageScanningConfiguration={"scanOnPush": self.scan_on_push},
                tags=tags.key_values(self.tags),
            )
        except ClientError as error:
            if code_of(error) != "RepositoryAlreadyExistsException":
                raise
        self._put_lifecycle(aws)
        self._put_policy(aws)

    def update(self, aws: Aws, actual: Repository) -> None:
        if actual.immutable != self.immutable:
            mutability = "IMMUTABLE" if self.immutable else "MUTABLE"
            aws.ecr.put_image_tag_mutability(repositoryName=self.name, imageTagMutability=mutability)  # type: ignore[arg-type]  # a Literal, by the line above
        if actual.scan_on_push != self.scan_on_push:
            scanning = {"scanOnPush": self.scan_on_push}
            aws.ecr.put_image_scanning_configuration(repositoryName=self.name, imageScanningConfiguration=scanning)  # type: ignore[arg-type]  # a TypedDict, by the line above
        if actual.lifecycle != self.lifecycle:
            self._put_lifecycle(aws)
        if actual.policy != self.policy:
            self._put_policy(aws)
        if actual.tags != self.tags:
            aws.ecr.tag_resource(resourceArn=self.arn, tags=tags.key_values(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.ecr.untag_resource(resourceArn=self.arn, tagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        """The images go with it: they are derived, and Lambda keeps its own copy of one that is in use."""
        try:
            aws.ecr.delete_repository(repositoryName=self.name, force=True)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _put_lifecycle(self, aws: Aws) -> None:
        if self.lifecycle is not None:
            aws.ecr.put_lifecycle_policy(repositoryName=self.name, lifecyclePolicyText=self.lifecycle)

    def _put_policy(self, aws: Aws) -> None:
        if self.policy is not None:
            aws.ecr.set_repository_policy(repositoryName=self.name, policyText=self.policy)


def image_tag(digest: str) -> str:
    """The tag that each image of ours bears, since Batch's API documents no `@digest` for the image of a plain job definition.

    Repositories of ours are immutable, so it names this digest for ever. Source: botocore batch:ContainerProperties.image.
    """
    return digest.removeprefix("sha256:")[:32]


class Publishable(Protocol):
    """What an image must be able to do: `scar.design.FunctionImage` is one. It is published under its digest and its `image_tag`."""

    def publish(self, aws: Aws, repository: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """One image of a repository, named by the digest of its manifest: it is there or it is not, and never changes."""

    repository: str
    digest: str
    source: Publishable = field(compare=False, repr=False)
    size: int = field(default=0, compare=False)

    @property
    def id(self) -> Id:
        return Id("image", f"{self.repository}@{self.digest[:19]}")

    @property
    def needs(self) -> tuple[Id, ...]:
        return (self.within,)

    @property
    def within(self) -> Id:
        return Id("repository", self.repository)

    @property
    def note(self) -> str:
        return f"{self.size / 1_000_000:.1f} MB" if self.size else ""

    def read(self, aws: Aws) -> ImageVersion | None:
        try:
            aws.ecr.describe_images(repositoryName=self.repository, imageIds=[{"imageDigest": self.digest}])
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return self

    def create(self, aws: Aws) -> None:
        self.source.publish(aws, self.repository)

    def update(self, aws: Aws, actual: ImageVersion) -> None:
        """Nothing to do: equal digests are equal images."""

    def delete(self, aws: Aws) -> None:
        """It goes with its repository, or by the repository's lifecycle rule."""


def _without_lambdas_own(policy: str | None) -> str | None:
    """Lambda may add a statement to the policy when a function is made; it is neither ours nor a difference."""
    if policy is None:
        return None
    document = json.loads(policy)
    kept = [item for item in document["Statement"] if item.get("Sid") != "LambdaECRImageRetrievalPolicy"]
    return canonical({**document, "Statement": kept})


def _document(ask: Callable[[], str]) -> str | None:
    try:
        return canonical(ask())
    except ClientError as error:
        if is_absent(error):
            return None
        raise
