"""What sandbox does a job's container ask for? What the local AWS cannot give is refused by name: nothing is dropped in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.local.batch.images import ImageError, TakenImage, user_in
from scar.local.batch.properties import parameters_of, requirement, resolved_command
from scar.local.sandbox.spec import Bind, Engine, Place, SandboxSpec, Tmpfs

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # Docker's, where an image names none
_MOST_PROCESSES: Final = 4096
_OPEN_FILES: Final = 65_536  # the ECS-optimised AMI's default limit
_ULIMITS: Final = frozenset({"nofile", "core"})
_MOUNTS_TMPFS: Final = frozenset({"namespaces", "podman", "docker"})
_NO_VIEW: Final = frozenset({"host"})  # engines that show a program this machine's folders as they are


class CannotStartError(Exception):
    """Why a container cannot be started, in ECS's words."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the local AWS that a job may see: `efs` has one for each file system, `scratch` is this attempt's own."""

    efs: Path
    scratch: Path


def check_given(container: Mapping[str, Any], engine: Engine) -> None:
    """Raises CannotStartError naming the first member that the local AWS cannot give."""
    for member in _not_given(container, engine):
        raise CannotStartError(f"CannotStartContainerError: the local AWS cannot give a job {member}")


def _not_given(container: Mapping[str, Any], engine: Engine) -> Iterator[str]:
    linux = container.get("linuxParameters") or {}
    if container.get("privileged"):
        yield "`privileged`"
    if linux.get("devices"):
        yield "`linuxParameters.devices`"
    if linux.get("maxSwap"):
        yield "`linuxParameters.maxSwap` (there is no swap)"
    if linux.get("tmpfs") and engine.name not in _MOUNTS_TMPFS:
        yield f"`linuxParameters.tmpfs` with the sandbox engine {engine.name}"
    for limit in container.get("ulimits") or ():
        if limit["name"] not in _ULIMITS:
            yield f"`ulimits` of {limit['name']}"
    if container.get("repositoryCredentials"):
        yield "`repositoryCredentials`; `docker login` on this machine instead"
    driver = (container.get("logConfiguration") or {}).get("logDriver", "awslogs")
    if driver != "awslogs":
        yield f"`logConfiguration.logDriver` {driver}"
    if container.get("mountPoints") and engine.name in _NO_VIEW:
        yield f"`mountPoints` with the sandbox engine {engine.name}"
    for volume in container.get("volumes") or ():
        for kind in set(volume) - {"name", "host", "efsVolumeConfiguration"}:
            yield f"`volumes` of {kind}"


def spec_of(
    container: Mapping[str, Any],
    image: TakenImage,
    environment: Mapping[str, str],
    *,
    definition: Mapping[str, Any],
    request: Mapping[str, Any],
    places: Places,
    hostname: str,
    place: Place | None = None,
) -> SandboxSpec:
    """Raises CannotStartError or ImageError. `environment` is all but the image's own."""
    process, linux = image.process, container.get("linuxParameters") or {}
    command = resolved_command(container.get("command") or (), parameters_of(definition, request))
    argv = (*process.entry_point, *(command or process.command))
    if not argv:
        raise CannotStartError("CannotStartContainerError: Error response from daemon: no command specified")
    user = user_in(image.held.path, str(container.get("user") or image.user))
    vcpus = requirement(container, "VCPU")
    memory_mib = requirement(container, "MEMORY")
    return SandboxSpec(
        rootfs=image.held.path,
        argv=argv,
        environment={"PATH": _PATH, "HOSTNAME": hostname, **_variables(process.environment), **environment},
        working_directory=process.working_directory,
        read_only=bool(container.get("readonlyRootFilesystem")),
        uid=user.uid,
        gid=user.gid,
        binds=tuple(_binds(container, places)),
        memory_mib=None if memory_mib is None else int(memory_mib),
        vcpus=None if vcpus is None else min(vcpus, float(os.cpu_count() or 1)),
        max_processes=_MOST_PROCESSES,
        max_open_files=_open_files(container),
        hostname=hostname,
        place=place,
        held=(image.held.descriptor,),
        capabilities=True,
        tmpfs=tuple(_tmpfs(linux)),
        shm_mib=int(linux.get("sharedMemorySize") or 64),
    )


def _variables(entries: tuple[str, ...]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in entries)


def _open_files(container: Mapping[str, Any]) -> int:
    named = {limit["name"]: int(limit["hardLimit"]) for limit in container.get("ulimits") or ()}
    return named.get("nofile", _OPEN_FILES)


def _tmpfs(linux: Mapping[str, Any]) -> Iterator[Tmpfs]:
    for one in linux.get("tmpfs") or ():
        yield Tmpfs(str(one["containerPath"]), int(one["size"]))


def _binds(container: Mapping[str, Any], places: Places) -> Iterator[Bind]:
    volumes = {volume["name"]: volume for volume in container.get("volumes") or ()}
    for point in container.get("mountPoints") or ():
        name, target = point.get("sourceVolume"), point.get("containerPath")
        if name not in volumes or not target:
            raise CannotStartError(
                f"CannotStartContainerError: mountPoints: there is no volume {name!r}, or no containerPath"
            )
        yield Bind(_source(volumes[name], places), str(target), read_only=bool(point.get("readOnly")))


def _source(volume: Mapping[str, Any], places: Places) -> Path:
    """The folder behind a volume, made when it is absent, as Docker does with a host's."""
    efs, host = volume.get("efsVolumeConfiguration"), volume.get("host") or {}
    if efs:
        # An access point has a root of its own, which functions mount too.
        point = (efs.get("authorizationConfig") or {}).get("accessPointId")
        folder = _below(places.efs / str(point or efs["fileSystemId"]), str(efs.get("rootDirectory") or "/"))
    elif host.get("sourcePath"):
        folder = Path(str(host["sourcePath"]))
    else:
        folder = places.scratch / "volumes" / str(volume["name"]).encode().hex()
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if made and not host.get("sourcePath"):
            folder.chmod(0o777)  # whoever the job runs as may write, as on a volume of its own
    except OSError as error:
        raise CannotStartError(f"CannotCreateVolumeError: {folder}: {error.strerror}") from error
    return folder


def _below(root: Path, path: str) -> Path:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CannotStartError(
            f"ResourceInitializationError: the rootDirectory {path} of an EFS volume leads out of it"
        )
    return root.joinpath(*parts)


__all__ = ["CannotStartError", "ImageError", "Places", "check_given", "spec_of"]
