"""The part of a function that is in Batch or made for it, planned, applied and removed without the rest: quick enough for sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moto.backends import get_backend

from scar.aws.clients import Aws
from scar.design import Site, design
from scar.fdl.model import Function
from scar.plan.apply import Outcome, Silent, apply
from scar.plan.diff import Plan, diff
from scar.plan.observe import observe
from scar.plan.owned import owned, strays
from scar.plan.resource import Resource
from tests.support.account import ACCOUNT, Account, FakeImage

KINDS = {
    "state bucket",
    "share",
    "instance profile",
    "compute environment",
    "job queue",
    "job definition",
    "old job definitions",
}


def resources(aws: Aws, fn: Function) -> tuple[Resource, ...]:
    """Those of the function that are in Batch or stand for it in the state bucket, and the machines' role."""
    return _ours(design(fn, Site.of(aws), FakeImage()))


def _ours(items: Iterable[Resource]) -> tuple[Resource, ...]:
    return tuple(item for item in items if item.id.kind in KINDS or ".ec2-" in item.id.name)


def plan_of(aws: Aws, fn: Function) -> Plan:
    desired = resources(aws, fn)
    return diff(desired, observe(aws, [*desired, *_ours(strays(aws, fn.name, desired))], threads=1))


def make(aws: Aws, fn: Function) -> Outcome:
    return apply(aws, plan_of(aws, fn), Silent(), threads=1)


def remove(aws: Aws, name: str = "grayify") -> Outcome:
    return apply(aws, diff((), owned(aws, name)), Silent(), threads=1)


def dump(acct: Account) -> Mapping[str, Any]:
    """What is there of it; marks in the state bucket by their keys. As moto holds it: through the API it takes as long as a command."""
    iam, s3 = get_backend("iam")[ACCOUNT]["aws"], get_backend("s3")[ACCOUNT]["aws"]
    return {
        **acct.batch.dump(),
        "roles": {
            role.name: (
                sorted(role.managed_policies),
                role.assume_role_policy_document,
                sorted(map(str, role.tags)),
            )
            for role in iam.roles.values()
        },
        "profiles": {
            one.name: ([role.name for role in one.roles], sorted(map(str, one.tags)))
            for one in iam.instance_profiles.values()
        },
        "buckets": {name: sorted(bucket.keys) for name, bucket in s3.buckets.items()},
    }


def nothing(acct: Account) -> bool:
    return not any(dump(acct).values())
