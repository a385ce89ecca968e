"""The part of a function that is in Batch or made for it, planned, applied and removed without the rest: quick enough for sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scar.aws.clients import Aws
from scar.design import Site, design
from scar.fdl.model import Function
from scar.plan.apply import Outcome, Silent, apply
from scar.plan.diff import Plan, diff
from scar.plan.observe import observe
from scar.plan.owned import owned, strays
from scar.plan.resource import Resource
from tests.support.account import Account, FakeImage

KINDS = {"state bucket", "share", "instance profile", "compute environment", "job queue", "job definition"}
DUMPED = ("roles", "instance profiles", "compute environments", "job queues", "job definitions")


def resources(aws: Aws, fn: Function) -> tuple[Resource, ...]:
    """Those of the function that are in Batch or stand for it in the state bucket, and the machines' role."""
    wanted = design(fn, Site.of(aws), FakeImage())
    return tuple(item for item in wanted if item.id.kind in KINDS or ".ec2-" in item.id.name)


def plan_of(aws: Aws, fn: Function) -> Plan:
    desired = resources(aws, fn)
    return diff(desired, observe(aws, [*desired, *strays(aws, fn.name, desired)], threads=1))


def make(aws: Aws, fn: Function) -> Outcome:
    return apply(aws, plan_of(aws, fn), Silent(), threads=1)


def remove(aws: Aws, name: str = "grayify") -> Outcome:
    return apply(aws, diff((), owned(aws, name)), Silent(), threads=1)


def dump(acct: Account) -> Mapping[str, Any]:
    """What is there of it; marks in the state bucket by their keys."""
    found = acct.dump()
    buckets = {name: sorted(bucket["objects"]) for name, bucket in found["buckets"].items()}
    return {**{kind: found[kind] for kind in DUMPED}, "buckets": buckets}


def nothing(acct: Account) -> bool:
    return not any(dump(acct).values())
