"""Events of dCache (its inotify-like events): `{"event": {"name": …, "mask": […]}, "subscription": URL}`.

The name is the file's alone; its folder is that of the function's WebDAV input. Only a file that was closed after writing, or moved in,
can be read: after IN_CREATE it "has no size and cannot be read". What a channel says of itself (`{"type": …, "subscription": URL}`)
starts nothing. Source: dCache user guide, frontend, "Storage Events".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from faassupervisor.contract import Storage
from faassupervisor.events import fields
from faassupervisor.events.items import Known, ObjectItem, Outcome, Payload, Refused, Skipped

KIND: Final = "webdav"
_USUAL: Final = "webdav.dcache"
_CHANNEL: Final = "/events/channels/"  # in the URL of every subscription
_WHOLE: Final = frozenset({"IN_CLOSE_WRITE", "IN_MOVED_TO"})


def parse(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """One event; None when the payload is none of dCache."""
    document = payload.document
    if not isinstance(document, dict):
        return None
    if document.keys() == {"type", "subscription"} and _is_subscription(document["subscription"]):
        return (Skipped(f"{fields.short(document['type'])} of a channel is no event of a file"),)
    return of_event(document, known, None, lambda inner: inner)


def _is_subscription(value: object) -> bool:
    return isinstance(value, str) and _CHANNEL in value


def of_event(
    document: Mapping[str, Any],
    known: Known,
    provider: str | None,
    envelope: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Sequence[Outcome] | None:
    """The same, of the storage `provider` when the sender named it. `envelope` makes the record's event."""
    if document.keys() != {"event", "subscription"} or not isinstance(document["subscription"], str):
        return None
    event = document["event"]
    mask = event.get("mask") if isinstance(event, dict) else None
    masks = [mask] if isinstance(mask, str) else mask
    if not isinstance(masks, list) or not all(isinstance(word, str) and word.startswith("IN_") for word in masks):
        return None
    return (_outcome(event, frozenset(masks), known, provider, fields.dumped(envelope(document))),)


def _outcome(
    event: Mapping[str, Any], mask: frozenset[str], known: Known, provider: str | None, text: bytes
) -> Outcome:
    if "IN_Q_OVERFLOW" in mask:
        return Refused("dCache has lost events of this subscription (IN_Q_OVERFLOW)")
    name = event.get("name")
    what = fields.short(name)
    if "IN_ISDIR" in mask:
        return Skipped(f"{what} is a directory")
    if not mask & _WHOLE:
        return Skipped(f"{what} is not whole yet, or not there any more: {fields.short(', '.join(sorted(mask)))}")
    if not isinstance(name, str) or not fields.is_unicode(name):
        return Refused("event.name is missing")
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        return Refused(f"event.name {what} is not the name of a file")
    place = _input(known, provider)
    if isinstance(place, Refused):
        return place
    key = f"{place.folder}/{name}" if place.folder else name
    return ObjectItem(provider=place.provider, bucket=place.bucket, key=key, event=text)


def _input(known: Known, provider: str | None) -> Storage | Refused:
    """The folder that is watched."""
    inputs = [storage for storage in known.inputs if storage.provider.partition(".")[0] == KIND]
    named = [storage for storage in inputs if storage.provider == (provider or _USUAL)]
    found = named or ([] if provider else inputs)
    if len(found) == 1:
        return found[0]
    if not found:
        return Refused(f"an event of dCache, and the function has no input of {provider or 'a WebDAV storage'}")
    return Refused("an event of dCache, and the function has several inputs that it can be from")
