"""What do policies say? Asked by the door for every request, and by the engines for what AWS's services do on behalf of a role."""

from __future__ import annotations

import datetime
import threading
from typing import Any, Final

from scar.local.iam import principals
from scar.local.iam.evaluate import Asked, Decision, Policy, PolicyError, Principal, decide, trusts
from scar.local.iam.resource_policies import policy_of

KEPT_CALLS: Final = 20_000  # distinct ones that are remembered


class Authority:
    """What policies say, asked by name. Safe to call from any thread. Remembers what was asked, for whoever wants the least policy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, str, bool], int] = {}

    def decide(self, principal: Principal, asked: Asked) -> Decision:
        """An unknown condition denies, and says so."""
        policy, owner = policy_of(asked.resource)
        try:
            decision = decide(principal, asked, resource_policy=policy, owner=owner)
            taking_on = asked.action == "sts:AssumeRole" and decision.allowed and not principal.root
            if taking_on and not trusts(_trust_of(asked.resource), principal, asked):
                decision = Decision(False, "because no resource-based policy allows the sts:AssumeRole action")
        except PolicyError as error:
            decision = Decision(False, f"because a policy cannot be evaluated: {error}")
        call = (principal.owner or principal.service or principal.arn, asked.action, asked.resource, decision.allowed)
        with self._lock:
            if call in self._calls or len(self._calls) < KEPT_CALLS:
                self._calls[call] = self._calls.get(call, 0) + 1
        return decision

    def refusal_of_role(self, role: str, action: str, resource: str, *, session: str = "") -> str | None:
        """Why a role may not do something: AWS's sentence; None when it may."""
        principal = principals.role(role, session=session)
        decision = self.decide(principal, Asked(action, resource, context_of(principal)))
        return None if decision.allowed else sentence(principal, action, resource, decision)

    def refusal_of_service(self, service: str, action: str, resource: str, *, source: str, account: str) -> str | None:
        """Why an AWS service (`lambda.amazonaws.com`) may not: only the resource's own policy can let it."""
        principal = Principal(service, "", None, service=service)
        context = {"aws:sourcearn": (source,), "aws:sourceaccount": (account,), "aws:securetransport": ("true",)}
        decision = self.decide(principal, Asked(action, resource, context))
        return None if decision.allowed else f"{service} may not {action} on {resource}"

    def calls(self) -> list[dict[str, Any]]:
        """What was asked since the daemon started, each thing once."""
        with self._lock:
            found = sorted(self._calls.items())
        return [
            {"principal": who, "action": action, "resource": resource, "allowed": allowed, "count": count}
            for (who, action, resource, allowed), count in found
        ]


def _trust_of(arn: str) -> Policy:
    return principals.trust_of(arn) if arn.count(":") == 5 else {"Statement": []}


def sentence(principal: Principal, action: str, resource: str, decision: Decision) -> str:
    """As AWS words it. IAM/latest/UserGuide/troubleshoot_access-denied"""
    return (
        f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource} {decision.why}".rstrip()
    )


def context_of(principal: Principal) -> dict[str, tuple[str, ...]]:
    now = datetime.datetime.now(datetime.UTC)
    found: dict[str, tuple[str, ...]] = {
        "aws:securetransport": ("true",),  # loopback counts as such
        "aws:currenttime": (now.strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(now.timestamp())),),
    }
    if principal.owner is not None:
        found["aws:principalarn"] = (principal.owner,)
        found["aws:principalaccount"] = (principal.account,)
        if ":user/" in principal.owner:
            found["aws:username"] = (principal.owner.rpartition("/")[2],)
    return found
