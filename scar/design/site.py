"""Where a function is to stand, and the image it is to run: what a design needs besides the definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from scar.aws.clients import Aws


@dataclass(frozen=True, slots=True)
class Site:
    """One account and region. `account` has 12 digits; `partition` is `aws`, `aws-cn` or `aws-us-gov`."""

    account: str
    region: str
    partition: str = "aws"

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
