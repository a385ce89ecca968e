"""Event notifications of Amazon S3, as S3 hands them to a Lambda function.

Source: AmazonS3/latest/userguide/notification-content-structure. Versions are compared by their major number only, as that page asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from faassupervisor.events.items import ObjectItem, Outcome, Payload, Refused, Skipped

SOURCE: Final = "aws:s3"
_CREATED: Final = "ObjectCreated:"
_MAJOR: Final = "2"


def parse(payload: Payload) -> Sequence[Outcome] | None:
    """All records of a notification, in order; None when the payload is no notification of S3."""
    document = payload.document
    if not isinstance(document, dict):
        return None
    if document.get("Event") == "s3:TestEvent" and "Records" not in document:
        return (Skipped("s3:TestEvent"),)
    records = document.get("Records")
    if not isinstance(records, list) or not any(_is_ours(record) for record in records):
        return None
    return _without_repeats([_outcome(record) for record in records])


def _is_ours(record: object) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == SOURCE


def _outcome(record: object) -> Outcome:
    if not isinstance(record, dict) or not _is_ours(record):
        return Refused("a record that is not from S3, among records that are")
    version = record.get("eventVersion", _MAJOR)
    if not isinstance(version, str) or version.split(".")[0] != _MAJOR:
        return Refused(f"eventVersion {_short(version)} is not 2.x")
    name = record.get("eventName")
    if not isinstance(name, str):
        return Refused("eventName is missing")
    name = name.removeprefix("s3:")
    if not name.startswith(_CREATED):
        return Skipped(f"{_short(name)} creates no object")
    return _created(record)


def _created(record: Mapping[str, Any]) -> Outcome:
    s3 = _mapping(record, "s3")
    thing = _mapping(s3, "object")
    bucket = _mapping(s3, "bucket").get("name")
    coded = thing.get("key")
    if not isinstance(bucket, str) or not bucket:
        return Refused("s3.bucket.name is missing")
    if not isinstance(coded, str) or not coded:
        return Refused("s3.object.key is missing")
    try:
        # The key is form-encoded ('+' is a space); undo it once: what then looks encoded is the key's own.
        key = unquote_plus(coded, errors="strict")
        key.encode()
    except UnicodeError:
        return Refused(f"s3.object.key {_short(coded)} is not UTF-8")
    if "\0" in key:
        return Refused(f"s3.object.key {_short(coded)} contains NUL")
    if key.endswith("/"):
        return Skipped(f"{_short(key)} is a folder marker")
    return ObjectItem(
        provider="s3",
        bucket=bucket,
        key=key,
        event=json.dumps({"Records": [record]}).encode("ascii"),
        version_id=_text(thing, "versionId"),
        etag=_text(thing, "eTag"),
        size=_size(thing),
        sequencer=_text(thing, "sequencer"),
        event_time=_text(record, "eventTime"),
    )


def _without_repeats(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """S3 delivers at least once: the same record twice in one event runs once."""
    seen: set[tuple[str | None, ...]] = set()
    kept: list[Outcome] = []
    for outcome in outcomes:
        if isinstance(outcome, ObjectItem):
            identity = (outcome.bucket, outcome.key, outcome.version_id, outcome.etag, outcome.sequencer)
            if identity in seen:
                kept.append(Skipped(f"{_short(outcome.key)} is named twice by this event"))
                continue
            seen.add(identity)
        kept.append(outcome)
    return kept


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _text(record: Mapping[str, Any], name: str) -> str | None:
    """A string that fits an environment variable or a header; anything else counts as absent."""
    value = record.get(name)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        return None
    return value


def _size(thing: Mapping[str, Any]) -> int | None:
    value = thing.get("size")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _short(value: object) -> str:
    """A value for a message: quoted, escaped, and not longer than a line."""
    text = ascii(value)
    return text if len(text) <= 200 else text[:197] + "..."
