"""What a container of a job definition may ask for, on EC2 and on Fargate.

Sources: botocore batch:ContainerProperties and its members; the texts are Batch's, as users have reported them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from scar.local.batch.checks import ClientError_, amounts, check_environment, executing

Properties = Mapping[str, Any]

IMAGE_CHARS: Final = 255  # botocore batch:ContainerProperties.image
# ibid. Digests (`@sha256:…`) are named for multi-container jobs only, and are taken everywhere.
_IMAGE: Final = re.compile(r"[A-Za-z0-9_:./#@-]+")
_VOLUME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")  # botocore batch:Volume.name
_FILE_SYSTEM: Final = re.compile(r"fs-[0-9a-f]{8,40}")
MIN_MEMORY_MIB: Final = 4  # botocore batch:ResourceRequirement.value
_GIB: Final = 1024
# botocore batch:ResourceRequirement.value, checked 2026-11: vCPUs → MiB
FARGATE_MEMORY_MIB: Final[Mapping[float, Sequence[int]]] = {
    0.25: (512, 1024, 2048),
    0.5: range(1 * _GIB, 4 * _GIB + 1, _GIB),
    1: range(2 * _GIB, 8 * _GIB + 1, _GIB),
    2: range(4 * _GIB, 16 * _GIB + 1, _GIB),
    4: range(8 * _GIB, 30 * _GIB + 1, _GIB),
    8: range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB),
    16: range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB),
    32: (60 * _GIB, 120 * _GIB, 249_856),
}
_FARGATE_DRIVERS: Final = ("awslogs", "splunk", "awsfirelens")  # botocore batch:LogConfiguration.logDriver
_FARGATE_DISK_GIB: Final = (21, 200)  # botocore batch:EphemeralStorage
_ONLY_FARGATE: Final = ("networkConfiguration", "fargatePlatformConfiguration", "runtimePlatform", "ephemeralStorage")
_ONLY_EC2: Final = ("ulimits", "instanceType")
_ONLY_EC2_LINUX: Final = ("devices", "sharedMemorySize", "tmpfs", "maxSwap", "swappiness")
_OLD_PLATFORMS: Final = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


def check_container(properties: Properties, *, fargate: bool) -> None:
    """Refuse `containerProperties` that Batch does not register. In a node range everything but the image may come from elsewhere."""
    _check_image(properties)
    check_environment(properties.get("environment") or [])
    _check_volumes(properties, fargate=fargate)
    _check_linux(properties.get("linuxParameters") or {}, fargate=fargate)
    if properties.get("secrets") and not properties.get("executionRoleArn"):
        raise executing("executionRoleArn is required when secrets are provided.")
    if fargate:
        _check_fargate(properties)
    else:
        _check_ec2(properties)


def _check_image(properties: Properties) -> None:
    image = str(properties.get("image") or "")
    if not image:
        raise executing("image is required.")
    if len(image) > IMAGE_CHARS or not _IMAGE.fullmatch(image):
        raise executing(f"image should match a valid pattern: {image}")


def _check_ec2(properties: Properties) -> None:
    for name in _ONLY_FARGATE:
        if properties.get(name):
            raise executing(f"{name} not applicable for EC2.")
    asked = amounts(properties.get("resourceRequirements") or [])
    legacy = {"VCPU": properties.get("vcpus"), "MEMORY": properties.get("memory")}
    for kind, value in legacy.items():
        if value is not None and kind in asked:
            raise executing(
                f"Cannot provide both the deprecated {kind} member and resourceRequirements of type {kind}."
            )
    given = {kind: str(value) for kind, value in legacy.items() if value is not None} | asked
    _check_whole(given)
    if "VCPU" not in given:
        raise executing("vCPU is not provided.")  # github.com/ASFHyP3/hyp3/pull/586
    if "MEMORY" not in given:
        raise executing("Memory is not provided.")
    if int(given["VCPU"]) < 1:
        raise executing("vCPUs must be at least 1.")
    if int(given["MEMORY"]) < MIN_MEMORY_MIB:
        raise executing(f"Memory must be at least {MIN_MEMORY_MIB} MiB.")


def _check_whole(given: Mapping[str, str]) -> None:
    for kind, value in given.items():
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise _not_numeric(kind, value)


def _not_numeric(kind: str, value: str) -> ClientError_:
    # github.com/kestra-io/plugin-aws/issues/504
    return executing(
        f"Value {value} for type {kind} in resourceRequirement is not valid. Please provide a numeric value."
    )


def _check_fargate(properties: Properties) -> None:
    for legacy in ("vcpus", "memory"):
        if properties.get(legacy) is not None:  # github.com/insitro/redun/pull/95
            raise executing(f"{legacy} is not applicable for Fargate. Use resource requirements instead.")
    for name in _ONLY_EC2:
        if properties.get(name):
            raise executing(f"{name} is not applicable for Fargate.")
    if properties.get("privileged"):
        raise executing("privileged is not applicable for Fargate.")
    if not properties.get("executionRoleArn"):
        raise executing("executionRoleArn is required for Fargate jobs.")
    check_fargate_amounts(amounts(properties.get("resourceRequirements") or []))
    driver = (properties.get("logConfiguration") or {}).get("logDriver", _FARGATE_DRIVERS[0])
    if driver not in _FARGATE_DRIVERS:
        raise executing(f"Log driver for Fargate is not valid: {driver}")
    least, most = _FARGATE_DISK_GIB
    if not least <= (properties.get("ephemeralStorage") or {}).get("sizeInGiB", least) <= most:
        raise executing(f"Ephemeral storage for Fargate tasks can be only between range {least} GiB to {most} GiB")


def check_fargate_amounts(asked: Mapping[str, str]) -> None:
    """VCPU and MEMORY must be one of Fargate's pairs; also for what SubmitJob overrides, merged with the definition's."""
    if "GPU" in asked:
        raise executing("GPU is not applicable for Fargate.")
    if "VCPU" not in asked:
        raise executing("vCPU is not provided.")
    if "MEMORY" not in asked:
        raise executing("Memory is not provided.")
    _check_whole({"MEMORY": asked["MEMORY"]})
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", asked["VCPU"]):
        raise _not_numeric("VCPU", asked["VCPU"])
    vcpus = float(asked["VCPU"])
    if int(asked["MEMORY"]) not in FARGATE_MEMORY_MIB.get(vcpus, ()):
        # github.com/Netflix/metaflow/issues/749
        raise executing(f"Fargate resource requirements ({vcpus:.2f} vCPU, {asked['MEMORY']} MiB) not valid.")


def _check_linux(parameters: Properties, *, fargate: bool) -> None:
    for name in _ONLY_EC2_LINUX:
        if fargate and parameters.get(name) is not None:
            raise executing(f"linuxParameter.{name} is not allowed for Fargate.")
    if parameters.get("maxSwap", 0) < 0:
        raise executing("linuxParameter.maxSwap must not be negative.")
    if not 0 <= parameters.get("swappiness", 60) <= 100:
        raise executing("linuxParameter.swappiness must be between 0 and 100.")
    for tmpfs in parameters.get("tmpfs") or []:
        if tmpfs["size"] < 1:
            raise executing("linuxParameter.tmpfs size must be a positive number of MiB.")


def _check_volumes(properties: Properties, *, fargate: bool) -> None:
    volumes = properties.get("volumes") or []
    names = [str(volume.get("name") or "") for volume in volumes]
    for volume, name in zip(volumes, names, strict=True):
        if not _VOLUME.fullmatch(name):
            raise executing(f"Volume name should match a valid pattern: {name!r}")
        if names.count(name) > 1:
            raise executing(f"Volume name {name} is used more than once.")
        _check_volume(volume, properties, fargate=fargate)
    for point in properties.get("mountPoints") or []:
        if point.get("sourceVolume") not in names:
            raise executing(f"Unknown volume '{point.get('sourceVolume')}'.")
        if not point.get("containerPath"):
            raise executing("containerPath is required for a mount point.")


def _check_volume(volume: Properties, properties: Properties, *, fargate: bool) -> None:
    kinds = [
        name
        for name in ("host", "efsVolumeConfiguration", "s3filesVolumeConfiguration")
        if volume.get(name) is not None
    ]
    if len(kinds) > 1:
        raise executing(f"A volume takes one configuration, not {' and '.join(kinds)}.")
    if fargate and (volume.get("host") or {}).get("sourcePath"):
        raise executing("host.sourcePath should not be set for volumes in Fargate.")
    if "s3filesVolumeConfiguration" in kinds and not properties.get("jobRoleArn"):
        raise executing("jobRoleArn is required for S3 Files volumes.")  # botocore batch:S3FilesVolumeConfiguration
    if "efsVolumeConfiguration" in kinds:
        _check_efs(volume["efsVolumeConfiguration"], properties, fargate=fargate)


def _check_efs(efs: Properties, properties: Properties, *, fargate: bool) -> None:
    """botocore batch:EFSVolumeConfiguration, EFSAuthorizationConfig."""
    authorization = efs.get("authorizationConfig") or {}
    encrypted = efs.get("transitEncryption") == "ENABLED"
    by_iam = authorization.get("iam") == "ENABLED"
    if not _FILE_SYSTEM.fullmatch(efs["fileSystemId"]):
        raise executing(f"fileSystemId is not valid: {efs['fileSystemId']}")
    if authorization.get("accessPointId") and efs.get("rootDirectory", "/") != "/":
        raise executing('When using an EFS access point, the root directory must either be set to "/" or omitted')
    if (authorization.get("accessPointId") or by_iam) and not encrypted:
        raise executing("EFS transit encryption must be enabled with an access point or IAM authorization.")
    if by_iam and not properties.get("jobRoleArn"):
        raise executing("jobRoleArn is required for EFS IAM authorization.")
    if len(efs.get("rootDirectory", "")) > 4096:
        raise executing("EFS rootDirectory can have at most 4096 characters.")
    platform = (properties.get("fargatePlatformConfiguration") or {}).get("platformVersion", "LATEST")
    if fargate and platform in _OLD_PLATFORMS:
        raise executing(f"EFS is supported for Fargate platform versions 1.4.0 or later, provided {platform}")
