"""Messages of Amazon SQS and Amazon SNS, and what is in them.

A message may hold a notification of S3 or MinIO, S3's events of EventBridge, and a queue's message one of a topic. These are known and
are taken out. Anything else is data: the script finds the message's text as its input file, and the record with its attributes as its
event. A script or an HTTP request inside a message is data too.

An outcome carries its message's id, which stays the same when the message comes again.
Sources: lambda/latest/dg/with-sqs, lambda/latest/dg/with-sns, sns/latest/dg/sns-message-and-json-formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from faassupervisor.events import eventbridge, fields, minio, s3
from faassupervisor.events.items import Known, Message, ObjectItem, Outcome, Payload, RawItem, Refused, Skipped

_NAME: Final = "message"
_INSIDE: Final[Sequence[Callable[[Payload, Known], Sequence[Outcome] | None]]] = (
    minio.parse,
    s3.parse,
    eventbridge.of_s3,
)


def sqs(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """What all messages of a batch ask for, in order; None when the payload is no batch of SQS."""
    records = _records(payload.document, "eventSource", "aws:sqs")
    return None if records is None else [outcome for record in records for outcome in _of_sqs(record, known)]


def sns(payload: Payload, known: Known) -> Sequence[Outcome] | None:
    """The same for SNS."""
    records = _records(payload.document, "EventSource", "aws:sns")
    return None if records is None else [outcome for record in records for outcome in _of_sns(record, known)]


def _records(document: object, field: str, source: str) -> Sequence[object] | None:
    records = document.get("Records") if isinstance(document, dict) else None
    if not isinstance(records, list):
        return None
    ours = any(isinstance(record, dict) and record.get(field) == source for record in records)
    return records if ours else None


def _of_sqs(record: object, known: Known) -> Iterator[Outcome]:
    if not isinstance(record, dict) or record.get("eventSource") != "aws:sqs":
        yield Refused("a record that is not from SQS, among records that are")
        return
    id_, content = record.get("messageId"), record.get("body")
    if not isinstance(id_, str) or not id_:
        yield Refused("messageId is missing")
        return
    message = Message("sqs", id_, group=_group(record))
    if not isinstance(content, str) or not fields.is_unicode(content):
        yield Refused(f"message {fields.short(id_)}: its body is missing", message=message)
        return
    yield from _marked(_inside_of_queue(content, record, known), message)


def _inside_of_queue(content: str, record: Mapping[str, Any], known: Known) -> Sequence[Outcome]:
    document = fields.loaded(content)
    kind = document.get("Type") if isinstance(document, dict) and "TopicArn" in document else None
    if isinstance(document, dict) and kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return (Skipped(f"a topic's {kind}"),)
    if isinstance(document, dict) and kind == "Notification" and isinstance(document.get("Message"), str):
        content = document["Message"]
        document = fields.loaded(content)
    return _inside(content, document, record, known)


def _of_sns(record: object, known: Known) -> Iterator[Outcome]:
    if not isinstance(record, dict) or record.get("EventSource") != "aws:sns":
        yield Refused("a record that is not from SNS, among records that are")
        return
    told = fields.mapping(record, "Sns")
    id_, content = told.get("MessageId"), told.get("Message")
    message = Message("sns", id_) if isinstance(id_, str) and id_ else None
    if not isinstance(content, str) or not fields.is_unicode(content):
        yield Refused("Sns.Message is missing", message=message)
        return
    yield from _marked(_inside(content, fields.loaded(content), record, known), message)


def _inside(content: str, document: object, record: Mapping[str, Any], known: Known) -> Sequence[Outcome]:
    body = content.encode("utf-8", "surrogatepass")
    for parser in _INSIDE:
        outcomes = parser(Payload(body, document), known)
        if outcomes is not None:
            return outcomes
    return (RawItem(fields.dumped({"Records": [record]}), _NAME, body),)


def _marked(outcomes: Sequence[Outcome], message: Message | None) -> Iterator[Outcome]:
    for index, outcome in enumerate(outcomes):
        if message is not None and isinstance(outcome, ObjectItem | RawItem | Skipped | Refused):
            outcome = replace(outcome, message=replace(message, index=index))  # noqa: PLW2901
        yield outcome


def _group(record: Mapping[str, Any]) -> str | None:
    """Of a FIFO queue only: in any other, groups say nothing of order."""
    queue = record.get("eventSourceARN")
    if not isinstance(queue, str) or not queue.endswith(".fifo"):
        return None
    group = fields.mapping(record, "attributes").get("MessageGroupId")
    return group if isinstance(group, str) else ""
