"""S3 events as AWS sends them: one for each upload, with all fields, after the object is complete, to every target that asked.

moto sends two for a multipart upload, an ObjectTagging:Put for every PUT, both before metadata is set, and forgets failures.
Record: AmazonS3/latest/userguide/notification-content-structure (2.5, the unified version, checked 2026-11).
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

from moto.s3 import notifications
from moto.s3.models import S3Backend
from moto.s3.notifications import S3NotificationEvent

from scar.local.scope import Scope, current
from scar.local.state import StateDamagedError, write_atomically

EVENT_VERSION: Final = "2.5"
_AHEAD_NS: Final = 3600 * 10**9  # so that the file is written once an hour
_CREATED: Final = "s3:ObjectCreated:"
_REMOVED: Final = "s3:ObjectRemoved:"
_REASONS: Final = {"Put": "PutObject", "Post": "POST Object", "Copy": "CopyObject", "Delete": "DeleteObject"}
_log = logging.getLogger("scar.local")


class FunctionQueue(Protocol):
    """Where events for functions go: durable when `accept` returns, started when `dispatch` is called (or at the next start)."""

    def accept(self, function_arn: str, payload: bytes, *, account: str, region: str) -> Any: ...

    def dispatch(self, token: Any) -> None: ...


class Sequencer:
    """Rising numbers for events, whatever the clock does, also over restarts: `kept` holds one that was never reached."""

    def __init__(self, kept: Path | None = None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._kept, self._clock_ns, self._lock = kept, clock_ns, threading.Lock()
        self._last = self._bound = 0 if kept is None else _bound_in(kept)

    def next(self) -> str:
        """18 hexadecimal digits, above all before."""
        with self._lock:
            self._last = max(self._last + 1, self._clock_ns())
            if self._kept is not None and self._last >= self._bound:
                bound = self._last + _AHEAD_NS
                write_atomically(self._kept, f"{bound}\n".encode())
                self._bound = bound
            return f"00{self._last:016X}"


def _bound_in(path: Path) -> int:
    if not path.exists():
        return 0
    text = path.read_text(errors="replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise StateDamagedError(path, "The file does not say which number of an event was the last.")
    return int(text)


@dataclass(frozen=True, slots=True)
class Gone:
    """What is left to say of a version that was removed."""

    name: str
    version_id: str


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to one key, and who had asked to be told at that moment."""

    account: str
    name: str  # s3:ObjectCreated:Put …
    bucket: Any
    key: Any
    wanted: Any  # moto's NotificationConfiguration

    @property
    def is_removal(self) -> bool:
        return self.name.startswith(_REMOVED)

    def of(self, targets: Iterable[Any]) -> Iterator[Any]:
        """Those targets whose events and filters match."""
        return (target for target in targets if target.matches(self.name, self.key.name))


