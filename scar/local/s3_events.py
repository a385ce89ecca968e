"""S3 events as AWS sends them: one for each upload, with all fields, after the object is complete, to every target that asked.

moto sends two for a multipart upload, an ObjectTagging:Put for every PUT, both before metadata is set, and forgets failures.
Record: AmazonS3/latest/userguide/notification-content-structure (2.5, the unified version, checked 2026-11).
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

from moto.s3 import notifications
from moto.s3.notifications import S3NotificationEvent

from scar.local.scope import Scope, current

EVENT_VERSION: Final = "2.5"
_log = logging.getLogger("scar.local")


class FunctionQueue(Protocol):
    """Where events for functions go: durable when `accept` returns, started when `dispatch` is called (or at the next start)."""

    def accept(self, function_arn: str, payload: bytes, *, account: str, region: str) -> Any: ...

    def dispatch(self, token: Any) -> None: ...


class Sequencer:
    """Rising numbers for events, whatever the clock does."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns, self._last, self._lock = clock_ns, 0, threading.Lock()

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, self._clock_ns())
            return f"00{self._last:016X}"


class Events:
    """Collects what happens in a request and hands it on once it is durable."""

    def __init__(self, queue: FunctionQueue, sequencer: Sequencer) -> None:
        self._queue, self._sequencer = queue, sequencer

    def install(self) -> None:
        notifications.send_event = self._collect

    def _collect(self, account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        name = str(getattr(event_name, "value", event_name))
        scope = current()
        if scope is None:
            alone = Scope(request_id="0000000000000000", events=[(account_id, name, bucket, key)])
            for token in self.hand_on(alone):
                self._queue.dispatch(token)
        elif bucket.notification_configuration is not None:
            scope.events.append((account_id, name, bucket, key))

    def hand_on(self, scope: Scope) -> list[Any]:
        """Give each event of the request to its targets. Answers the tokens to dispatch when the caller has its answer."""
        tokens: list[Any] = []
        for account, name, bucket, key in _as_aws_counts(scope.events):
            sequencer = self._sequencer.next()
            wanted = bucket.notification_configuration
            for target in _asking(wanted.cloud_function, name, key):
                event = _document(_record(scope, name, bucket, key, target.id, sequencer))
                tokens += self._to_function(account, target.arn, event)
            for target in _asking(wanted.queue, name, key):
                _to_queue(scope, account, target.arn, _record(scope, name, bucket, key, target.id, sequencer))
            for target in _asking(wanted.topic, name, key):
                _to_topic(scope, account, target.arn, _record(scope, name, bucket, key, target.id, sequencer))
            if wanted.event_bridge is not None:
                _to_event_bridge(scope, account, name, bucket, key, sequencer)
        return tokens

    def dispatch(self, tokens: list[Any]) -> None:
        for token in tokens:
            self._queue.dispatch(token)

    def _to_function(self, account: str, arn: str, event: bytes) -> list[Any]:
        return [self._queue.accept(arn, event, account=account, region=arn.split(":")[3])]


def _as_aws_counts(events: list[tuple[str, str, Any, Any]]) -> Iterator[tuple[str, str, Any, Any]]:
    """One event for each thing the caller did: creating an object is not also tagging it, completing an upload not also putting it."""
    created: dict[int, str] = {}
    for _, name, _, key in events:
        if name.startswith("s3:ObjectCreated:"):
            created[id(key)] = name  # the last word: CompleteMultipartUpload comes after moto's Put
    for account, name, bucket, key in events:
        if id(key) in created and (not name.startswith("s3:ObjectCreated:") or created[id(key)] != name):
            continue
        yield account, name, bucket, key


def _asking(targets: list[Any], name: str, key: Any) -> Iterator[Any]:
    return (target for target in targets if target.matches(name, key.name))


def _document(record: dict[str, Any]) -> bytes:
    return json.dumps({"Records": [record]}, separators=(",", ":")).encode()


def _record(scope: Scope, name: str, bucket: Any, key: Any, configuration_id: str, sequencer: str) -> dict[str, Any]:
    now = time.time()
    item: dict[str, Any] = {"key": quote_plus(key.name, safe="/*-._"), "sequencer": sequencer}
    if not name.startswith("s3:ObjectRemoved"):
        item |= {"size": key.size, "eTag": key.etag.strip('"')}
    if bucket.is_versioned:
        item["versionId"] = key.version_id
    return {
        "eventVersion": EVENT_VERSION,
        "eventSource": "aws:s3",
        "awsRegion": bucket.region_name,
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
        "eventName": name.removeprefix("s3:"),
        "userIdentity": {"principalId": f"AWS:{bucket.account_id}"},
        "requestParameters": {"sourceIPAddress": scope.source_ip},
        "responseElements": {"x-amz-request-id": scope.request_id, "x-amz-id-2": f"{scope.request_id}/local"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {"name": bucket.name, "ownerIdentity": {"principalId": bucket.account_id}, "arn": bucket.arn},
            "object": item,
        },
    }


def _to_queue(scope: Scope, account: str, arn: str, record: dict[str, Any]) -> None:
    from moto.sqs.models import sqs_backends

    try:
        sqs_backends[account][arn.split(":")[3]].send_message(arn.split(":")[-1], _document(record).decode())
        scope.changed_services.add("sqs")
    except Exception:  # the target is the caller's configuration; the upload itself succeeded
        _log.exception("S3 event for %s did not reach the queue %s", record["s3"]["object"]["key"], arn)


def _to_topic(scope: Scope, account: str, arn: str, record: dict[str, Any]) -> None:
    from moto.sns.models import sns_backends

    try:
        sns_backends[account][arn.split(":")[3]].publish(
            arn=arn, message=_document(record).decode(), subject="Amazon S3 Notification"
        )
        scope.changed_services.update(("sns", "sqs"))
    except Exception:  # as above
        _log.exception("S3 event for %s did not reach the topic %s", record["s3"]["object"]["key"], arn)


def _to_event_bridge(scope: Scope, account: str, name: str, bucket: Any, key: Any, sequencer: str) -> None:
    from moto.events.models import events_backends
    from moto.events.utils import _BASE_EVENT_MESSAGE

    removed = name.startswith("s3:ObjectRemoved")
    item = {"key": key.name, "sequencer": sequencer}
    if not removed:
        item |= {"size": key.size, "etag": key.etag.strip('"')}
    if bucket.is_versioned:
        item["version-id"] = key.version_id
    event = copy.deepcopy(_BASE_EVENT_MESSAGE) | {
        "detail-type": notifications._detail_type(S3NotificationEvent(name)),
        "source": "aws.s3",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": item,
            "request-id": scope.request_id,
            "requester": account,
            "source-ip-address": scope.source_ip,
            "reason": _REASONS.get(name.rpartition(":")[2], name.rpartition(":")[2]),
        },
    }
    try:
        for bus in events_backends[account][bucket.region_name].event_buses.values():
            for rule in bus.rules.values():
                rule.send_to_targets(event, transform_input=False)
        scope.changed_services.update(("events", "sqs", "sns"))
    except Exception:  # as above
        _log.exception("S3 event for %s did not reach EventBridge", key.name)


_REASONS: Final = {"Put": "PutObject", "Post": "POST Object", "Copy": "CopyObject", "Delete": "DeleteObject"}
