"""What an event can ask for: the records between the parsers and the supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from faassupervisor.contract import Spec, Storage


@dataclass(frozen=True, slots=True)
class Known:
    """What a function knows of storage: without it, an event of a storage of its own cannot be told whose it is.

    `providers` are all names of storage that the function may use, `TYPE` or `TYPE.ID`.
    """

    inputs: tuple[Storage, ...] = ()
    providers: frozenset[str] = frozenset({"s3"})

    @classmethod
    def of(cls, spec: Spec) -> Known:
        named = (storage.provider for storage in (*spec.inputs, *spec.outputs))
        return cls(spec.inputs, frozenset({"s3", *named, *(provider.name for provider in spec.providers)}))

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """The providers of one TYPE, sorted."""
        return tuple(sorted(name for name in self.providers if name.partition(".")[0] == kind))


@dataclass(frozen=True, slots=True)
class Payload:
    """One delivery: the bytes as they came, and the JSON document they hold."""

    body: bytes
    document: object


@dataclass(frozen=True, slots=True)
class Message:
    """The envelope that an outcome came in. `id` is the same when it is delivered again; `index` counts what is in the one message.

    `group` is the message group of a FIFO queue, whose order counts; None elsewhere.
    """

    kind: Literal["sqs", "sns", "eventbridge"]
    id: str
    index: int = 0
    group: str | None = None


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
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class DirectItem:
    """Someone asked for a run: with a script of their own, with arguments, or with nothing but the wish (`{}`)."""

    event: bytes
    script: bytes | None = None
    arguments: tuple[str, ...] | None = None
    message: None = None


@dataclass(frozen=True, slots=True)
class RawItem:
    """Any other JSON: the payload itself is the input file, byte for byte; or, of a message, its `body`."""

    event: bytes
    name: str = "event.json"
    body: bytes | None = None
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class HttpItem:
    """A request to the function's HTTP endpoint. `body` is the input file, byte for byte: data, never an event.

    `event` is the whole request without what proves who the caller is. Names of `headers` are in lower case; `query` keeps every value.
    `asynchronous` when the caller will not wait for the result; `forwarded` when this is the run that such a caller was promised.
    """

    event: bytes
    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    asynchronous: bool = False
    forwarded: bool = False
    message: None = None


# What comes in a message is an object or data: a script or a request inside one stays data.
Item = ObjectItem | DirectItem | RawItem | HttpItem


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that starts nothing, and why that is right."""

    reason: str
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot be understood; the others of its event run. `of_http` when it is a request: its caller is told."""

    reason: str
    key: str | None = None
    message: Message | None = None
    of_http: bool = False


Outcome = Item | Skipped | Refused
