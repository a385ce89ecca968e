"""What is ours in an account: found by name and by tag, never by a list kept elsewhere.

A user's buckets are not among it: whatever made them, they are the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from scar.aws import names, tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.aws.resources import secret_parameter, unfinished_jobs
from scar.aws.resources.code_objects import CodeObjects, OldCode
from scar.aws.resources.failure_rule import FailureRule
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.invoke_config import InvokeConfig
from scar.aws.resources.job_definition import JobDefinition, OldDefinitions
from scar.aws.resources.job_queue import JobQueue
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.notification import Notification
from scar.aws.resources.permission import InvokePermission, invoking_buckets
from scar.aws.resources.repository import Repository
from scar.aws.resources.role import Role
from scar.aws.resources.secret_parameter import SecretParameter
from scar.aws.resources.state_bucket import Mark, StateBucket, mark
from scar.plan import owned_batch, owned_http
from scar.plan.observe import observe
from scar.plan.resource import Id, Resource

# What else a function may have, one line a kind: what to look for, by name or by tag, given the clients and the function's name. What is there and
# ours goes with the function, and what is there and no longer wanted goes when the function is brought up to date.
FURTHER: Final[tuple[Callable[[Aws, str], Iterable[Resource]], ...]] = ()


def owned(aws: Aws, name: str, buckets: Iterable[str] = ()) -> Mapping[Id, Resource]:
    """Everything of one function that is there and goes with it; empty: there is no such function.

    `buckets` are further input buckets to look into, from a definition file for instance. Batch is asked where the function's mark says
    that it has, or had, something there, and where there is no mark that could say so.
    """
    state_bucket = names.state_bucket(aws.account, aws.region)
    with mapped(f"look for function {name}"):
        state = StateBucket(state_bucket, name).present(aws)
        repository = _repository(aws, name).present(aws)
        inputs = {*buckets, *(state.inputs if state else ()), *invoking_buckets(aws, name)}
        places = state.batch if state is not None and state.marked else owned_batch.own_places(name)
        jobs = owned_batch.resources(aws, name, places) if places else ()
        known = state.credentials if state and state.marked else secret_parameter.found_by_path(aws, name)
        kinds = state.endpoints if state and state.marked else owned_http.KINDS
        further = [*_further(aws, name, state_bucket, known), *owned_http.resources(aws, name, kinds)]
    notifications = [_notification(aws, name, bucket, state_bucket) for bucket in sorted(inputs)]
    code = [_old_code(aws, name, bucket, state_bucket) for bucket in (state.code if state else ())]
    # What runs jobs is needed by the function, which submits them: so it goes after it.
    after = [*code, *(resource for resource in jobs if not isinstance(resource, (InvokeConfig, FailureRule)))]
    function = _function(aws, name, state_bucket, after)
    found = dict(
        observe(aws, [_role(aws, name), _log_group(aws, name), function, *notifications, *code, *jobs, *further])
    )
    found |= {resource.id: resource for resource in (state, repository) if resource is not None}
    return {key: resource for key, resource in found.items() if _goes(resource, name)}


def strays(aws: Aws, name: str, desired: Sequence[Resource]) -> tuple[Resource, ...]:
    """What an earlier definition may have left: triggers of buckets that are no longer inputs, a role of ours, code and jobs' definitions
    that are run no more, places of Batch that it has left.

    To be observed beside `desired`; what is there and not desired becomes a deletion.
    """
    state_bucket = names.state_bucket(aws.account, aws.region)
    with mapped(f"look for function {name}"):
        marked = mark(aws, state_bucket, name) or Mark()
        inputs = {*marked.inputs, *invoking_buckets(aws, name)}
        jobs = owned_batch.resources(aws, name, marked.batch) if marked.batch else ()
        candidates: list[Resource] = [_role(aws, name), *_further(aws, name, state_bucket, marked.credentials)]
        candidates += owned_http.resources(aws, name, marked.endpoints)
    for bucket in sorted(inputs):
        candidates += [_notification(aws, name, bucket, state_bucket), _permission(aws, name, bucket)]
    wanted = [resource for resource in desired if isinstance(resource, CodeObjects)]
    for bucket in marked.code:
        keep = frozenset(key for resource in wanted if resource.bucket == bucket for key in resource.keys)
        candidates.append(_old_code(aws, name, bucket, state_bucket, keep))
    definitions = frozenset(resource.name for resource in desired if isinstance(resource, JobDefinition))
    if definitions or marked.batch:
        # A queue that running jobs keep from going keeps what they need through these: their roles first of all.
        needed = next((resource.needs for resource in jobs if isinstance(resource, OldDefinitions)), ())
        candidates.append(owned_batch.old_definitions(name, definitions, after=tuple(needed)))
    # The log of the jobs that were stays until the function goes.
    candidates += [resource for resource in jobs if not isinstance(resource, (LogGroup, OldDefinitions))]
    known = {resource.id for resource in desired}
    return tuple(resource for resource in candidates if resource.id not in known)


def stopping(found: Mapping[Id, Resource]) -> Mapping[Id, Resource]:
    """The same, but that jobs which have not finished are ended where their queue goes."""
    return {
        key: replace(resource, stop_jobs=True) if isinstance(resource, JobQueue) else resource
        for key, resource in found.items()
    }


def refuse_unfinished(aws: Aws, name: str, found: Mapping[Id, Resource], *, scar: str = "scar") -> None:
    """ConflictError if jobs that have not finished would hold the function's queue. `scar` is how the user calls us."""
    for resource in found.values():
        if isinstance(resource, JobQueue):
            with mapped(f"list the jobs of {name}"):
                unfinished_jobs.refuse(resource.unfinished(aws), name, scar=scar)


