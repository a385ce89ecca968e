"""What are the things called that the operator's policy is about? By functions when they are known, else by what SCAR's names begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from scar.aws import names
from scar.design.iam import is_s3
from scar.design.site import Site
from scar.fdl.model import Function

Find = Callable[["Scope"], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Functions of one account and region; none: whatever SCAR may make there."""

    site: Site
    functions: tuple[Function, ...]

    def has(self, what: str) -> bool:
        """Whether any function has `jobs`, an endpoint (`http`), or credentials of storage (`secrets`)."""
        if not self.functions:
            return True
        match what:
            case "jobs":
                return any(fn.jobs is not None for fn in self.functions)
            case "http":
                return any(fn.api_gateway is not None or fn.function_url is not None for fn in self.functions)
            case _:
                return any(fn.providers for fn in self.functions)

    def resources(self, target: str) -> list[str]:
        return sorted(set(_TARGETS[target](self)))

    @property
    def names(self) -> list[str]:
        return [fn.name for fn in self.functions] or ["*"]

    @property
    def state(self) -> str:
        return self.site.bucket_arn(names.state_bucket(self.site.account, self.site.region))

    @property
    def roles(self) -> list[str]:
        if not self.functions:
            return ["scar-*"]
        region = self.site.region
        plain = [names.role(fn.name, region) for fn in self.functions if fn.iam.role is None]
        jobs = [fn.name for fn in self.functions if fn.jobs is not None]
        return [*plain, *(role(name, region) for name in jobs for role in (names.job_role, names.execution_role))]

    @property
    def given_roles(self) -> list[str]:
        """Those that a definition names: they are handed to Lambda, and left alone."""
        given = [fn.iam.role for fn in self.functions if fn.iam.role is not None]
        return [role if role.startswith("arn:") else self.site.role_arn(role) for role in given]

    @property
    def places(self) -> list[str]:
        if not self.functions:
            return ["scar-*"]
        jobs = [(fn.name, fn.jobs) for fn in self.functions if fn.jobs is not None]
        return [names.batch_place(name, fargate=batch.fargate, shared=batch.shared) for name, batch in jobs]

    @property
    def machines(self) -> list[str]:
        """Roles and instance profiles of machines have the same names."""
        if not self.functions:
            return ["scar-*"]
        return [names.instance_role(place, self.site.region) for place in self.places]

    @property
    def buckets(self) -> list[str]:
        if not self.functions:
            return ["*"]
        items = (item for fn in self.functions for item in (*fn.lambda_.input, *fn.lambda_.output) if is_s3(item))
        given = (fn.lambda_.deployment.bucket for fn in self.functions)
        return sorted({*(item.bucket for item in items), *(bucket for bucket in given if bucket)})


def _roles(scope: Scope) -> Iterable[str]:
    return [scope.site.role_arn(name) for name in (*scope.roles, *scope.machines)]


def _log_groups(scope: Scope) -> Iterable[str]:
    """Tags are asked for without the last colon, everything else with it; a list of groups names none."""
    groups = [group for name in scope.names for group in (names.log_group(name), names.batch_log_group(name))]
    each = [scope.site.arn("logs", f"log-group:{group}{end}") for group in groups for end in ("", ":*")]
    return [*each, scope.site.arn("logs", "log-group::log-stream:*")]


def _definitions(scope: Scope) -> Iterable[str]:
    """Each is named by 16 hex digits of its content."""
    own = [f"{names.job_definitions_of(fn.name)}{'?' * 16}" for fn in scope.functions] or ["scar-*"]
    return [scope.site.arn("batch", f"job-definition/{one}{end}") for one in own for end in ("", ":*")]


def _code(scope: Scope) -> Iterable[str]:
    """In the bucket that a definition names; without one it is part of the state."""
    bucket, account = scope.site.bucket_arn, scope.site.account
    if not scope.functions:
        return [f"{bucket('*')}/{names.CODE_PREFIX}{account}/*"]
    given = [(fn.lambda_.deployment.bucket, fn.name) for fn in scope.functions]
    return [f"{bucket(name)}/{names.code_prefix(account, function)}*" for name, function in given if name]


def _endpoints(scope: Scope) -> Iterable[str]:
    """APIs, plans and keys have generated ids."""
    base = f"arn:{scope.site.partition}:apigateway:{scope.site.region}::"
    return [f"{base}/{kind}*" for kind in ("apikeys", "restapis", "tags/", "usageplans")]


_TARGETS: Final[Mapping[str, Find]] = {
    "everything": lambda _: ["*"],
    "functions": lambda s: [s.site.arn("lambda", f"function:{name}") for name in s.names],
    "roles": _roles,
    "roles that services take on": lambda s: [*_roles(s), *s.given_roles],
    "instance profiles": lambda s: [
        f"arn:{s.site.partition}:iam::{s.site.account}:instance-profile/{name}" for name in s.machines
    ],
    "roles that AWS makes for Batch": lambda s: [s.site.role_arn("aws-service-role/batch.amazonaws.com/*")],
    "log groups": _log_groups,
    "repositories": lambda s: [
        s.site.arn("ecr", f"repository/{name}")
        for name in [names.repository(fn.name) for fn in s.functions] or ["scar/*"]
    ],
    "places of jobs": lambda s: [
        s.site.arn("batch", f"{kind}/{place}") for place in s.places for kind in ("compute-environment", "job-queue")
    ],
    "job definitions": _definitions,
    "jobs": lambda s: [s.site.arn("batch", "job/*")],  # generated ids
    "rules": lambda s: [
        s.site.arn("events", f"rule/{name}")
        for name in [names.failure_rule(fn.name) for fn in s.functions] or ["scar-*"]
    ],
    "endpoints": _endpoints,
    "endpoints' callers": lambda s: [s.site.arn("execute-api", "*")],
    "parameters": lambda s: [
        s.site.arn("ssm", f"parameter{names.secret_parameters(name).rstrip('/')}{end}")
        for name in s.names
        for end in ("", "/*")
    ],
    "code": _code,
    "state bucket": lambda s: [s.state],
    "state": lambda s: [f"{s.state}/*"],
    "buckets": lambda s: [s.site.bucket_arn(name) for name in s.buckets],
    "objects": lambda s: [f"{s.site.bucket_arn(name)}/*" for name in s.buckets],
}
