"""Mode `lambda`: the function, its code, its role and log group, and its buckets' notifications; and what every other mode has of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from faassupervisor import contract, hops
from scar.aws import names, tags
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.notification import Entry, Notification
from scar.aws.resources.permission import InvokePermission
from scar.aws.resources.role import Role, canonical
from scar.aws.resources.state_bucket import StateBucket
from scar.aws.resources.user_bucket import UserBucket
from scar.aws.tags import Pairs
from scar.design import code as codes
from scar.design import http, iam, network_access, storage, workflow
from scar.design.site import Made, Site
from scar.errors import UsageError
from scar.fdl.model import Function, Io
from scar.plan.resource import Id, Resource


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the function has besides when it hands runs over to Batch: what must be there `before` it and comes `behind` it, what it is
    told in its environment and what it may do (statements of its policy). `places` are for the function's mark: its queue, and the label
    under which that is shared ('' if it is not).
    """

    before: tuple[Resource, ...] = ()
    behind: tuple[Resource, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    statements: tuple[iam.Statement, ...] = ()
    places: Pairs = ()


def design(fn: Function, site: Site, made: Made) -> Iterable[Resource]:
    """Every resource of the function, in no particular order: `needs` has the order."""
    return with_jobs(fn, site, codes.design(fn, site, made), Jobs())


def with_jobs(fn: Function, site: Site, code: codes.Design, jobs: Jobs) -> Iterable[Resource]:
    """The function with its code, and with what it needs to hand runs over."""
    role = _role(fn, site, code, jobs)
    log_group = _log_group(fn, site)
    state = StateBucket(
        names.state_bucket(site.account, site.region),
        fn.name,
        _input_buckets(fn),
        (code.bucket,) if code.bucket is not None else (),
        jobs.places,
        storage.own_parameters(fn),
        http.kinds(fn),
    )
    before: list[Resource] = [log_group, *code.made, state, *([role] if role else []), *jobs.before]
    before += storage.parameters(fn, after=(state.id,))
    function = _function(fn, site, code, jobs, tuple(resource.id for resource in before))
    return [
        *before,
        function,
        *jobs.behind,
        *http.resources(fn, site),
        *_buckets(fn, state.name),
        *_triggers(fn, site, state.name),
    ]


def _role(fn: Function, site: Site, code: codes.Design, jobs: Jobs) -> Role | None:
    """None when the definition names one to use."""
    if fn.iam.role is not None:
        return None
    return Role(
        name=names.role(fn.name, site.region),
        function=fn.name,
        trust=canonical(iam.lambda_trust()),
        policy=canonical(
            iam.lambda_policy(
                fn,
                site,
                code=code.readable,
                more=(*jobs.statements, *http.statements(fn, site), *network_access.network_statements(fn, site)),
            )
        ),
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


def _function(fn: Function, site: Site, code: codes.Design, jobs: Jobs, after: tuple[Id, ...]) -> LambdaFunction:
    settings = fn.lambda_
    return LambdaFunction(
        name=fn.name,
        arn=site.arn("lambda", f"function:{fn.name}"),
        code=code.code,
        role_arn=_role_arn(fn, site),
        memory_mib=settings.memory,
        timeout_s=settings.timeout,
        tmp_mib=settings.ephemeral_storage,
        architecture=settings.architecture,
        description=settings.description,
        environment=tuple(sorted(_environment(fn, site, code, jobs).items())),
        tags=tags.of_function(fn.name, settings.tags, _listing(fn)),
        runtime=code.runtime,
        layers=code.layers,
        network=network_access.network(fn),
        files=network_access.files(fn),
        note=code.note,
        after=after,
    )


def _environment(fn: Function, site: Site, code: codes.Design, jobs: Jobs) -> dict[str, str]:
    """The user's variables and ours. Raises UsageError for more than Lambda has room for: the file's check cannot know the region."""
    state = names.state_uri(site.account, site.region, fn.name)
    variables = {**fn.lambda_.environment, **code.variables, contract.STATE: state, **jobs.variables}
    size = hops.environment_bytes(variables)
    if not hops.LAMBDA_ENVIRONMENT.fits(size):
        raise UsageError(
            hops.LAMBDA_ENVIRONMENT.refusal(size),
            where=f"{fn.name}: lambda.environment",
            fix=hops.LAMBDA_ENVIRONMENT.fix,
        )
    return variables


def _listing(fn: Function) -> dict[str, str]:
    """What `ls` shows and AWS does not list otherwise."""
    container = fn.lambda_.container
    image = container.image or (container.image_file.name if container.image_file else "")
    shown = {
        **http.listing(fn),
        tags.MODE: fn.lambda_.execution_mode,
        tags.IMAGE: tags.packed([image]) if image else "",
        tags.INPUT: tags.packed([workflow.end(item).written() for item in fn.lambda_.input]),
        tags.OUTPUT: tags.packed([workflow.end(item).written() for item in fn.lambda_.output]),
    }
    return {key: value for key, value in shown.items() if value}


def _s3(items: Iterable[Io]) -> Iterable[Io]:
    return (item for item in items if iam.is_s3(item))


def _input_buckets(fn: Function) -> tuple[str, ...]:
    return tuple(sorted({item.bucket for item in _s3(fn.lambda_.input)}))


def _buckets(fn: Function, state_bucket: str) -> Iterable[UserBucket]:
    inputs = _input_buckets(fn)
    outputs = {item.bucket for item in _s3(fn.lambda_.output)}
    given = fn.lambda_.deployment.bucket
    near = {
        *inputs,
        *((given,) if given else ()),
    }  # a function takes its events and its code from buckets of its own region
    return [UserBucket(name, state_bucket, local=name in near) for name in sorted({*near, *outputs})]


def _triggers(fn: Function, site: Site, state_bucket: str) -> Iterable[Resource]:
    for bucket in _input_buckets(fn):
        items = [item for item in _s3(fn.lambda_.input) if item.bucket == bucket]
        yield InvokePermission(fn.name, bucket, site.bucket_arn(bucket), site.account)
        yield Notification(
            function=fn.name,
            function_arn=site.arn("lambda", f"function:{fn.name}"),
            bucket=bucket,
            entries=tuple(Entry(prefix, suffix=suffix) for prefix, suffix in workflow.rules(items)),
            state_bucket=state_bucket,
        )