def _further(aws: Aws, name: str, state_bucket: str, credentials: Iterable[str]) -> tuple[Resource, ...]:
    marks = (Id("state bucket", state_bucket),)
    secrets = tuple(SecretParameter(each, name, after=marks) for each in credentials)
    return (*secrets, *(resource for find in FURTHER for resource in find(aws, name)))


def _goes(resource: Resource, name: str) -> bool:
    """A log group that Lambda made for somebody else's function is not ours; a repository may be marked as kept."""
    match resource:
        case LogGroup():
            return dict(resource.tags).get(tags.FUNCTION) == name
        case Repository():
            return tags.KEEP not in dict(resource.tags)
        case _:
            return True


def _function(aws: Aws, name: str, state_bucket: str, after: Iterable[Resource]) -> LambdaFunction:
    """By name and by what goes after it; `read` fills in the rest."""
    return LambdaFunction(
        name=name,
        arn=_function_arn(aws, name),
        code=None,
        role_arn="",
        memory_mib=0,
        timeout_s=0,
        tmp_mib=0,
        architecture="",
        description="",
        environment=(),
        tags=(),
        after=(
            Id("role", names.role(name, aws.region)),
            Id("log group", names.log_group(name)),
            Id("repository", names.repository(name)),
            Id("state bucket", state_bucket),
            *(resource.id for resource in after),
        ),
    )


def _old_code(aws: Aws, name: str, bucket: str, state_bucket: str, keep: frozenset[str] = frozenset()) -> OldCode:
    return OldCode(bucket, names.code_prefix(aws.account, name), state_bucket, keep)


def _log_group(aws: Aws, name: str) -> LogGroup:
    group = names.log_group(name)
    return LogGroup(group, _arn(aws, "logs", f"log-group:{group}"), None, ())


def _repository(aws: Aws, name: str) -> Repository:
    repository = names.repository(name)
    return Repository(repository, _arn(aws, "ecr", f"repository/{repository}"), name, None, None, ())


def _role(aws: Aws, name: str) -> Role:
    return Role(names.role(name, aws.region), name, "", None, ())


def _permission(aws: Aws, name: str, bucket: str) -> InvokePermission:
    return InvokePermission(name, bucket, f"arn:{aws.partition}:s3:::{bucket}", aws.account)


def _notification(aws: Aws, name: str, bucket: str, state_bucket: str) -> Notification:
    return Notification(name, _function_arn(aws, name), bucket, (), state_bucket)


def _function_arn(aws: Aws, name: str) -> str:
    return _arn(aws, "lambda", f"function:{name}")


def _arn(aws: Aws, service: str, resource: str) -> str:
    return f"arn:{aws.partition}:{service}:{aws.region}:{aws.account}:{resource}"
