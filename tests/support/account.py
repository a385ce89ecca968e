"""An AWS account for tests: moto in this process, calls counted, faults injected at any call, and all of it as one value."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.backends import get_backend
from moto.core.base_backend import BackendDict

from scar.aws.clients import Access, Aws
from scar.fdl.batch import Batch, ComputeResources
from scar.fdl.model import Container, Function, Io, Lambda
from tests.support import holdings, moto_gaps
from tests.support.batch_account import GROUPS, SUBNETS, LocalBatch

REGION = "eu-west-1"
ACCOUNT = "123456789012"
STATE_BUCKET = f"scar-state-{ACCOUNT}-{REGION}"


class FakeClock:
    """Sleeping takes no time and moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Killed(BaseException):
    """The process died: nothing but a test may catch it."""


READS = ("Get", "List", "Describe", "Head", "BatchGet")


@dataclass
class Wire:
    """Every API call of one Aws, in order; a fault may be planted at the n-th (counted from 1)."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    _at: int = 0
    _when: str = ""
    _fault: Callable[[str], BaseException] | None = None
    _dead: bool = False
    watch: Callable[[str], None] | None = None  # hears of every call that had its effect

    def plant(self, at: int, when: str, fault: Callable[[str], BaseException]) -> None:
        """`when`: `before` the call has any effect, or `after` it had and the answer is lost."""
        self.calls.clear()
        self._at, self._when, self._fault, self._dead = at, when, fault, False

    def clear(self) -> None:
        self.calls.clear()
        self._fault, self._dead = None, False

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if not call[1].startswith(READS)]

    def count(self) -> Counter[str]:
        return Counter(operation for _, operation in self.calls)

    def before(self, model: Any, **_: Any) -> None:
        self.calls.append((model.service_model.service_name, model.name))
        if self._dead:
            raise Killed("dead processes do not call")
        if self._when == "before":
            self._strike(model.name)

    def after(self, model: Any, **_: Any) -> None:
        if self.watch is not None:
            self.watch(model.name)
        if self._when == "after":
            self._strike(model.name)

    def _strike(self, operation: str) -> None:
        if self._fault is not None and len(self.calls) == self._at:
            error = self._fault(operation)
            self._dead = isinstance(error, Killed)
            raise error


def refused(operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "InternalError", "Message": "injected"}}, operation)


def denied(operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "AccessDenied", "Message": "injected"}}, operation)


def killed(_: str) -> Killed:
    return Killed("injected")


@dataclass
class Account:
    """A fresh account and one way into it."""

    aws: Aws
    wire: Wire
    clock: FakeClock
    batch: LocalBatch

    def reset(self) -> None:
        """Back to an empty account, the clients kept: they are what takes time to make."""
        BackendDict.reset()
        self.batch.reset()
        self.wire.clear()

    def dump(self) -> dict[str, Any]:
        """`dump_account`, and what is in Batch or made for it."""
        return {
            **dump_account(),
            **self.batch.dump(),
            "instance profiles": dict(_profiles()),
            "invoke": dict(holdings.invoke_configs(_ask)),
            "rules": dict(holdings.rules(_ask)),
        }


@contextmanager
def account(region: str = REGION) -> Iterator[Account]:
    with mock_aws(), moto_gaps.corrected():
        clock, wire = FakeClock(), Wire()
        aws = Aws(Access(region, access_key="testing", secret_key="testing"), clock)
        aws._session.register("before-call", wire.before)
        aws._session.register("after-call", wire.after)
        batch = LocalBatch(ACCOUNT, region, clock.monotonic)
        aws._session.register("before-call", batch.answer)  # after the wire, which has to see the call
        assert aws.account == ACCOUNT
        wire.clear()
        try:
            yield Account(aws, wire, clock, batch)
        finally:
            batch.close()


@dataclass(frozen=True)
class FakeImage:
    """An image that is nothing but its manifest."""

    content: str = "1"

    @property
    def manifest(self) -> str:
        config = "sha256:" + hashlib.sha256(self.content.encode()).hexdigest()
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 2},
                "layers": [],
            }
        )

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def size(self) -> int:
        return 12_300_000

    def publish(self, aws: Aws, repository: str) -> None:
        try:
            aws.ecr.put_image(
                repositoryName=repository,
                imageManifest=self.manifest,
                imageTag=self.digest[7:19],
                imageDigest=self.digest,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ImageAlreadyExistsException":
                raise


def function(
    name: str = "grayify",
    *,
    memory: int = 512,
    inputs: tuple[str, ...] = ("photos/in",),
    outputs: tuple[str, ...] = ("photos/out",),
    **more: Any,
) -> Function:
    """A definition, as short as a test needs it."""
    parts = {key: more.pop(key) for key in ("iam", "ecr", "cloudwatch", "batch") if key in more}
    return Function(
        lambda_=Lambda(
            name=name,
            memory=memory,
            container=Container(image="grycap/imagemagick"),
            input=tuple(Io(path=path) for path in inputs),
            output=tuple(Io(path=path) for path in outputs),
            **more,
        ),
        **parts,
    )


def batch_function(
    name: str = "grayify", *, mode: str = "lambda-batch", batch: Mapping[str, Any] | None = None, **more: Any
) -> Function:
    """A function that runs jobs. Of `batch`, what is a key of `compute_resources` goes there."""
    given = {"subnets": SUBNETS[:2], "security_group_ids": GROUPS, **(batch or {})}
    of_machines = {item.name for item in dataclasses.fields(ComputeResources)}
    machines = {key: value for key, value in given.items() if key in of_machines}
    rest = {key: value for key, value in given.items() if key not in of_machines}
    return function(
        name, execution_mode=mode, batch=Batch(compute_resources=ComputeResources(**machines), **rest), **more
    )


def dump_account(region: str = REGION) -> dict[str, Any]:
    """Everything in the account that scar could touch, with what changes by itself left out."""

    def ask(service: str) -> Any:
        return _ask(service, region)

    return {
        "functions": dict(holdings.functions(ask)),
        "log groups": dict(holdings.log_groups(ask)),
        "roles": dict(holdings.roles(ask)),
        "repositories": dict(holdings.repositories(ask)),
        "buckets": dict(_buckets()),
    }


@functools.cache
def _ask(service: str, region: str = REGION) -> Any:
    return boto3.Session("testing", "testing", region_name=region).client(service)


def _profiles() -> Iterator[tuple[str, Any]]:
    for profile in get_backend("iam")[ACCOUNT]["aws"].instance_profiles.values():
        yield profile.name, {"roles": [role.name for role in profile.roles], "tags": sorted(map(str, profile.tags))}


def _buckets() -> Iterator[tuple[str, Any]]:
    """Settings as moto holds them, for reading each through the API is what takes longest in a sweep."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    for name, bucket in backend.buckets.items():
        yield (
            name,
            {
                # A lease whose holder died stays, expires by the clock of whoever waits for it, and is taken over.
                "objects": {key: item.etag for key, item in bucket.keys.items() if not key.startswith("leases/")},
                "notifications": notifications(name) if bucket.notification_configuration else {},
                "tags": backend.tagger.get_tag_dict_for_resource(bucket.arn),
                "policy": bucket.policy,
                "encryption": bucket.encryption,
                "access": vars(bucket.public_access_block) if bucket.public_access_block else None,
                "rules": json.dumps(bucket.rules, default=vars),
                "ownership": bucket.ownership_rule,
            },
        )


