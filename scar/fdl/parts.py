"""The part of the model that describes what a function is made of: its container, how its code is sent, and the network and files it joins."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from scar import limits
from scar.fdl.key import Form, Key, Pattern, Range
from scar.fdl.vocabulary import ENVIRONMENT_DOC, LAMBDA_GUIDE, PROCESS_NAMES

_LAMBDA_API: Final = "AWS Lambda API reference, VpcConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What runs: exactly one of `image` and `image_file`."""

    RETIRED: ClassVar[Mapping[str, str]] = {
        "init_script": "Write `init_script` in `lambda` itself.",
        "extra_payload": "Write `extra_payload` in `lambda` itself, or put the files into the image.",
    }

    image: Annotated[
        str | None,
        Key(
            "The image in a registry, as `docker pull` takes it, or elsewhere: `docker-daemon:name` and `containers-storage:name` (Docker's and "
            "Podman's own stores), `docker-archive:path`, `oci-archive:path` and `oci:folder` (with `:tag` where there are several). "
            "`scratch` is the empty image, with nothing but SCAR's own Python.",
            Form(
                "image",
                limits.IMAGE_PATTERN,
                says="`[registry/]name[:tag][@sha256:…]` in lower case, such as `ubuntu:24.04`, or a transport of containers-transports(5)",
                source="the distribution project's reference grammar",
            ),
        ),
    ] = None
    image_file: Annotated[
        Path | None,
        Key("The image on disk: an archive that `docker save` wrote, an OCI archive, or an OCI layout folder."),
    ] = None
    environment: Annotated[
        Mapping[str, str],
        Key(
            f"What the user's process finds in its environment. {ENVIRONMENT_DOC}",
            PROCESS_NAMES,
            wrapper="Variables",
            as_written=True,
        ),
    ] = field(default_factory=dict)
    timeout_threshold: Annotated[
        int,
        Key(
            "Kept back before `timeout`, so that a script that is stopped can still be reported, or handed over to Batch. In the mode `lambda` at most a quarter of `timeout` is.",
            Range(0, limits.LAMBDA_TIMEOUT_S[1] - 1, owner="SCAR's"),
            unit="s",
        ),
    ] = 10
    alpine: Annotated[
        bool | None,
        Key("Whether the image uses musl.", legacy="has no effect: every libc works without being told"),
    ] = None
    create_image: Annotated[
        bool,
        Key(
            "Whether SCAR derives an image of its own from `image`. `false`: `image` is already in a private ECR repository of the "
            "function's region, is run as it is, and is never changed or removed."
        ),
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the code of a zip function is uploaded to."""

    bucket: Annotated[
        str | None,
        Key(
            f"The bucket for the code and the image's layers, below `{limits.CODE_FOLDER}/`; made when it is absent, and never removed. "
            "Without one, SCAR's own bucket takes what needs one.",
            Pattern(limits.BUCKET_NAME_PATTERN, says="a bucket name"),
        ),
    ] = None
    max_payload_size: Annotated[
        int,
        Key(
            "The largest zip that is sent with the request; a larger one goes through the bucket.",
            Range(1, limits.LAMBDA_ZIP_BYTES, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="bytes",
        ),
    ] = limits.LAMBDA_ZIP_BYTES
    max_s3_payload_size: Annotated[
        int,
        Key(
            "The largest code, unpacked: what is larger is refused.",
            Range(1, limits.LAMBDA_UNZIPPED_BYTES, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="bytes",
        ),
    ] = limits.LAMBDA_UNZIPPED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """Which agent earlier versions downloaded."""

    version: Annotated[str | None, Key("The agent's release.")] = None
    layer_name: Annotated[str | None, Key("The name of the agent's Lambda layer.")] = None
    license_info: Annotated[str | None, Key("The licence of the agent's Lambda layer.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    """The network that a function joins; the keys are those of Lambda's `VpcConfig`."""

    subnet_ids: Annotated[
        tuple[str, ...],
        Key(
            "The subnets.",
            Pattern(
                r"subnet-[0-9a-z]{1,40}", says="the id of a subnet: `subnet-0123456789abcdef0`", source=_LAMBDA_API
            ),
            name="SubnetIds",
            most=16,
        ),
    ] = ()
    security_group_ids: Annotated[
        tuple[str, ...],
        Key(
            "The security groups.",
            Pattern(
                r"sg-[0-9a-zA-Z]{1,40}", says="the id of a security group: `sg-0123456789abcdef0`", source=_LAMBDA_API
            ),
            name="SecurityGroupIds",
            most=5,
        ),
    ] = ()
    ipv6: Annotated[
        bool, Key("Whether connections out may use IPv6, in subnets that have both.", name="Ipv6AllowedForDualStack")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system that a function mounts; the keys are those of Lambda's `FileSystemConfigs`."""

    arn: Annotated[
        str,
        Key(
            "The access point of Amazon EFS.",
            Pattern(
                r"arn:aws[a-zA-Z-]*:elasticfilesystem:[a-z0-9-]+:\d{12}:access-point/fsap-[a-f0-9]{17}",
                says="the ARN of an access point: `arn:aws:elasticfilesystem:eu-west-1:123456789012:access-point/fsap-0123456789abcdef0`",
                source="AWS Lambda API reference, FileSystemConfig",
            ),
            name="Arn",
        ),
    ]
    local_mount_path: Annotated[
        str,
        Key(
            "Where it is mounted.",
            Pattern(
                r"/mnt/[a-zA-Z0-9_.-]{1,155}",
                says="`/mnt/` and one name",
                source="AWS Lambda API reference, FileSystemConfig",
            ),
            name="LocalMountPath",
        ),
    ]
    file_system_id: Annotated[
        str | None,
        Key(
            "The file system that the access point is of. Lambda does not ask for it; jobs mount nothing without it.",
            Pattern(
                r"fs-[0-9a-f]{8,40}",
                says="the id of a file system: `fs-0123456789abcdef0`",
                source="AWS Batch API reference",
            ),
            name="FileSystemId",
        ),
    ] = None