class Events:
    """Collects what happens in a request and hands it on once it is durable."""

    def __init__(self, queue: FunctionQueue, sequencer: Sequencer) -> None:
        self._queue, self._sequencer = queue, sequencer

    def install(self) -> None:
        """Hook moto: what it would send is collected, and removals are told as AWS tells them."""
        notifications.send_event = self._collect
        original = S3Backend.delete_object

        @functools.wraps(original)
        def delete_object(
            backend: Any, bucket_name: str, key_name: str, version_id: str | None = None, bypass: bool = False
        ) -> Any:
            done, said = original(backend, bucket_name, key_name, version_id=version_id, bypass=bypass)
            bucket = backend.get_bucket(bucket_name)
            if done and bucket.is_versioned and (gone := said.get("version-id")):
                event = "Delete" if version_id else "DeleteMarkerCreated"
                self._collect(bucket.account_id, f"{_REMOVED}{event}", bucket, Gone(key_name, str(gone)))
            return done, said

        S3Backend.delete_object = delete_object

    def _collect(self, account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        name = str(getattr(event_name, "value", event_name))
        if bucket.notification_configuration is None:
            return
        if name.startswith(_REMOVED) and bucket.is_versioned and not isinstance(key, Gone):
            return  # moto tells only of the last version to go; delete_object above tells of each
        happening = Happening(account_id, name, bucket, key, bucket.notification_configuration)
        scope = current()
        if scope is not None:
            scope.events.append(happening)
        else:
            alone = Scope(request_id="0000000000000000", events=[happening])
            self.hand_on(alone)
            self.dispatch(alone)

    def hand_on(self, scope: Scope) -> None:
        """Give each event of the request to its targets. What functions shall run on waits in `scope.accepted`."""
        for happening in _as_aws_counts(scope.events):
            self._tell(scope, happening, self._sequencer.next())

    def dispatch(self, scope: Scope) -> None:
        """Let the accepted events run: their request has its answer, or has failed after they were accepted."""
        while scope.accepted:
            self._queue.dispatch(scope.accepted.pop(0))

    def _tell(self, scope: Scope, happening: Happening, sequencer: str) -> None:
        document = functools.partial(_document, scope, happening, sequencer)
        wanted = happening.wanted
        for target in happening.of(wanted.cloud_function):
            region = target.arn.split(":")[3]
            payload = document(target.id).encode()
            scope.accepted.append(self._queue.accept(target.arn, payload, account=happening.account, region=region))
        for target in happening.of(wanted.queue):
            _attempt(happening, target.arn, lambda: _to_queue(scope, happening, target.arn, document(target.id)))  # noqa: B023 - called at once
        for target in happening.of(wanted.topic):
            _attempt(happening, target.arn, lambda: _to_topic(scope, happening, target.arn, document(target.id)))  # noqa: B023 - as above
        if wanted.event_bridge is not None:
            _attempt(happening, "EventBridge", lambda: _to_event_bridge(scope, happening, sequencer))


def _as_aws_counts(happenings: list[Happening]) -> Iterator[Happening]:
    """One event for each thing the caller did: creating an object is not also tagging it, completing an upload not also putting it."""
    # The last word counts: CompleteMultipartUpload comes after moto's Put.
    created = {id(happening.key): happening for happening in happenings if happening.name.startswith(_CREATED)}
    for happening in happenings:
        if created.get(id(happening.key), happening) is happening:
            yield happening


def _document(scope: Scope, happening: Happening, sequencer: str, configuration_id: str) -> str:
    record = _record(scope, happening) | {
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": happening.bucket.name,
                "ownerIdentity": {"principalId": happening.bucket.account_id},
                "arn": happening.bucket.arn,
            },
            "object": _item(happening, sequencer),
        }
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def _record(scope: Scope, happening: Happening) -> dict[str, Any]:
    now = time.time()
    return {
        "eventVersion": EVENT_VERSION,
        "eventSource": "aws:s3",
        "awsRegion": happening.bucket.region_name,
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
        "eventName": happening.name.removeprefix("s3:"),
        "userIdentity": {"principalId": f"AWS:{happening.account}"},
        "requestParameters": {"sourceIPAddress": scope.source_ip},
        "responseElements": {"x-amz-request-id": scope.request_id, "x-amz-id-2": f"{scope.request_id}/local"},
    }


def _item(happening: Happening, sequencer: str) -> dict[str, Any]:
    key = happening.key
    # The S3 form of a key: form-encoded, but for the slash.
    item: dict[str, Any] = {"key": quote_plus(key.name, safe="/"), "sequencer": sequencer}
    if not happening.is_removal:
        item |= {"size": key.size, "eTag": key.etag.strip('"')}
    if happening.bucket.is_versioned:
        item["versionId"] = key.version_id
    return item


def _attempt(happening: Happening, target: str, send: Callable[[], None]) -> None:
    """The upload has succeeded whatever becomes of one target; a failure is reported, as AWS's own is in CloudWatch."""
    try:
        send()
    except Exception:  # noqa: BLE001 - one target of many; the log has it
        _log.exception("%s of %s did not reach %s", happening.name, happening.key.name, target)


def _to_queue(scope: Scope, happening: Happening, arn: str, document: str) -> None:
    from moto.sqs.models import sqs_backends

    sqs_backends[happening.account][arn.split(":")[3]].send_message(arn.rpartition(":")[2], document)
    scope.changed_services.add("sqs")


def _to_topic(scope: Scope, happening: Happening, arn: str, document: str) -> None:
    from moto.sns.models import sns_backends

    topics = sns_backends[happening.account][arn.split(":")[3]]
    topics.publish(arn=arn, message=document, subject="Amazon S3 Notification")
    scope.changed_services.update(("sns", "sqs"))


def _to_event_bridge(scope: Scope, happening: Happening, sequencer: str) -> None:
    from moto.events.models import events_backends
    from moto.events.utils import _BASE_EVENT_MESSAGE

    bucket, verb = happening.bucket, happening.name.rpartition(":")[2]
    item = _item(happening, sequencer) | {"key": happening.key.name}  # EventBridge has the key as it is
    event = copy.deepcopy(_BASE_EVENT_MESSAGE) | {
        "detail-type": notifications._detail_type(S3NotificationEvent(happening.name)),
        "source": "aws.s3",
        "account": happening.account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": {_BRIDGE_NAMES.get(name, name): value for name, value in item.items()},
            "request-id": scope.request_id,
            "requester": happening.account,
            "source-ip-address": scope.source_ip,
            "reason": _REASONS.get(verb, verb),
        },
    }
    for bus in events_backends[happening.account][bucket.region_name].event_buses.values():
        for rule in bus.rules.values():
            rule.send_to_targets(event, transform_input=False)
    scope.changed_services.update(("events", "sqs", "sns"))


_BRIDGE_NAMES: Final = {"eTag": "etag", "versionId": "version-id"}
