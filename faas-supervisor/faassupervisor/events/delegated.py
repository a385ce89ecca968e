"""An event that somebody passes on, with the name of the storage that it is from: `{"event": …, "storage_provider": "minio.lab"}`.

OSCAR sends these to functions elsewhere. `event` is a notification of S3, MinIO or dCache, as an object or as JSON text, and nothing
else: what is inside of anything else stays data. The storage has to be one of the function's own. Any other field beside the two, and
the payload is the user's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.events import dcache, fields, minio, s3
from faassupervisor.events.items import Known, Outcome, Payload, Refused

_FIELDS: Final = {"event", "storage_provider"}
_LIKE_S3: Final = ("s3", minio.KIND)


def parse(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """All records of the event inside; None when the payload is something else."""
    document = payload.document
    if not isinstance(document, dict) or document.keys() != _FIELDS:
        return None
    provider, event = document["storage_provider"], document["event"]
    if not isinstance(provider, str):
        return None
    if provider == "s3.default" and provider not in known.providers:
        provider = "s3"
    if provider not in known.providers:
        has = ", ".join(sorted(known.providers))
        return (Refused(f"storage provider {fields.short(provider)} is not one of the function's: {has}"),)
    inner = fields.loaded(event) if isinstance(event, str) else event
    outcomes = _of_event(inner, provider, known) if isinstance(inner, dict) else None
    return outcomes or (Refused(f"what was delegated is no notification of a storage like {fields.short(provider)}"),)


def _of_event(event: Mapping[str, Any], provider: str, known: Known) -> Sequence[Outcome] | None:
    kind = provider.partition(".")[0]
    if kind == dcache.KIND:
        return dcache.of_event(event, known, provider, lambda inner: _envelope(inner, provider))
    records = event.get("Records")
    if kind not in _LIKE_S3 or not isinstance(records, list) or not records:
        return None
    return [_of_record(record, provider) for record in records]


def _of_record(record: object, provider: str) -> Outcome:
    if not isinstance(record, dict) or record.get("eventSource") not in (s3.SOURCE, minio.SOURCE):
        return Refused("a delegated record that is neither from S3 nor from MinIO")
    return s3.of_record(record, provider, _envelope({"Records": [record]}, provider))


def _envelope(event: Mapping[str, Any], provider: str) -> Mapping[str, Any]:
    return {"event": event, "storage_provider": provider}
