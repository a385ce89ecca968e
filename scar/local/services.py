"""moto's control planes (functions, roles, queues, buckets' settings …): one snapshot for each service, rewritten after each change.

Requests that change the same service at once share one write. Objects and log events are not here: s3_keys and logs keep those.
"""

from __future__ import annotations

import functools
import json
import logging
import pickle
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.s3.models import FakeBucket, MultipartDict
from moto.s3.utils import _VersionedKeyStore
from moto.sqs.models import SQSBackend
from moto.utilities.tagging_service import TaggingService

from scar.local import pickling, snapshot
from scar.local.saving import Saver
from scar.local.scope import current
from scar.local.state import StateDamagedError, make_folder

Environ = dict[str, Any]

_log = logging.getLogger("scar.local")
_READS: Final = re.compile(
    r"(Get(?!SessionToken|FederationToken)|List|Describe|BatchGet|BatchCheck|Head|Lookup|Filter|Simulate|Decode|Test|StartQuery|Select)"
)
# Durable elsewhere, or nothing that must outlive us.
_KEPT_ELSEWHERE: Final = frozenset({"PutLogEvents", "AssumeRole", "GetDownloadUrlForLayer"})
# Nobody is told that they are kept: how often a message was received, and until when it is hidden. Written soon, not at once.
_KEPT_SOON: Final = frozenset({"ReceiveMessage", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch"})
# These change what belongs to other services; whatever of those is in use is saved after them.
_REACH_OTHERS: Final = frozenset({"resourcegroupstaggingapi", "cloudformation"})
_REACHED: Final = frozenset(
    {
        "awslambda", "apigateway", "apigatewayv2", "cloudformation", "dynamodb", "ec2", "ecr", "ecs", "efs", "events",
        "iam", "kms", "logs", "s3", "scheduler", "secretsmanager", "sns", "sqs", "ssm", "stepfunctions",
    }
)  # fmt: skip
# Served without moto; an older version kept moto's state of it.
_NOT_MOTO: Final = frozenset({"batch"})
# What SCAR deploys to. A change here that cannot be kept fails; elsewhere it is done, and said to be lost at a restart.
KEPT: Final = frozenset({"apigateway", "awslambda", "ecr", "events", "iam", "logs", "s3", "sns", "sqs", "ssm", "sts"})
# Restored when first used: moto's EC2 alone takes a second and a hundred MiB, and its API Gateway a second. None of the rest of KEPT asks them anything.
_RESTORED_LATE: Final = frozenset({"apigateway", "ec2"})
_UNREADABLE: Final = (AttributeError, ImportError, KeyError, TypeError)
_INVOCATION: Final = re.compile(
    r"/20\d\d-\d\d-\d\d/functions/[^/]+/(invocations|invoke-async|response-streaming-invocations)/?$"
)


class Services:
    """All services' snapshots below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._savers: dict[str, Saver] = {}
        self._lock = threading.Lock()
        self._asleep: dict[str, bytes] = {}
        self._waking = threading.Lock()
        self.not_kept: dict[str, str] = {}
        self._soon: set[str] = set()
        make_folder(folder)

    def install(self) -> None:
        """Hook moto's SQS: a message may also come from inside (a dead letter, a destination, a topic), and must be kept too."""
        original = SQSBackend.send_message
        services = self

        @functools.wraps(original)
        def send_message(self: Any, *args: Any, **kwargs: Any) -> Any:
            sent = original(self, *args, **kwargs)
            scope = current()
            if scope is not None:
                scope.changed_services.add("sqs")
            else:
                services.save(["sqs"])
            return sent

        SQSBackend.send_message = send_message

    def load(self) -> list[str]:
        """Restore every service that has a snapshot. All are verified before the first is restored."""
        kept = [path for path in self._folder.glob("*.snapshot") if path.stem not in _NOT_MOTO]
        found = {path.stem: snapshot.read(path, written_by=pickling.WRITTEN_BY) for path in kept}
        # Buckets first: other services look them up while they are restored.
        for service in sorted(found, key=lambda name: (name != "s3", name)):
            if service in _RESTORED_LATE:
                self._asleep[service] = found[service]
            else:
                self._restore(service, found[service])
        return sorted(found)

    def wake(self, service: str) -> None:
        """Restore what was left asleep, before `service` is used, if it can ask for it."""
        if self._asleep and (service not in KEPT or service in self._asleep):
            with self._waking:  # whoever comes second waits until all is there
                for name, payload in list(self._asleep.items()):
                    self._restore(name, payload)
                    del self._asleep[name]

    def _restore(self, service: str, payload: bytes) -> None:
        try:
            restore(service, payload)
        except (pickle.PickleError, *_UNREADABLE) as error:
            path = self._folder / f"{service}.snapshot"
            raise StateDamagedError(path, f"The snapshot cannot be read back: {error}.") from error

    def changed_by(self, service: str, environ: Environ, content: bytes) -> tuple[str, ...]:
        """The services whose snapshots a request may change."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
            return ()
        action, path = action_of(environ, content), environ.get("PATH_INFO", "")
        if service in _REACH_OTHERS and action is not None and not _READS.match(action):
            return tuple(sorted(_in_use() & _REACHED))
        if action in _KEPT_SOON:
            self._soon.add(service)
            return ()
        if action is not None:
            return () if _READS.match(action) or action in _KEPT_ELSEWHERE else (service,)
        if service == "awslambda" and _INVOCATION.search(path):
            return ()
        if service == "awslambda" and "/event-source-mappings" in path:
            return (service, "sqs")  # moto keeps the mapping with the queue too
        return (service,)

    def save_soon(self) -> None:
        """What changed without having to be on disk before its answer. Once a second, and at the end."""
        soon, self._soon = self._soon, set()
        try:
            self.save(sorted(soon))
        except OSError:
            self._soon |= soon
            raise

    def save(self, services: Iterable[str]) -> None:
        """Return when the present state of each service is on disk."""
        for service in services:
            self.wake(service)
            try:
                self._saver(service).save()
            except (pickle.PickleError, *_UNREADABLE) as error:
                if service in KEPT:
                    raise
                if service not in self.not_kept:
                    _log.warning(
                        "%s will be empty after a restart: moto's state of it cannot be kept (%s)", service, error
                    )
                self.not_kept[service] = str(error)

    def _saver(self, service: str) -> Saver:
        with self._lock:
            if service not in self._savers:
                path = self._folder / f"{service}.snapshot"
                self._savers[service] = Saver(lambda: _write(service, path))
            return self._savers[service]


def _write(service: str, path: Path) -> None:
    payload = dump(service)
    pickling.loads(payload)  # what could not be read back must fail now, not at the next start
    snapshot.write(path, payload, written_by=pickling.WRITTEN_BY)


def action_of(environ: Environ, content: bytes) -> str | None:
    """The API action of a JSON or query protocol request; None for REST."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return next(iter(parse_qs(content.decode("utf-8", "replace")).get("Action", [])), None)
    return next(iter(parse_qs(str(environ.get("QUERY_STRING", ""))).get("Action", [])), None)


def dump(service: str) -> bytes:
    """A service's backends as bytes. Other threads may be changing it: their own save follows, so a torn look is simply taken again."""
    for attempt in range(20):
        try:
            return pickling.dumps(_state(service))
        except RuntimeError:  # "changed size during iteration"
            if attempt == 19:
                raise
    raise AssertionError("unreachable")


def _state(service: str) -> list[tuple[str, str, dict[str, Any]]]:
    backends = get_backend(service)
    assert isinstance(backends, BackendDict), service
    prepare = _s3_settings if service == "s3" else dict
    return [(account, region, prepare(vars(backend))) for account, region, backend in list(backends.iter_backends())]


def restore(service: str, payload: bytes) -> None:
    """Put a dumped service back into moto."""
    backends = get_backend(service)
    for account, region, state in pickling.loads(payload):
        vars(backends[account][region]).update(state)
        if service == "s3":
            for bucket in state["buckets"].values():
                backends.bucket_accounts[bucket.name] = (bucket.partition, bucket.account_id)


def _s3_settings(state: dict[str, Any]) -> dict[str, Any]:
    """Buckets with their settings and tags, without their objects and unfinished uploads."""
    tagger: TaggingService = state["tagger"]
    bucket_tags = TaggingService()
    bucket_tags.tags = {arn: tags for arn, tags in list(tagger.tags.items()) if "/" not in arn}
    return state | {
        "buckets": {name: _without_objects(bucket) for name, bucket in list(state["buckets"].items())},
        "tagger": bucket_tags,
        "_pagination_tokens": {},
    }


def _without_objects(bucket: FakeBucket) -> FakeBucket:
    empty = FakeBucket.__new__(type(bucket))
    vars(empty).update(vars(bucket), keys=_VersionedKeyStore(), multiparts=MultipartDict())
    return empty


def _in_use() -> set[str]:
    """moto's names of the services that have been touched since the start."""
    return {backends.backend.__module__.split(".")[1] for backends in list(BackendDict._instances)}


def as_json(content: bytes) -> dict[str, Any]:
    """A JSON request's parameters; empty when it is none."""
    try:
        document = json.loads(content or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
