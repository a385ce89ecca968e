"""What a plan gives leave to, and to whom: statements of roles, invocations, and what is open to everybody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scar.aws.resources.permission import InvokePermission
from scar.aws.resources.role import Role
from scar.plan.diff import Loud, Plan


@dataclass(frozen=True, slots=True)
class Grant:
    """`who` may do `actions` on `resources` once the plan is applied; `name` is what the policy calls it."""

    who: str
    name: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    @property
    def what(self) -> str:
        """`s3:GetObject on photos/in/*`."""
        return f"{', '.join(self.actions)} on {', '.join(map(_short, self.resources))}"


def grants(plan: Plan) -> tuple[Grant, ...]:
    """What is new: every statement of a role that is made, those that differ of one that is changed, and who may invoke the function."""
    found: list[Grant] = []
    for step in plan.steps:
        resource = step.resource
        if step.verb == "delete":
            continue
        if isinstance(resource, Role):
            before = step.actual if isinstance(step.actual, Role) else None
            known = set(_statements(before.name, before.policy, before.attached)) if before else set()
            found += [
                grant for grant in _statements(resource.name, resource.policy, resource.attached) if grant not in known
            ]
        elif isinstance(resource, InvokePermission):
            found.append(Grant(f"bucket {resource.bucket}", "invoke", ("lambda:InvokeFunction",), (resource.function,)))
    return tuple(found)


def aloud(plan: Plan) -> tuple[str, ...]:
    """What is open to everybody, of what the plan makes, changes or leaves as it is."""
    every = [step.resource for step in plan.steps if step.verb != "delete"] + list(plan.unchanged)
    return tuple(f"{each.id}: {each.aloud}" for each in every if isinstance(each, Loud) and each.aloud)


def _statements(role: str, policy: str | None, attached: Sequence[str]) -> Iterable[Grant]:
    document: Mapping[str, Any] = json.loads(policy) if policy else {}
    for statement in document.get("Statement", ()):
        resources = _listed(statement.get("Resource", ()))
        yield Grant(f"role {role}", str(statement.get("Sid", "")), _listed(statement.get("Action", ())), resources)
    for arn in attached:
        yield Grant(f"role {role}", "attached", ("what AWS's policy says",), (arn,))


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _short(arn: str) -> str:
    """Without account and region, which the plan's first line says: `photos/in/*`, `log-group:/aws/lambda/cow:*`."""
    return "all" if arn == "*" else re.sub(r"^arn:[^:]*:[^:]*:[^:]*:[^:]*:", "", arn)
