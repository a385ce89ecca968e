"""What is ours in an account: found by name and by tag, never by a list kept elsewhere.

A user's buckets are not among it: whatever made them, they are the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.notification import Notification
from scar.aws.resources.permission import InvokePermission, invoking_buckets
from scar.aws.resources.repository import Repository
from scar.aws.resources.role import Role
from scar.aws.resources.state_bucket import StateBucket, marked_inputs
from scar.plan.observe import observe
from scar.plan.resource import Id, Resource


@dataclass(frozen=True, slots=True)
class Deployed:
    """One function of ours, as `ls` shows it.

    `inputs` and `outputs` are `bucket/folder`, or `provider://path` elsewhere than S3; a last `+3` stands for three more.
    """

    name: str
    arn: str
    memory_mib: int
    timeout_s: int
    image: str
    mode: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    modified: datetime


def functions(aws: Aws) -> tuple[Deployed, ...]:
    """Every function of ours in this region, by name. Calls: one per 100 of ours and, if there are any, one per 50 of all."""
    with mapped("list functions"):
        ours = _tagged(aws)
        if not ours:
            return ()
        pages = aws.lambda_.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 50})
        found = [
            _deployed(item, ours[item["FunctionArn"]])
            for page in pages
            for item in page["Functions"]
            if item["FunctionArn"] in ours
        ]
    return tuple(sorted(found, key=lambda function: function.name))


def owned(aws: Aws, name: str, buckets: Iterable[str] = ()) -> Mapping[Id, Resource]:
    """Everything of one function that is there and goes with it; empty: there is no such function.

    `buckets` are further input buckets to look into, from a definition file for instance.
    """
    state_bucket = names.state_bucket(aws.account, aws.region)
    with mapped(f"look for function {name}"):
        marked = marked_inputs(aws, state_bucket, name) or ()
        inputs = {*buckets, *marked, *invoking_buckets(aws, name)}
    wanted: list[Resource] = [*_fixed(aws, name, state_bucket)]
    wanted += [_notification(aws, name, bucket, state_bucket) for bucket in sorted(inputs)]
    found = observe(aws, wanted)
    return {key: resource for key, resource in found.items() if _goes(resource, name)}


def strays(aws: Aws, name: str, desired: Sequence[Resource]) -> tuple[Resource, ...]:
    """What an earlier definition of the function may have left: triggers of buckets that are no longer inputs, a role of ours.

    To be observed beside `desired`; what is there and not desired becomes a deletion.
    """
    state_bucket = names.state_bucket(aws.account, aws.region)
    with mapped(f"look for function {name}"):
        inputs = {*(marked_inputs(aws, state_bucket, name) or ()), *invoking_buckets(aws, name)}
    candidates: list[Resource] = [_role(aws, name)]
    for bucket in sorted(inputs):
        candidates += [_notification(aws, name, bucket, state_bucket), _permission(aws, name, bucket)]
    known = {resource.id for resource in desired}
    return tuple(resource for resource in candidates if resource.id not in known)


def _goes(resource: Resource, name: str) -> bool:
    """A log group that Lambda made for a function of somebody else's is not ours; a repository may be marked as kept."""
    match resource:
        case LogGroup():
            return dict(resource.tags).get(tags.FUNCTION) == name
        case Repository():
            return tags.KEEP not in dict(resource.tags)
        case _:
            return True


def _fixed(aws: Aws, name: str, state_bucket: str) -> Iterable[Resource]:
    """What every function has, under the names it always has; `read` fills in the rest."""
    role, log_group, repository = _role(aws, name), names.log_group(name), names.repository(name)
    base = f"arn:{aws.partition}:{{}}:{aws.region}:{aws.account}:"
    yield role
    yield LogGroup(log_group, base.format("logs") + f"log-group:{log_group}", None, ())
    yield Repository(repository, base.format("ecr") + f"repository/{repository}", name, None, None, ())
    yield StateBucket(state_bucket, name)
    yield LambdaFunction(
        name=name,
        arn=_function_arn(aws, name),
        image_uri="",
        role_arn="",
        memory_mib=0,
        timeout_s=0,
        tmp_mib=0,
        architecture="",
        description="",
        environment=(),
        tags=(),
        after=(role.id, Id("log group", log_group), Id("repository", repository), Id("state bucket", state_bucket)),
    )


def _role(aws: Aws, name: str) -> Role:
    return Role(names.role(name, aws.region), name, "", None, ())


def _permission(aws: Aws, name: str, bucket: str) -> InvokePermission:
    return InvokePermission(name, bucket, f"arn:{aws.partition}:s3:::{bucket}", aws.account)


def _notification(aws: Aws, name: str, bucket: str, state_bucket: str) -> Notification:
    return Notification(name, _function_arn(aws, name), bucket, (), state_bucket)


def _function_arn(aws: Aws, name: str) -> str:
    return f"arn:{aws.partition}:lambda:{aws.region}:{aws.account}:function:{name}"


def _tagged(aws: Aws) -> dict[str, Mapping[str, str]]:
    pages = aws.tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": tags.FUNCTION}],
        ResourceTypeFilters=["lambda:function"],
        PaginationConfig={"PageSize": 100},
    )
    return {
        item["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in item["Tags"]}
        for page in pages
        for item in page["ResourceTagMappingList"]
    }


def _deployed(config: Mapping[str, Any], said: Mapping[str, str]) -> Deployed:
    return Deployed(
        name=config["FunctionName"],
        arn=config["FunctionArn"],
        memory_mib=config["MemorySize"],
        timeout_s=config["Timeout"],
        image=" ".join(tags.unpacked(said.get(tags.IMAGE, ""))),
        mode=said.get(tags.MODE, "lambda"),
        inputs=tags.unpacked(said.get(tags.INPUT, "")),
        outputs=tags.unpacked(said.get(tags.OUTPUT, "")),
        modified=_moment(config["LastModified"]),
    )


def _moment(text: str) -> datetime:
    """`2026-11-21T12:00:00.000+0000`, as Lambda writes it."""
    return datetime.fromisoformat(text)
