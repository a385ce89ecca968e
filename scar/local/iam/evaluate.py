"""May a principal do an action on a resource? IAM's policy language, evaluated as AWS documents it. Pure: it is the simulator of tests, too.

A principal's own policies and a resource's policy are read together: an explicit deny in any of them wins; else one allow is enough, and a
permission boundary must allow as well. What cannot be understood never allows: an unknown operator of a condition is an error that says so.
Source: IAM/latest/UserGuide/reference_policies_evaluation-logic, reference_policies_elements_condition_operators
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Policy = Mapping[str, Any]
Statement = Mapping[str, Any]


class PolicyError(Exception):
    """A policy says what cannot be evaluated here; the message names it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One action on one resource. `context` has condition keys in lower case, each with the request's values; a key that it lacks is absent."""

    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `arn` is the caller's (an assumed role's session), `owner` the role, user or service that policies name; None: nobody known.

    `policies` are its identity policies; `boundary` is None where there is none. An account's root may do everything.
    """

    arn: str
    account: str
    owner: str | None
    policies: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    root: bool = False
    service: str | None = None


ANONYMOUS: Final = Principal("anonymous", "", None)


@dataclass(frozen=True, slots=True)
class Decision:
    """`why` ends AWS's message: what denied, or what did not allow."""

    allowed: bool
    why: str = ""


def decide(principal: Principal, asked: Asked, *, resource_policy: Policy | None = None, owner: str = "") -> Decision:
    """`owner` is the resource's account, where its policy is one; a stranger needs leave from both sides.

    Raises PolicyError for a condition that is not known here.
    """
    by_resource = _verdict((resource_policy,) if resource_policy else (), asked, principal)
    if by_resource == "deny":
        return Decision(False, "with an explicit deny in a resource-based policy")
    if principal.root and principal.account == (owner or principal.account):
        return Decision(True)
    by_identity = _verdict(principal.policies, asked)
    if by_identity == "deny":
        return Decision(False, "with an explicit deny in an identity-based policy")
    if principal.boundary is not None and (bounded := _verdict((principal.boundary,), asked)) != "allow":
        how = "with an explicit deny in a" if bounded == "deny" else "because no"
        tail = "" if bounded == "deny" else f" allows the {asked.action} action"
        return Decision(False, f"{how} permissions boundary{tail}")
    if principal.owner is not None and owner and owner != principal.account:
        own = by_identity == "allow" or principal.root
        if own and by_resource == "allow":
            return Decision(True)
        return Decision(
            False, f"because no {'resource' if own else 'identity'}-based policy allows the {asked.action} action"
        )
    if "allow" in (by_identity, by_resource):
        return Decision(True)
    kind = "identity" if principal.policies or principal.owner else "resource"
    return Decision(False, f"because no {kind}-based policy allows the {asked.action} action")


def trusts(policy: Policy, principal: Principal, asked: Asked) -> bool:
    """Whether a role's trust policy lets somebody take the role on; an identity policy alone never does."""
    return _verdict((policy,), asked, principal) == "allow"


def _verdict(policies: Iterable[Policy], asked: Asked, principal: Principal | None = None) -> str:
    """`deny`, `allow` or `silent`. `principal` is given for a resource's policy, whose statements say whom they are about."""
    found = "silent"
    for statement in (one for policy in policies for one in _listed(policy.get("Statement", ()))):
        if principal is not None and not _about(statement, principal):
            continue
        if not applies(statement, asked):
            continue
        if statement.get("Effect") == "Deny":
            return "deny"
        if statement.get("Effect") == "Allow":
            found = "allow"
    return found


def applies(statement: Statement, asked: Asked) -> bool:
    """Whether action, resource and every condition are the statement's, whatever its effect. A resource's policy may leave `Resource` out."""
    if "NotAction" in statement:
        if _named(statement["NotAction"], asked.action.lower(), lower=True):
            return False
    elif not _named(statement.get("Action", ()), asked.action.lower(), lower=True):
        return False
    if "NotResource" in statement:
        if _named(_filled(statement["NotResource"], asked), asked.resource):
            return False
    elif "Resource" in statement and not _named(_filled(statement["Resource"], asked), asked.resource):
        return False
    return all(
        _holds(operator, key, _filled(wanted, asked), asked)
        for operator, tests in (statement.get("Condition") or {}).items()
        for key, wanted in tests.items()
    )


def _about(statement: Statement, principal: Principal) -> bool:
    if "NotPrincipal" in statement:
        return not _is_one(statement["NotPrincipal"], principal)
    return _is_one(statement.get("Principal", ()), principal)


def _is_one(named: Any, principal: Principal) -> bool:
    if named == "*":
        return True
    if not isinstance(named, Mapping):
        return False
    if principal.service is not None:
        return principal.service in _listed(named.get("Service", ()))
    for one in _listed(named.get("AWS", ())):
        account = one if re.fullmatch(r"\d{12}", one) else ""
        if one == "*" or one in (principal.arn, principal.owner):
            return True
        if principal.account and (account == principal.account or one.endswith(f"::{principal.account}:root")):
            return True
    return False


