"""Events of Onedata (by OneTrigger) and of Rucio. They are understood, and refused: this agent brings no file from either.

{"Records": [{"eventSource": "OneTrigger", "objectKey": …}], "Key": "/space/folder/file"}
{"event_type": …, "payload": {"scope": …, "name": …}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faassupervisor.events import fields
from faassupervisor.events.items import Known, Outcome, Payload, Refused


def onedata(payload: Payload, _known: Known) -> Sequence[Outcome] | None:
    """All records of OneTrigger; None when the payload has none."""
    document = payload.document
    records = document.get("Records") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(records, list) or not any(map(_is_of_onedata, records)):
        return None
    return [_of_onedata(record, document) for record in records]


def _is_of_onedata(record: object) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "OneTrigger"


def _of_onedata(record: object, document: Mapping[str, Any]) -> Outcome:
    if not isinstance(record, dict) or not _is_of_onedata(record):
        return Refused("a record that is not from Onedata, among records that are")
    key = fields.text(document, "Key") or fields.text(record, "objectKey")
    return Refused(
        f"{fields.short(key)} lies in Onedata, which functions cannot read: copy it to a bucket, S3's or MinIO's", key
    )


def rucio(payload: Payload, _known: Known) -> Sequence[Outcome] | None:
    """One event; None when the payload is none of Rucio."""
    document = payload.document
    if not isinstance(document, dict) or not isinstance(document.get("event_type"), str):
        return None
    inner = document.get("payload")
    if not isinstance(inner, dict) or not {"scope", "name"} <= inner.keys():
        return None
    key = f"{fields.text(inner, 'scope')}:{fields.text(inner, 'name')}"
    return (Refused(f"{fields.short(key)} lies in Rucio, which functions cannot read: copy it to a bucket", key),)
