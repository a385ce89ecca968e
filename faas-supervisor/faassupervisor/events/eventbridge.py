"""Events of Amazon EventBridge: S3's are objects, those of any other source are the user's data.

The key of an object is taken as it stands. S3 form-encodes keys for queues, topics and functions; of EventBridge no page of AWS says so
(AmazonS3/latest/userguide/ev-events), and rules match `detail.object.key` against prefixes as people write them. Some libraries decode
it all the same: that would turn `a+b` into `a b`. What is not there is then a failure that names the key, never another object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.events import fields
from faassupervisor.events.items import Known, Message, Outcome, Payload, RawItem, Skipped

S3: Final = "aws.s3"
_CREATED: Final = "Object Created"


def parse(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """One event; None when the payload is none of EventBridge."""
    document = payload.document
    if not isinstance(document, dict) or not _is_event(document):
        return None
    if document["source"] == S3:
        return of_s3(payload, known)
    id_ = fields.text(document, "id")
    return (RawItem(payload.body, message=Message("eventbridge", id_) if id_ else None),)


def of_s3(payload: Payload, _known: Known) -> Sequence[Outcome] | None:
    """The same for S3's events alone: also inside a queue's or a topic's message, where any other is the message's data."""
    document = payload.document
    if not isinstance(document, dict) or not _is_event(document) or document["source"] != S3:
        return None
    kind, detail = document["detail-type"], document["detail"]
    if kind != _CREATED:
        return (Skipped(f"{fields.short(kind)} creates no object"),)
    thing = fields.mapping(detail, "object")
    return (
        fields.appeared(
            provider="s3",
            bucket=fields.mapping(detail, "bucket").get("name"),
            key=thing.get("key"),
            event=fields.dumped(document),
            where="detail",
            encoded=False,
            of_object=thing,
            names=("version-id", "etag", "sequencer"),
            event_time=fields.text(document, "time"),
        ),
    )


def _is_event(document: Mapping[str, Any]) -> bool:
    return (
        isinstance(document.get("source"), str)
        and isinstance(document.get("detail-type"), str)
        and isinstance(document.get("detail"), dict)
    )
