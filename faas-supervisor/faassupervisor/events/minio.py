"""Notifications of MinIO: S3's records, of a storage that the function knows by a name of its own.

They say `minio:s3`; older servers said `aws:s3`, and are told by the `EventName` and `Key` beside the records, which S3 never writes.
A size of zero is left out, and `/` is written as `%2F`. Source: minio/minio internal/event/event.go, cmd/event-notification.go.

Which `minio.ID` is meant: the one whose input is the event's bucket, else the only one that the function knows. Where that does not
decide, the sender has to (`delegated`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.events import fields, s3
from faassupervisor.events.items import Known, Outcome, Payload, Refused

KIND: Final = "minio"
SOURCE: Final = "minio:s3"


def parse(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """All records, in order; None when the payload is no notification of MinIO."""
    document = payload.document
    records = document.get("Records") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(records, list):
        return None
    names = {name: document[name] for name in ("EventName", "Key") if isinstance(document.get(name), str)}
    sources = (SOURCE, s3.SOURCE) if len(names) == 2 else (SOURCE,)
    if not any(_source(record) in sources for record in records):
        return None
    return [_outcome(record, sources, names, known) for record in records]


def _source(record: object) -> object:
    return record.get("eventSource") if isinstance(record, dict) else None


def _outcome(record: object, sources: Sequence[str], names: Mapping[str, str], known: Known) -> Outcome:
    if not isinstance(record, dict) or _source(record) not in sources:
        return Refused("a record that is not from MinIO, among records that are")
    provider = _provider(fields.mapping(fields.mapping(record, "s3"), "bucket").get("name"), known)
    if isinstance(provider, Refused):
        return provider
    return s3.of_record(record, provider, {**names, "Records": [record]})


def _provider(bucket: Any, known: Known) -> str | Refused:
    inputs = {storage.provider for storage in known.inputs if _is_minio(storage.provider) and storage.bucket == bucket}
    if len(inputs) == 1:
        return inputs.pop()
    named = known.of_kind(KIND)
    if len(named) == 1:
        return named[0]
    if not named:
        return Refused("an event of MinIO, and the function has no storage provider of that kind")
    return Refused(
        f"an event of MinIO that can be from {' or '.join(named)}: "
        'send it as {"event": ..., "storage_provider": "minio.ID"}'
    )


def _is_minio(provider: str) -> bool:
    return provider.partition(".")[0] == KIND
