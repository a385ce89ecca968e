"""What the queues and compute environments of Batch have in common: they take their time, and refuse to be touched meanwhile.

Batch answers a request at once and works on it afterwards (CREATING, UPDATING, DELETING); until it is done it refuses the next one
("Cannot update, resource is being modified").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import is_absent, is_busy
from scar.aws.tags import Pairs
from scar.aws.wait import until

REPLACING_S: Final = 60.0

VALID: Final = "VALID"
UPDATING: Final = "UPDATING"
INVALID: Final = "INVALID"
DELETED: Final = "DELETED"
ENABLED: Final = "ENABLED"
DISABLED: Final = "DISABLED"

Found = Mapping[str, Any]
Ask = Callable[[], Found | None]


def status_of(found: Found | None) -> str:
    """What Batch says; what it still lists some time after it has gone is gone."""
    return DELETED if found is None else str(found.get("status", VALID))


def settled(ask: Ask, aws: Aws, what: str) -> Found | None:
    """Wait until Batch is done with a change; None: it is gone.

    A change of machines lasts until the jobs on the old ones have ended, hours perhaps, and jobs are taken meanwhile: what is UPDATING for
    REPLACING_S seconds is well (Batch user guide, infrastructure-updates).
    """
    started = aws.clock.monotonic()

    def check() -> tuple[Found | None] | None:
        found = ask()
        status = status_of(found)
        if status == UPDATING and aws.clock.monotonic() - started >= REPLACING_S:
            return (found,)
        return (None if status == DELETED else found,) if status in (VALID, INVALID, DELETED) else None

    return until(check, deadline_s=aws.patience_s, what=f"{what} to settle", clock=aws.clock)[0]


def appeared(ask: Ask, aws: Aws, what: str) -> Found:
    """As `settled`, of something made a moment ago, which a description may not yet show."""

    def check() -> Found | None:
        found = ask()
        return found if found is not None and status_of(found) in (VALID, INVALID) else None

    return until(check, deadline_s=aws.patience_s, what=f"{what} to become {VALID}", clock=aws.clock)


def gone(ask: Ask, aws: Aws, what: str) -> Found | None:
    """Wait until something that was deleted is gone; if Batch gives up on that, what it says of it then."""

    def check() -> tuple[Found | None] | None:
        found = ask()
        status = status_of(found)
        if status == DELETED:
            return (None,)
        return (found,) if status == INVALID else None

    return until(check, deadline_s=aws.patience_s, what=f"{what} to go", clock=aws.clock)[0]


def patiently(send: Callable[[], object], aws: Aws, what: str) -> bool:
    """Send a request once Batch is done with what is under way. Answers False when there is nothing left to send it to."""

    def attempt() -> bool | None:
        try:
            send()
        except ClientError as error:
            if is_busy(error):
                return None
            if is_absent(error):
                return False
            raise
        return True

    return until(attempt, deadline_s=aws.patience_s, what=f"Batch to accept: {what}", clock=aws.clock)


def retag(aws: Aws, arn: str, actual: Pairs, wanted: Pairs) -> None:
    """Bring the tags of an object of Batch in line."""
    if actual == wanted:
        return
    aws.batch.tag_resource(resourceArn=arn, tags=tags.written(wanted))
    if surplus := tags.removed(actual, wanted):
        aws.batch.untag_resource(resourceArn=arn, tagKeys=surplus)


def arn(aws: Aws, what: str) -> str:
    """`arn:aws:batch:<region>:<account>:<what>`, such as `job-queue/name`."""
    return f"arn:{aws.partition}:batch:{aws.region}:{aws.account}:{what}"
