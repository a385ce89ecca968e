"""Fields of documents that anybody may have written: read without trust, and named in messages without harm.

What most parsers have in common ends in `appeared`: an object by its bucket and its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from faassupervisor.events.items import ObjectItem, Refused, Skipped


def mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def text(record: Mapping[str, Any], name: str) -> str | None:
    """A string that fits an environment variable or a header; anything else counts as absent."""
    value = record.get(name)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        return None
    return value


def size(thing: Mapping[str, Any]) -> int | None:
    value = thing.get("size")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def short(value: object) -> str:
    """A value for a message: quoted, escaped, and not longer than a line."""
    quoted = ascii(value)
    return quoted if len(quoted) <= 200 else quoted[:197] + "..."


def dumped(document: object) -> bytes:
    return json.dumps(document).encode("ascii")


def loaded(content: str) -> object:
    """What JSON text holds; None when it is none, or nested too deeply to be read."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def decoded(coded: str) -> str | None:
    """A key that was form-encoded ('+' is a space), undone once: what then looks encoded is the key's own. None when it is not UTF-8."""
    try:
        return unquote_plus(coded, errors="strict")
    except UnicodeDecodeError:
        return None


def appeared(
    *,
    provider: str,
    bucket: object,
    key: object,
    event: bytes,
    where: str = "s3",
    encoded: bool = True,
    of_object: Mapping[str, Any],
    names: tuple[str, str, str] = ("versionId", "eTag", "sequencer"),
    event_time: str | None = None,
) -> ObjectItem | Skipped | Refused:
    """An object, when its bucket and its key can be used. `where` and `names` are the producer's own words for the fields."""
    if not isinstance(bucket, str) or not bucket:
        return Refused(f"{where}.bucket.name is missing")
    if not isinstance(key, str) or not key:
        return Refused(f"{where}.object.key is missing")
    plain = decoded(key) if encoded else key
    if plain is None or not is_unicode(plain):
        return Refused(f"{where}.object.key {short(key)} is not UTF-8")
    if "\0" in plain:
        return Refused(f"{where}.object.key {short(key)} contains NUL")
    if plain.endswith("/"):
        return Skipped(f"{short(plain)} is a folder marker")
    version_id, etag, sequencer = (text(of_object, name) for name in names)
    return ObjectItem(
        provider=provider,
        bucket=bucket,
        key=plain,
        event=event,
        version_id=version_id,
        etag=etag,
        size=size(of_object),
        sequencer=sequencer,
        event_time=event_time,
    )


def is_unicode(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON may hold half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
