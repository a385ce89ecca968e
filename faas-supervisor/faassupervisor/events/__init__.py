"""From a payload to items: what each record asks for, as typed records. Nothing here touches the disk or the network.

`PARSERS` is tried in order and the first that recognises the payload decides: a payload is parsed on one level only, so that
something S3-shaped inside another payload stays data. Parsing is total: it answers items or raises BadEventError, for any bytes.
A bad record among good ones becomes `Refused`: it neither stops the others nor is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from faassupervisor.errors import BadEventError
from faassupervisor.events import direct, raw, s3
from faassupervisor.events.items import (
    DirectItem,
    HttpItem,
    Item,
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
    "ObjectItem",
    "Outcome",
    "Payload",
    "RawItem",
    "Refused",
    "Skipped",
    "parse",
]

PARSERS: Final[Sequence[Callable[[Payload], Sequence[Outcome] | None]]] = (s3.parse, direct.parse, raw.parse)


def parse(body: bytes) -> tuple[Outcome, ...]:
    """Read a payload as Lambda delivers it; an empty one counts as `{}`. Raises BadEventError and nothing else."""
    payload = Payload(body, _document(body))
    for parser in PARSERS:
        outcomes = parser(payload)
        if outcomes is not None:
            return tuple(outcomes)
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
