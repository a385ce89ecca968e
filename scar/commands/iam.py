"""`scar iam`: what the functions of a file may do, and what the person who runs SCAR needs. JSON that `aws iam create-policy` takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from scar.commands.common import connect, read_definition
from scar.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.resources.role import Role
    from scar.cli import Context
    from scar.design import Site
    from scar.fdl.model import Function

LAMBDA, JOB, EXECUTION, MACHINES = "lambda", "job", "execution", "machines"
ROLES: Final = (LAMBDA, JOB, EXECUTION, MACHINES)


def iam(context: Context, args: Namespace) -> int:
    """Print policies. Nothing is changed; with --account and --region nothing is asked of AWS."""
    functions = read_definition(context, args.conf_file, args.name) if args.conf_file else ()
    site = _site(context, args, functions)
    if args.operator:
        context.report.raw(_json(_operator(context, site, args, functions)))
        return 0
    if not functions:
        raise UsageError(
            "no definition file was named", fix="For example: scar iam -f function.yaml, or scar iam --operator"
        )
    roles = [(fn.name, kind, role) for fn in functions for kind, role in roles_of(fn, site)]
    if args.role is None and not args.trust:
        context.report.raw(_json({"functions": [_told(fn, site) for fn in functions]}))
        return 0
    chosen = [role for _, kind, role in roles if kind == (args.role or LAMBDA)]
    if len(chosen) != 1:
        had = (
            ", ".join(f"{name}: {kind}" for name, kind, _ in roles)
            or "none: `iam.role` names one that is there already"
        )
        raise UsageError(
            f"the file has {len(chosen)} roles of the kind {args.role or LAMBDA}",
            fix=f"Choose by -n and --role. It has {had}.",
        )
    document = chosen[0].trust if args.trust else chosen[0].policy
    if document is None:
        raise UsageError(
            f"{chosen[0].name} has no policy of its own", fix=f"It has AWS's: {', '.join(chosen[0].attached)}"
        )
    context.report.raw(_json(json.loads(document)))
    return 0


def roles_of(fn: Function, site: Site) -> list[tuple[str, Role]]:
    """The roles that `init` makes for a function, each with its kind."""
    from scar.aws import names
    from scar.aws.resources.role import Role
    from scar.commands.unmade import unmade
    from scar.design import design

    kinds = {
        names.role(fn.name, site.region): LAMBDA,
        names.job_role(fn.name, site.region): JOB,
        names.execution_role(fn.name, site.region): EXECUTION,
    }
    made = [resource for resource in design(fn, site, unmade(fn, site)) if isinstance(resource, Role)]
    return [(kinds.get(role.name, MACHINES), role) for role in made]


def _told(fn: Function, site: Site) -> dict[str, Any]:
    roles = [
        {
            "role": role.name,
            "for": kind,
            "trust": json.loads(role.trust),
            "policy": None if role.policy is None else json.loads(role.policy),
            "attached": list(role.attached),
        }
        for kind, role in roles_of(fn, site)
    ]
    return {"function": fn.name, "roles": roles, **({"uses_role": fn.iam.role} if fn.iam.role is not None else {})}


def _operator(context: Context, site: Site, args: Namespace, functions: Sequence[Function]) -> dict[str, Any]:
    from scar.design.operator import COMMANDS, DATA, POLICY_CHARACTERS, operator_policy, parts

    wanted = COMMANDS if args.commands is None else tuple(word.strip() for word in args.commands.split(","))
    if unknown := sorted(set(wanted) - {*COMMANDS, DATA}):
        raise UsageError(
            f"--for: {', '.join(unknown)}: no command that asks anything of AWS",
            fix=f"There are: {', '.join(COMMANDS)}; and {DATA} for `rm --delete-data`.",
        )
    policy = operator_policy(site, wanted, functions)
    each = parts(policy)
    part: int | None = args.part
    if part is not None:
        if not 0 < part <= len(each):
            raise UsageError(f"there is no part {part}", fix=f"The policy has {len(each)}.")
        return each[part - 1]
    if len(each) > 1:
        context.report.complain(
            f"IAM takes {POLICY_CHARACTERS} characters in one policy: make {len(each)} of it, with --part 1 to --part {len(each)}"
        )
    return policy


def _site(context: Context, args: Namespace, functions: tuple[Function, ...]) -> Site:
    """Where it would stand, with a network that stands for any: no policy depends on it."""
    from scar.aws.network import Network
    from scar.commands.common import settings_of
    from scar.design import Site

    if args.account is None:
        site = Site.of(connect(context, functions)[0])
    else:
        region = settings_of(context, functions).region.value
        if region is None:
            raise UsageError("no AWS region is set", fix="Give --region beside --account.")
        partition = next(
            (name for start, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")) if region.startswith(start)), "aws"
        )
        site = Site(args.account, region, partition)
    return replace(site, network=Network(subnets=("subnet-0",), security_groups=("sg-0",), vpc="vpc-0"))


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
