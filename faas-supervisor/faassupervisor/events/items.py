"""What an event can ask for: the records between the parsers and the supervisor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Payload:
    """One delivery: the bytes as they came, and the JSON document they hold."""

    body: bytes
    document: object


@dataclass(frozen=True, slots=True)
class ObjectItem:
    """An object appeared. `key` is decoded; `version_id` and `etag` say which content was meant, None when the event does not.

    `event` is this record's event as JSON, in the producer's own envelope.
    """

    provider: str
    bucket: str
    key: str
    event: bytes
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    sequencer: str | None = None
    event_time: str | None = None


@dataclass(frozen=True, slots=True)
class DirectItem:
    """Someone asked for a run: with a script of their own, with arguments, or with nothing but the wish (`{}`)."""

    event: bytes
    script: bytes | None = None
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RawItem:
    """Any other JSON: the payload itself is the input file, byte for byte."""

    event: bytes
    name: str = "event.json"


@dataclass(frozen=True, slots=True)
class HttpItem:
    """A request to the function's HTTP endpoint. `body` is the input file, byte for byte: data, never an event.

    Names of `headers` are in lower case; `query` keeps the order and every value. `asynchronous` when the caller will not wait for the result.
    """

    event: bytes
    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    asynchronous: bool = False


Item = ObjectItem | DirectItem | RawItem | HttpItem


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that starts nothing, and why that is right."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot be understood; the others of its event run."""

    reason: str
    key: str | None = None


Outcome = Item | Skipped | Refused
