"""From a payload to items: what each record asks for, as typed records. Nothing here touches the disk or the network.

`PARSERS` is tried in order and the first that recognises the payload decides:

1. `Records` of one source that is known: MinIO, S3, SQS, SNS, Onedata. Records of others among them are refused one by one.
2. An event of EventBridge: `source`, `detail-type` and `detail`.
3. `{"event": …, "storage_provider": …}`, `{"event": …, "subscription": …}` and `{"event_type": …, "payload": …}` in the exact shapes
   of a delegated event, of dCache and of Rucio.
4. An HTTP request: a method, a path and a request context.
5. `{}`, `script` and `cmd_args`, and nothing else beside them.
6. Anything else is the user's data, whatever it contains.

Known envelopes are opened (`messages`, `delegated`), each only for what is named there: an S3-shaped body of an HTTP request, or a
script in a message, stays data. Parsing is total: it answers items or raises BadEventError, for any bytes.
A bad record among good ones becomes `Refused`: it neither stops the others nor is forgotten.

An item's `event` means the same item when it is parsed again, by the same function: a job of Batch gets no more than that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from faassupervisor.errors import BadEventError
from faassupervisor.events import dcache, delegated, direct, eventbridge, fields, grid, http, messages, minio, raw, s3
from faassupervisor.events.items import (
    DirectItem,
    HttpItem,
    Item,
    Known,
    Message,
    ObjectItem,
    Outcome,
    Payload,
    RawItem,
    Refused,
    Skipped,
)

__all__ = [
    "PARSERS",
    "DirectItem",
    "HttpItem",
    "Item",
    "Known",
    "Message",
    "ObjectItem",
    "Outcome",
    "Payload",
    "RawItem",
    "Refused",
    "Skipped",
    "parse",
]

PARSERS: Final[Sequence[Callable[[Payload, Known], Sequence[Outcome] | None]]] = (
    minio.parse,
    s3.parse,
    messages.sqs,
    messages.sns,
    grid.onedata,
    eventbridge.parse,
    delegated.parse,
    dcache.parse,
    grid.rucio,
    http.parse,
    direct.parse,
    raw.parse,
)
_NOTHING_KNOWN: Final = Known()


def parse(body: bytes, known: Known = _NOTHING_KNOWN) -> tuple[Outcome, ...]:
    """Read a payload as Lambda delivers it; an empty one counts as `{}`. Raises BadEventError and nothing else.

    `known` is what the function knows of storage: events of storage of its own are refused without.
    """
    payload = Payload(body, _document(body))
    for parser in PARSERS:
        outcomes = parser(payload, known)
        if outcomes is not None:
            return tuple(_without_repeats(outcomes))
    raise BadEventError("event: no parser knows this payload")


def _document(body: bytes) -> object:
    if not body.strip():
        return {}
    try:
        return json.loads(body)
    except RecursionError as error:
        raise BadEventError("event: nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and integers beyond Python's limit of digits
        raise BadEventError(f"event: not JSON: {error}") from error


def _without_repeats(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Storage delivers at least once: the same record twice in one event runs once."""
    seen: set[tuple[str | None, ...]] = set()
    for outcome in outcomes:
        if isinstance(outcome, ObjectItem):
            identity = (
                outcome.provider,
                outcome.bucket,
                outcome.key,
                outcome.version_id,
                outcome.etag,
                outcome.sequencer,
            )
            if identity in seen:
                yield Skipped(f"{fields.short(outcome.key)} is named twice by this event", outcome.message)
                continue
            seen.add(identity)
        yield outcome
