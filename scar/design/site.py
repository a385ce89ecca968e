"""Where a function is to stand, and the code it is to run: what a design needs besides the definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from scar.aws.clients import Aws
from scar.aws.network import Network
from scar.aws.resources.code_objects import Tell


@dataclass(frozen=True, slots=True)
class Site:
    """One account and region. `account` has 12 digits; `partition` is `aws`, `aws-cn` or `aws-us-gov`.

    `network` is where machines may stand when a definition does not say; None when it was not asked for, or there is none.
    """

    account: str
    region: str
    partition: str = "aws"
    network: Network | None = None

    @classmethod
    def of(cls, aws: Aws) -> Site:
        return cls(account=aws.account, region=aws.region, partition=aws.partition)

    def arn(self, service: str, resource: str) -> str:
        """`arn:aws:logs:eu-west-1:123456789012:<resource>`."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def bucket_arn(self, bucket: str) -> str:
        return f"arn:{self.partition}:s3:::{bucket}"

    def role_arn(self, role: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{role}"

    @property
    def registry(self) -> str:
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"{self.account}.dkr.ecr.{self.region}.{suffix}"


@runtime_checkable
class FunctionImage(Protocol):
    """The image of one function, known by its manifest's digest before a byte of it is pushed.

    1. `digest` is `sha256:…` of the single-platform manifest that Lambda is given; `size` its layers' bytes, compressed;
    2. `publish` puts every missing blob and then the manifest into the ECR repository; done twice it changes nothing;
    3. it never deletes, and raises ScarError or what botocore raises.
    """

    @property
    def digest(self) -> str: ...

    @property
    def size(self) -> int: ...

    def publish(self, aws: Aws, repository: str) -> None: ...


class PreparedImage(Protocol):
    """An image that somebody has put into ECR and that is run as it is: nothing is made or removed for it."""

    @property
    def uri_by_digest(self) -> str: ...


class StoredObject(Protocol):
    """Content under the hex digits of its SHA-256; `open` raises at the end when the bytes were others."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def open(self) -> Callable[[], Iterator[bytes]]: ...


@runtime_checkable
class FunctionZip(Protocol):
    """The code of one function as a zip, known by its digest before a byte of it is sent.

    1. `sha256` is Lambda's CodeSha256, `size` the zip's bytes, and `content()` answers them, the same each time;
    2. `bucket` is where `objects` must lie, below the function's code prefix, before the function is made: layers of the image that
       were packed, and the zip itself when `zip_name` names it; None when there are no objects;
    3. `runs` says for the plan where the image comes from when the function starts.
    """

    @property
    def sha256(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def bucket(self) -> str | None: ...

    @property
    def objects(self) -> Sequence[StoredObject]: ...

    @property
    def zip_name(self) -> str | None: ...

    @property
    def runs(self) -> str: ...

    @property
    def watch(self) -> Callable[[], AbstractContextManager[Tell]]: ...

    def content(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ZipAndJobImage:
    """A function that is a zip in Lambda, and an image in Batch, which takes nothing else."""

    code: FunctionZip
    job_image: FunctionImage


@dataclass(frozen=True, slots=True)
class WithNodeImages:
    """A function whose jobs have nodes that run another image; `nodes` has it by what the definition calls it."""

    code: FunctionImage | ZipAndJobImage
    nodes: Mapping[str, FunctionImage]


Made = FunctionImage | PreparedImage | FunctionZip | ZipAndJobImage | WithNodeImages
"""What a function's code was made into, of which the design chooses resources."""
