"""Mode `lambda`: an image function, its role, log group and repository, and its buckets' notifications."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from scar.aws import names, tags
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.notification import Entry, Notification
from scar.aws.resources.permission import InvokePermission
from scar.aws.resources.repository import ImageVersion, Repository
from scar.aws.resources.role import Role, canonical
from scar.aws.resources.state_bucket import StateBucket
from scar.aws.resources.user_bucket import UserBucket
from scar.design import iam
from scar.design.site import FunctionImage, Site
from scar.errors import UsageError
from scar.fdl.model import Function, Io
from scar.plan.resource import Id, Resource

KEPT_IMAGES: Final = 10


def design(fn: Function, site: Site, image: FunctionImage) -> Iterable[Resource]:
    """Every resource of the function, in no particular order: `needs` has the order."""
    if fn.lambda_.runtime != "image":
        raise UsageError(
            f"runtime {fn.lambda_.runtime} is not available",
            where=fn.name,
            fix="Leave `runtime` out: the function then runs as a container image.",
        )
    role = _role(fn, site)
    log_group = _log_group(fn, site)
    repository = _repository(fn, site)
    version = ImageVersion(repository.name, image.digest, image, image.size)
    state = StateBucket(names.state_bucket(site.account, site.region), fn.name, _input_buckets(fn))
    made: list[Resource] = [log_group, repository, version, state, *([role] if role else [])]
    function = _function(fn, site, version, tuple(resource.id for resource in made))
    return [*made, function, *_buckets(fn, state.name), *_triggers(fn, site, state.name)]


def _role(fn: Function, site: Site) -> Role | None:
    """None when the definition names one to use."""
    if fn.iam.role is not None:
        return None
    return Role(
        name=names.role(fn.name, site.region),
        function=fn.name,
        trust=canonical(iam.lambda_trust()),
        policy=canonical(iam.lambda_policy(fn, site)),
        tags=tags.of_function(fn.name, fn.lambda_.tags),
    )


def _role_arn(fn: Function, site: Site) -> str:
    given = fn.iam.role
    if given is None:
        return site.role_arn(names.role(fn.name, site.region))
    if not given.startswith("arn:"):
        return site.role_arn(given)
    account = given.split(":")[4]
    if account != site.account:
        raise UsageError(
            f"iam.role is of account {account}, but the function would be made in account {site.account}",
            where=fn.name,
            fix="Name a role of this account, leave `iam.role` out, or use the other account's profile.",
        )
    return given


def _log_group(fn: Function, site: Site) -> LogGroup:
    name = names.log_group(fn.name)
    return LogGroup(
        name=name,
        arn=site.arn("logs", f"log-group:{name}"),
        retention_days=fn.cloudwatch.log_retention_policy_in_days,
        tags=tags.of_function(fn.name, fn.lambda_.tags),
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


def _lifecycle() -> dict[str, Any]:
    """Keep the last few images: the newest is the one the function runs, those before it are what one may go back to."""
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": f"the last {KEPT_IMAGES} images",
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES},
                "action": {"type": "expire"},
            }
        ]
    }


def _function(fn: Function, site: Site, version: ImageVersion, after: tuple[Id, ...]) -> LambdaFunction:
    settings = fn.lambda_
    return LambdaFunction(
        name=fn.name,
        arn=site.arn("lambda", f"function:{fn.name}"),
        image_uri=f"{site.registry}/{version.repository}@{version.digest}",
        role_arn=_role_arn(fn, site),
        memory_mib=settings.memory,
        timeout_s=settings.timeout,
        tmp_mib=settings.ephemeral_storage,
        architecture=settings.architecture,
        description=settings.description,
        environment=tuple(sorted(settings.environment.items())),
        tags=tags.of_function(fn.name, settings.tags, _listing(fn)),
        after=after,
    )


def _listing(fn: Function) -> dict[str, str]:
    """What `ls` shows and AWS does not list otherwise."""
    container = fn.lambda_.container
    image = container.image or (container.image_file.name if container.image_file else "")
    shown = {
        tags.MODE: fn.lambda_.execution_mode,
        tags.IMAGE: tags.packed([image]) if image else "",
        tags.INPUT: tags.packed([_place(item) for item in fn.lambda_.input]),
        tags.OUTPUT: tags.packed([_place(item) for item in fn.lambda_.output]),
    }
    return {key: value for key, value in shown.items() if value}


def _place(item: Io) -> str:
    return item.path if item.storage_provider == "s3" else f"{item.storage_provider}://{item.path}"


def _s3(items: Iterable[Io]) -> Iterable[Io]:
    return (item for item in items if iam.is_s3(item))


def _input_buckets(fn: Function) -> tuple[str, ...]:
    return tuple(sorted({item.bucket for item in _s3(fn.lambda_.input)}))


def _buckets(fn: Function, state_bucket: str) -> Iterable[UserBucket]:
    inputs = _input_buckets(fn)
    outputs = {item.bucket for item in _s3(fn.lambda_.output)}
    return [UserBucket(name, state_bucket, local=name in inputs) for name in sorted({*inputs, *outputs})]


def _triggers(fn: Function, site: Site, state_bucket: str) -> Iterable[Resource]:
    for bucket in _input_buckets(fn):
        folders = {item.folder for item in _s3(fn.lambda_.input) if item.bucket == bucket}
        yield InvokePermission(fn.name, bucket, site.bucket_arn(bucket), site.account)
        yield Notification(
            function=fn.name,
            function_arn=site.arn("lambda", f"function:{fn.name}"),
            bucket=bucket,
            entries=tuple(sorted(Entry(prefix) for prefix in _prefixes(folders))),
            state_bucket=state_bucket,
        )


def _prefixes(folders: Iterable[str]) -> set[str]:
    """`folder/` each, '' for the whole bucket. S3 refuses overlaps, so a folder inside another is left to the outer one."""
    prefixes = {f"{folder}/" if folder else "" for folder in folders}
    return {inner for inner in prefixes if not any(inner.startswith(outer) for outer in prefixes - {inner})}