def _named(patterns: Any, text: str, *, lower: bool = False) -> bool:
    return any(matches(pattern.lower() if lower else pattern, text) for pattern in _listed(patterns))


def matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters, `?` for one; everything else for itself. `${*}`, `${?}` and `${$}` are the characters."""
    return _compiled(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = re.split(r"(\$\{[*?$]\}|\*+|\?)", pattern)
    said = {"?": "."}
    parts = (
        ".*"
        if word.startswith("*")
        else said[word]
        if word in said
        else re.escape(word[2] if word[:2] == "${" and len(word) == 4 else word)
        for word in words
    )
    return re.compile("".join(parts), re.DOTALL)


def _filled(texts: Any, asked: Asked) -> list[str]:
    """Policy variables replaced by the request's values, which are then characters and no wildcards; one without a value matches nothing."""
    return [filled for text in _listed(texts) if (filled := _fill(text, asked)) is not None]


_VARIABLE: Final = re.compile(r"\$\{([A-Za-z][^},]*?)(?:\s*,\s*'([^']*)')?\}")


def _fill(text: str, asked: Asked) -> str | None:
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        values = asked.context.get(found[1].lower(), ())
        if len(values) == 1:
            return re.sub(r"[*?$]", lambda one: f"${{{one[0]}}}", values[0])
        if found[2] is None:
            missing = True
        return found[2] or ""

    filled = _VARIABLE.sub(value, text)
    return None if missing else filled


# Conditions: operator → does the request's value fit the policy's?
_Test = Callable[[str, str], bool]


def _string(value: str, wanted: str) -> bool:
    return value == _plain(wanted)


def _plain(text: str) -> str:
    return re.sub(r"\$\{([*?$])\}", r"\1", text)


def _number(compare: Callable[[float, float], bool]) -> _Test:
    return lambda value, wanted: compare(float(value), float(wanted))


def _date(compare: Callable[[float, float], bool]) -> _Test:
    return lambda value, wanted: compare(_seconds(value), _seconds(wanted))


def _seconds(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _within(value: str, wanted: str) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)


def _arn(value: str, wanted: str) -> bool:
    """Each of an ARN's first five parts on its own, so that `*` does not reach over a colon; the rest as a whole."""
    mine, its = wanted.split(":", 5), value.split(":", 5)
    return len(mine) == len(its) == 6 and all(matches(pattern, part) for pattern, part in zip(mine, its, strict=True))


_TESTS: Final[Mapping[str, _Test]] = {
    "stringequals": _string,
    "stringequalsignorecase": lambda value, wanted: value.lower() == _plain(wanted).lower(),
    "stringlike": lambda value, wanted: matches(wanted, value),
    "arnequals": _arn,
    "arnlike": _arn,
    "bool": lambda value, wanted: value.lower() == wanted.lower(),
    "ipaddress": _within,
    "numericequals": _number(lambda a, b: a == b),
    "numericlessthan": _number(lambda a, b: a < b),
    "numericlessthanequals": _number(lambda a, b: a <= b),
    "numericgreaterthan": _number(lambda a, b: a > b),
    "numericgreaterthanequals": _number(lambda a, b: a >= b),
    "dateequals": _date(lambda a, b: a == b),
    "datelessthan": _date(lambda a, b: a < b),
    "datelessthanequals": _date(lambda a, b: a <= b),
    "dategreaterthan": _date(lambda a, b: a > b),
    "dategreaterthanequals": _date(lambda a, b: a >= b),
    "binaryequals": _string,
}
_NEGATED: Final = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
}


def _holds(operator: str, key: str, wanted: Sequence[str], asked: Asked) -> bool:
    """One line of a condition. Raises PolicyError for an operator that is not known."""
    name = operator.lower()
    each, name = (name.partition(":")[0], name.partition(":")[2]) if ":" in name else ("", name)
    if_exists = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    values = asked.context.get(key.lower())
    if name == "null":
        return any((values is None) == (one.lower() == "true") for one in wanted)
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None or each not in ("", "foranyvalue", "forallvalues"):
        raise PolicyError(f"the condition operator {operator} is not known here")
    if not values:  # absent: a negated operator holds, as IfExists does; ForAllValues holds for nothing
        return if_exists or each == "forallvalues" or (negated and each == "")
    try:
        fits = [any(test(value, one) for one in wanted) != negated for value in values]
    except ValueError as error:
        raise PolicyError(f"the condition {operator} of {key} cannot be compared: {error}") from error
    return all(fits) if each == "forallvalues" else any(fits)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str | int | float):
        return [str(value)]
    if isinstance(value, Mapping):
        return [value]
    return [
        ("true" if one else "false") if isinstance(one, bool) else one if isinstance(one, Mapping) else str(one)
        for one in value
    ]
