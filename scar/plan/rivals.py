"""Who else is told of the files that a function is to be told of: S3 tells each to one only, and refuses the second.

Looked at for triggers that are new or changed, before anything is done. Functions of the same file may hand a folder over to each other: who gives it
up goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.aws.resources.notification import Notification, Rival
from scar.errors import ConflictError
from scar.plan.diff import Plan


@dataclass(frozen=True, slots=True)
class Taken:
    """A function's trigger and whoever has it now."""

    function: str
    bucket: str
    rival: Rival

    @property
    def error(self) -> ConflictError:
        who = f"function {self.rival.function}" if self.rival.function else self.rival.target
        return ConflictError(
            f"bucket {self.bucket} tells {who} of `{self.rival.theirs}` already, which overlaps `{self.rival.ours}` of {self.function}, "
            "and S3 tells each file to one place only",
            where=self.function,
            fix="Use another folder or ending, or remove the other notification first.",
        )


def order(aws: Aws, plans: Sequence[tuple[str, Plan]]) -> tuple[str, ...]:
    """The functions in the order in which they can be applied: as given, but that who gives a folder up comes before who takes it.

    Raises ConflictError for a folder that somebody else has and keeps.
    """
    wanted = {name: tuple(_triggers(plan)) for name, plan in plans}
    before: dict[str, set[str]] = {name: set() for name, _ in plans}
    for name, plan in plans:
        for taken in _taken(aws, name, plan):
            giver = taken.rival.function
            if giver is None or giver not in wanted or any(_keeps(each, taken) for each in wanted[giver]):
                raise taken.error
            before[name].add(giver)
    return _sorted(before)


def _triggers(plan: Plan) -> Iterator[Notification]:
    every = [step.resource for step in plan.steps if step.verb != "delete"] + list(plan.unchanged)
    return (each for each in every if isinstance(each, Notification))


def _taken(aws: Aws, name: str, plan: Plan) -> Iterator[Taken]:
    for step in plan.steps:
        if step.verb != "delete" and isinstance(step.resource, Notification):
            with mapped(f"read {step.resource.id}"):
                rivals = step.resource.rivals(aws)
            yield from (Taken(name, step.resource.bucket, rival) for rival in rivals)


def _keeps(notification: Notification, taken: Taken) -> bool:
    return notification.bucket == taken.bucket and any(
        entry.overlaps(taken.rival.ours) for entry in notification.entries
    )


def _sorted(before: Mapping[str, set[str]]) -> tuple[str, ...]:
    left = dict(before)
    found: list[str] = []
    while left:
        free = next((name for name, others in left.items() if not others & set(left)), None)
        if free is None:
            names = ", ".join(left)
            raise ConflictError(
                f"the functions {names} would take each other's folders at once",
                fix="Give one of them another folder first, run init, then the folder that it is to have.",
            )
        found.append(free)
        del left[free]
    return tuple(found)
