"""What Lambda's on-failure destination sends back to us: an invocation whose attempts are all used up.

By way of the default event bus, whose rule hands on what Lambda wrote (lambda/latest/dg/invocation-async-retain-records): no function can
be its own destination. So a record whose sandbox was killed, by its time limit or for its memory, still reaches Batch. An invocation that
failed in answering such a document is wrapped once more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

MOST_NESTED: Final = 3  # each layer stands for three attempts
# The record's own failures, which this agent told and wrote down. Anything else means that the record was not dealt with.
_TOLD: Final = frozenset(
    {"ScriptFailed", "ScriptTimedOut", "StageInFailed", "StageOutFailed", "BadEvent", "LoopRefused"}
)


@dataclass(frozen=True, slots=True)
class Undone:
    """The invocation that failed first: its id, its payload, what its last answer was ('' for none), and how often it was wrapped."""

    request_id: str
    payload: bytes
    kind: str
    nested: int

    @property
    def is_told(self) -> bool:
        """The failure is the record's own and its caller has heard of it: there is nothing to hand over."""
        return self.kind in _TOLD


def unwrapped(payload: bytes, function_arn: str | None) -> Undone | None:
    """None for what is no such document of the function `function_arn`: then it is an event like any other."""
    if function_arn is None or b'"requestPayload"' not in payload:
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):  # no event at all: the parsers say so
        return None
    found: Undone | None = None
    while _is_of(document, function_arn):
        context, answer = document["requestContext"], document.get("responsePayload")
        kind = answer.get("errorType") if isinstance(answer, dict) else None
        document = document["requestPayload"]
        found = Undone(
            str(context.get("requestId", "")),
            b"",
            kind if isinstance(kind, str) else "",
            1 if found is None else found.nested + 1,
        )
    if found is None:
        return None
    return Undone(found.request_id, json.dumps(document).encode(), found.kind, found.nested)


def _is_of(document: Any, function_arn: str) -> bool:
    if not isinstance(document, dict) or "requestPayload" not in document:
        return False
    context = document.get("requestContext")
    if not isinstance(context, dict) or not isinstance(context.get("requestId"), str):
        return False
    named = context.get("functionArn")
    return isinstance(named, str) and _unqualified(named) == _unqualified(function_arn)


def _unqualified(arn: str) -> str:
    """Without version or alias: `arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`."""
    return ":".join(arn.split(":")[:7])
