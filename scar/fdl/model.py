"""The Function Definition Language as types: every key of a definition file, what it means, and what it is when absent.

Loading, places and limits are in `load`; the JSON Schema and the reference page are generated from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faassupervisor.contract import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """One item of `input` or `output`. `path` is `bucket[/folder…]`, without a slash at the end."""

    path: str
    storage_provider: str = "s3"
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()

    @property
    def bucket(self) -> str:
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        return self.path.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`container`: exactly one of `image` (a registry reference, or `scratch`) and `image_file` (an archive or OCI layout)."""

    image: str | None = None
    image_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_threshold: int = 10
    alpine: bool | None = None
    create_image: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    bucket: str | None = None
    max_payload_size: int = 52_428_800
    max_s3_payload_size: int = 262_144_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    version: str | None = None
    layer_name: str | None = None
    license_info: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    arn: str
    local_mount_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lambda:
    """`lambda`: memory in MiB, times in seconds. Paths are absolute: they were resolved against the definition file's folder."""

    name: str
    runtime: str = "image"
    memory: int = 512
    timeout: int = 300
    ephemeral_storage: int = 512
    description: str = ""
    execution_mode: Mode = "lambda"
    log_level: str = "INFO"
    layers: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    init_script: Path | None = None
    run_script: Path | None = None
    c_args: tuple[str, ...] = ()
    asynchronous: bool = False
    invocation_type: str | None = None
    log_type: str | None = None
    preheat: bool = False
    extra_payload: Path | None = None
    deployment: Deployment = Deployment()
    container: Container = Container()
    architecture: str = "x86_64"  # `architectures` in the file: a list of one
    vpc: Vpc | None = None
    file_system: FileSystem | None = None
    supervisor: Supervisor = Supervisor()
    input: tuple[Io, ...] = ()
    output: tuple[Io, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    boto_profile: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Iam:
    """`iam.role` names a role to use; None: `init` makes a least-privilege one."""

    role: str | None = None
    boto_profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatch:
    log_retention_policy_in_days: int = 30
    boto_profile: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    boto_profile: str | None = None
    region: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecr:
    """`delete_image` says whether `rm` removes the repository; True when absent."""

    delete_image: bool = True
    boto_profile: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One item of `functions.aws`. `source` is the file it was read from."""

    lambda_: Lambda
    iam: Iam = Iam()
    cloudwatch: CloudWatch = CloudWatch()
    s3: S3 = S3()
    ecr: Ecr = Ecr()
    api_gateway: object | None = None
    batch: object | None = None
    source: Path | None = None

    @property
    def name(self) -> str:
        return self.lambda_.name
