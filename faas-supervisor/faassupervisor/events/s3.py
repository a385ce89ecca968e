"""Event notifications of Amazon S3, as S3 hands them to a Lambda function.

Source: AmazonS3/latest/userguide/notification-content-structure. Versions are compared by their major number only, as that page asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.events import fields
from faassupervisor.events.items import Known, Outcome, Payload, Refused, Skipped

SOURCE: Final = "aws:s3"
_CREATED: Final = "ObjectCreated:"
_MAJOR: Final = "2"


def parse(payload: Payload, _known: Known) -> Sequence[Outcome] | None:
    """All records of a notification, in order; None when the payload is no notification of S3."""
    document = payload.document
    if not isinstance(document, dict):
        return None
    if document.get("Event") == "s3:TestEvent" and "Records" not in document:
        return (Skipped("s3:TestEvent"),)
    records = document.get("Records")
    if not isinstance(records, list) or not any(_is_ours(record) for record in records):
        return None
    return [_outcome(record) for record in records]


def _is_ours(record: object) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == SOURCE


def _outcome(record: object) -> Outcome:
    if not isinstance(record, dict) or not _is_ours(record):
        return Refused("a record that is not from S3, among records that are")
    return of_record(record, "s3", {"Records": [record]})


def of_record(record: Mapping[str, Any], provider: str, envelope: Mapping[str, Any]) -> Outcome:
    """What one record asks for, also one of a storage that speaks as S3 does. `envelope` is the event with this record alone."""
    version = record.get("eventVersion", _MAJOR)
    if not isinstance(version, str) or version.split(".")[0] != _MAJOR:
        return Refused(f"eventVersion {fields.short(version)} is not 2.x")
    name = record.get("eventName")
    if not isinstance(name, str):
        return Refused("eventName is missing")
    name = name.removeprefix("s3:")
    if not name.startswith(_CREATED):
        return Skipped(f"{fields.short(name)} creates no object")
    s3 = fields.mapping(record, "s3")
    thing = fields.mapping(s3, "object")
    return fields.appeared(
        provider=provider,
        bucket=fields.mapping(s3, "bucket").get("name"),
        key=thing.get("key"),
        event=fields.dumped(envelope),
        of_object=thing,
        event_time=fields.text(record, "eventTime"),
    )
