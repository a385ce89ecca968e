"""What the last `init` left: a note in a tag of the function, by which a change made by hand is told from an edit of the definition.

The note holds a few characters for each thing as it was wanted then. A thing that is wanted as it was then, and is otherwise or gone, was changed
by somebody else. The note only says so: what is to be done follows from what is wanted and what is there, note or no note. It is written when
everything else is done, so an `init` that was cut short accuses nobody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.aws.resources.function import LambdaFunction
from scar.errors import NotFoundError
from scar.plan.diff import Plan, Step
from scar.plan.listing import DIGEST_CHARS, listed_digest, short
from scar.plan.resource import Id, Resource

_CHARS: Final = 4  # 24 bits for each thing: one in some 200,000 notes of 80 things tells of another one's likeness
_BY_AWS: Final = frozenset({"state"})  # what AWS changes by itself


def note(desired: Iterable[Resource], listed: str) -> str:
    """As much of it as a tag has room for."""
    digests = "".join(sorted(_digest(resource) for resource in desired))
    room = (tags.VALUE_CHARS - DIGEST_CHARS - 1) // _CHARS * _CHARS
    return f"{listed}.{digests[:room]}"


def told(plan: Plan, actual: Mapping[Id, Resource]) -> Plan:
    """The same plan, its steps marked that put right what was changed by hand."""
    known = _known(note_of(actual))
    if not known:
        return plan
    return dataclasses.replace(plan, steps=tuple(_marked(step, known) for step in plan.steps))


def note_of(actual: Mapping[Id, Resource]) -> str:
    """What was noted of the function; '' without a note, or without the function."""
    return next((each.settled for each in actual.values() if isinstance(each, LambdaFunction)), "")


def settle(aws: Aws, name: str, desired: Iterable[Resource], before: str) -> None:
    """Write the note where it differs from the one `before`. A function that is gone meanwhile needs none."""
    wanted = tuple(desired)
    if before and before.partition(".")[2] == note(wanted, "").partition(".")[2]:
        return
    with suppress(NotFoundError), mapped(f"note what was made of {name}"):
        config = aws.lambda_.get_function_configuration(FunctionName=name)
        text = note(wanted, listed_digest(config))
        if text != before:
            aws.lambda_.tag_resource(Resource=config["FunctionArn"], Tags={tags.SETTLED: text})


def _known(said: str) -> frozenset[str]:
    digests = said.partition(".")[2]
    return frozenset(digests[at : at + _CHARS] for at in range(0, len(digests), _CHARS))


def _marked(step: Step, known: frozenset[str]) -> Step:
    if step.verb == "delete" or _digest(step.resource) not in known:
        return step
    if step.verb == "update" and {change.field for change in step.changes} <= _BY_AWS:
        return step
    return dataclasses.replace(step, by_hand=True)


def _digest(resource: Resource) -> str:
    """Of what is compared; not of what has no `repr`, for that is secret."""
    record: Any = resource
    said = [
        (item.name, getattr(record, item.name)) for item in dataclasses.fields(record) if item.compare and item.repr
    ]
    return short(repr((resource.id, said)), _CHARS)