def bucket_settings(bucket: str) -> dict[str, Any]:
    """What the API tells of a bucket's settings, by the call that tells it."""
    return holdings.bucket_settings(_ask("s3"), bucket)


def notifications(bucket: str) -> dict[str, Any]:
    """A bucket's notification configuration, its lists in the order of their Ids."""
    return holdings.notifications(_ask("s3"), bucket)


@dataclass(frozen=True)
class Kept:
    """Content that must lie in S3."""

    content: bytes

    @property
    def name(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def open(self) -> Callable[[], Iterator[bytes]]:
        return lambda: iter([self.content])


@dataclass(frozen=True)
class FakeZip:
    """A zip that holds one word, and layers that are packed in `bucket`. `through_bucket`: so is the zip."""

    word: str = "1"
    layers: tuple[bytes, ...] = (b"layer",)
    kept_in: str = STATE_BUCKET
    through_bucket: bool = False

    def content(self) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo("function/spec.json"), self.word)
        return out.getvalue()

    @property
    def sha256(self) -> str:
        return base64.b64encode(hashlib.sha256(self.content()).digest()).decode()

    @property
    def size(self) -> int:
        return len(self.content())

    @property
    def zip_name(self) -> str | None:
        return Kept(self.content()).name if self.through_bucket else None

    @property
    def objects(self) -> tuple[Kept, ...]:
        return (*map(Kept, self.layers), *([Kept(self.content())] if self.through_bucket else []))

    @property
    def bucket(self) -> str | None:
        return self.kept_in if self.objects else None

    @property
    def runs(self) -> str:
        return "image of a test"

    @property
    def watch(self) -> Callable[[], AbstractContextManager[Callable[[int, int, str], None]]]:
        return lambda: nullcontext(lambda done, total, what: None)
