"""What the commands do with the rooms this far: plan, apply, remove."""

from __future__ import annotations

from scar.aws.clients import Aws
from scar.design import Made, Site, design
from scar.fdl.model import Function
from scar.plan.apply import Outcome, Silent, apply
from scar.plan.diff import Plan, diff
from scar.plan.observe import observe
from scar.plan.owned import owned, strays
from tests.support.account import FakeImage


def plan_init(aws: Aws, fn: Function, image: Made | None = None, *, threads: int = 8) -> Plan:
    desired = design(fn, Site.of(aws), image or FakeImage())
    return diff(desired, observe(aws, [*desired, *strays(aws, fn.name, desired)], threads=threads))


def init(aws: Aws, fn: Function, image: Made | None = None, *, threads: int = 8) -> Outcome:
    return apply(aws, plan_init(aws, fn, image, threads=threads), Silent(), threads=threads)


def rm(aws: Aws, name: str = "grayify", *, threads: int = 8) -> Outcome:
    return apply(aws, diff((), owned(aws, name)), Silent(), threads=threads)
