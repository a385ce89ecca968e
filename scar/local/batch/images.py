"""Where does a job's image come from? The local ECR by digest or tag, or another registry; and what its process is, and as whom it runs.

What cannot be had is told in ECS's words (AmazonECS/latest/developerguide/task_cannot_pull_image, stopped-task-error-codes).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.errors import ScarError
from scar.local.folders import Held
from scar.local.functions.configuration import CannotRunError, ImageProcess, Rootfs
from scar.local.registry import RegistryData
from scar.package.oci import architecture

_IMAGE: Final = re.compile(
    r"(?P<repository>[^@]+?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ECR: Final = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/.+")
_QEMU: Final = Path("/proc/sys/fs/binfmt_misc")


class ImageError(Exception):
    """Why a container cannot be made of it, in ECS's words."""


@dataclass(frozen=True, slots=True)
class User:
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TakenImage:
    """An unpacked image that stays while `held` is open."""

    held: Held
    process: ImageProcess
    user: str


class Images:
    """Finds and unpacks. `folder` is for what comes from other registries."""

    def __init__(self, registry: RegistryData, rootfs: Rootfs, folder: Path) -> None:
        self._registry, self._rootfs, self._folder = registry, rootfs, folder

    def take(self, name: str) -> TakenImage:
        """Raises ImageError. Whoever gets the answer closes what it holds."""
        found = _IMAGE.fullmatch(name)
        if found is None:
            raise ImageError(f"CannotPullContainerError: invalid reference format: {name}")
        repository, reference = found["repository"], found["digest"] or found["tag"] or "latest"
        if not _ECR.fullmatch(repository) and self._registry.locate(repository) is None:
            return self._take_from_elsewhere(name)
        try:
            stored = self._registry.image(repository, reference)
        except LookupError as error:
            raise ImageError(
                f"CannotPullContainerError: Error response from daemon: manifest for {name} not found: "
                f"manifest unknown: Requested image not found ({error})"
            ) from error
        return self._unpacked(name, stored.digest, stored.config, stored.layers)

    def _take_from_elsewhere(self, name: str) -> TakenImage:
        from scar.local.batch.upstream import fetch, forget

        folder = self._folder / secrets.token_hex(8)
        try:
            fetched = fetch(name, folder)
            return self._unpacked(name, fetched.digest, fetched.config, fetched.layers)
        except (ScarError, OSError) as error:
            raise ImageError(f"CannotPullContainerError: Error response from daemon: {error}") from error
        finally:
            forget(folder)

    def _unpacked(self, name: str, digest: str, config: Mapping[str, Any], layers: Sequence[Path]) -> TakenImage:
        _check_architecture(name, config)
        try:
            process = ImageProcess.parse(config)
            held = self._rootfs.use(digest, layers)
        except (CannotRunError, ScarError, OSError) as error:
            raise ImageError(f"CannotPullContainerError: {name}: {error}") from error
        return TakenImage(held, process, str((config.get("config") or {}).get("User") or ""))


def _check_architecture(name: str, config: Mapping[str, Any]) -> None:
    made_for = config.get("architecture")
    machine = os.uname().machine
    if not made_for or not machine:
        return
    try:
        mine, its = architecture(machine), architecture(str(made_for))
    except ScarError:
        mine, its = machine, str(made_for)
    emulated = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}.get(its, f"qemu-{its}")
    if mine != its and not (_QEMU / emulated).exists():
        raise ImageError(
            f"CannotStartContainerError: Error response from daemon: exec format error: {name} is made for {its}, "
            f"this machine is {mine}"
        )


def user_in(rootfs: Path, asked: str) -> User:
    """`uid`, `uid:gid`, `name` or `name:group`, looked up in the image's own files. Raises ImageError for a name it does not have."""
    name, _, group = asked.partition(":")
    if not name:
        return User()
    uid, gid = _account(rootfs, name)
    if group:
        gid = int(group) if group.isdecimal() else _group(rootfs, group)
    return User(uid, gid)


def _account(rootfs: Path, name: str) -> tuple[int, int]:
    column = 2 if name.isdecimal() else 0
    for entry in _entries(rootfs, "passwd"):
        if len(entry) > 3 and entry[column] == name and entry[2].isdecimal() and entry[3].isdecimal():
            return int(entry[2]), int(entry[3])
    if name.isdecimal():
        return int(name), 0
    raise ImageError(f"CannotStartContainerError: unable to find user {name}: no matching entries in passwd file")


def _group(rootfs: Path, name: str) -> int:
    for entry in _entries(rootfs, "group"):
        if len(entry) > 2 and entry[0] == name and entry[2].isdecimal():
            return int(entry[2])
    raise ImageError(f"CannotStartContainerError: unable to find group {name}: no matching entries in group file")


def _entries(rootfs: Path, name: str) -> Iterator[list[str]]:
    """The lines of a file in the image's /etc; a link there could lead anywhere on this machine, so none is followed."""
    path = rootfs / "etc" / name
    if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
        return
    for line in path.read_text(errors="replace").splitlines():
        yield line.split(":")
