"""The image's files for one sandbox: brought when first needed, kept for the next runs, never trusted after one.

Nothing on disk says that a root is complete: a predecessor in the same sandbox may have been killed in the middle, and what a
script left there may look like anything. So what counts is in this process's memory: a new process begins anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from faassupervisor import elf, workspace
from faassupervisor.contract import RootFilesystem
from faassupervisor.deadline import Deadline
from faassupervisor.errors import NoRoomError, NotReusableError, ScriptTimedOutError, StageInError
from faassupervisor.layers.tarstream import LayerError
from faassupervisor.layers.unpack import Unpacking, UnpackLimits
from faassupervisor.log import Log
from faassupervisor.roots.inside import Inside
from faassupervisor.roots.remote import Arriving, Gunzip, Source
from faassupervisor.roots.seal import Seal
from faassupervisor.roots.sources import source_of
from faassupervisor.storage import Stores

_MIB: Final = 1 << 20
_INPUTS_BYTES: Final = 16 * _MIB  # left for input files, at the least; a larger one is told its own room
_STEP_MIB: Final = 64
_MOST_MIB: Final = 10240  # lambda/latest/dg/gettingstarted-limits: /tmp directory storage
_MOUNTED: Final = ("dev", "proc", "sys", "tmp")  # what a container's image never shows of its own
_MOUNTED_FILES: Final = ("/etc/hosts", "/etc/resolv.conf")


class Root:
    """One image below `temporary`. `ready` is asked before every run."""

    def __init__(self, image: RootFilesystem, temporary: Path, stores: Stores) -> None:
        self._image, self._temporary, self._stores = image, temporary, stores
        self._inside: Inside | None = None
        self._folder: Path | None = None
        self._seal: Seal | None = None
        self._lock = -1

    def names(self) -> frozenset[str]:
        """What of the temporary directory is this root's."""
        return frozenset() if self._folder is None else frozenset({self._folder.name})

    def ready(self, deadline: Deadline, log: Log) -> Inside:
        """The whole image as it was built, whatever earlier runs did to it.

        Raises ScriptTimedOutError when the deadline came first, StageInError when it cannot be had, NotReusableError when what a
        run has made of it cannot be removed.
        """
        if self._seal is not None and self._inside is not None:
            if self._seal.holds():
                return self._inside
            log.warning("an earlier run changed the files of the image: they are unpacked again")
            self._forget()
        started = time.monotonic()
        self._folder = self._begin()
        try:
            received = self._unpack(self._folder, deadline)
            inside = Inside(str(self._folder), self._shared())
            _mount(inside)
            inside.barred.update(_bar(inside.root))
            self._inside, self._seal = inside, Seal(inside.root)
        except BaseException:
            self._forget()
            raise
        seconds = round(time.monotonic() - started, 3)
        log.info(
            "unpacked the image", digest=self._image.digest, bytes=received, entries=len(self._seal), seconds=seconds
        )
        return inside

    def _shared(self) -> list[str]:
        shared = [f"/{name}" for name in _MOUNTED] + list(_MOUNTED_FILES)
        if not self._temporary.is_relative_to("/tmp"):  # noqa: S108  # where the image's own would be
            shared.append(str(self._temporary))
        return shared

    def _begin(self) -> Path:
        """A new folder, with a lock that tells other agents of this machine that it is in use."""
        folder = workspace.new_root(self._temporary)
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return folder

    def _forget(self) -> None:
        folder, lock = self._folder, self._lock
        self._inside, self._folder, self._seal, self._lock = None, None, None, -1
        if lock >= 0:
            os.close(lock)
        if folder is not None:
            try:
                workspace.remove(folder)
            except OSError as error:
                raise NotReusableError(
                    f"{folder} could not be removed: {error.strerror}: this sandbox is given up"
                ) from error

    def _unpack(self, folder: Path, deadline: Deadline) -> int:
        """Apply every layer; the number of compressed bytes."""
        image = self._image
        self._expect_room()
        unpacking = Unpacking(folder, UnpackLimits(total_bytes=_tar_bytes(image.unpacked_bytes)), relative_links=True)
        received = 0
        try:
            source: Source = source_of(image.source, self._stores)
            for layer in image.layers:
                with Arriving(source, layer, deadline) as arriving:
                    unpacking.apply(layer.digest, Gunzip(arriving.chunk))  # type: ignore[arg-type]  # it is read only
                    while arriving.chunk():  # to its end, where the digest is compared
                        pass
                received += layer.size
        except ScriptTimedOutError:
            total = sum(layer.size for layer in image.layers)
            raise ScriptTimedOutError(
                f"the time was over while the image was still being fetched ({received // _MIB} of {total // _MIB} MiB were "
                "unpacked): raise the function's timeout or its memory, which gives it a faster processor"
            ) from None
        except LayerError as fault:
            cause = fault.__cause__
            if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoRoomError(self._no_room()) from fault
            raise StageInError(f"layer {fault.layer} of the image cannot be unpacked: {fault.what}") from fault
        return received

    def _expect_room(self) -> None:
        status = os.statvfs(self._temporary)
        if status.f_bavail * status.f_frsize < _disk_bytes(self._image.unpacked_bytes):
            raise NoRoomError(self._no_room())

    def _no_room(self) -> str:
        status = os.statvfs(self._temporary)
        free = status.f_bavail * status.f_frsize
        return no_room(self._image.unpacked_bytes, free=free, used=status.f_blocks * status.f_frsize - free)


def no_room(unpacked_bytes: int, *, free: int, used: int) -> str:
    """What to tell whose image does not fit into a file system of so many bytes."""
    needed_mib = -(-(used + _disk_bytes(unpacked_bytes)) // (_STEP_MIB * _MIB)) * _STEP_MIB
    if needed_mib > _MOST_MIB:
        return (
            f"the image unpacks to {unpacked_bytes // _MIB} MiB, which no `ephemeral_storage` can hold ({_MOST_MIB} MiB at most): "
            "deploy the function with `runtime: image`"
        )
    return (
        f"the image unpacks to {unpacked_bytes // _MIB} MiB, and {free // _MIB} MiB are free: "
        f"set the function's `ephemeral_storage` to {needed_mib} or more"
    )


def _disk_bytes(unpacked_bytes: int) -> int:
    """What files of that many bytes take on disk, whose blocks are not all full, and room for the first inputs."""
    return unpacked_bytes + unpacked_bytes // 8 + _INPUTS_BYTES


def _tar_bytes(unpacked_bytes: int) -> int:
    """What the layers may be, decompressed: headers and what upper layers replace come on top of the files."""
    return unpacked_bytes * 4 + 256 * _MIB


def _mount(inside: Inside) -> None:
    """What a container's start would mount over the image leads to the machine's own; every link stays within the image."""
    root = Path(inside.root)
    for name in _MOUNTED:
        workspace.remove(root / name)
        (root / name).symlink_to(f"/{name}")
    for link in _winding_links(inside.root):
        meant = inside.place(link.removeprefix(inside.root).rpartition("/")[0] + "/" + os.readlink(link))
        if meant is not None and os.path.realpath(link) != os.path.realpath(meant):
            os.unlink(link)
            os.symlink(os.path.relpath(meant, os.path.dirname(link)), link)


def _bar(root: str) -> dict[str, str]:
    """Make unreadable, and so impossible to start, the programs that would see the machine's files instead of the image's: what the
    user's process starts in its turn is not asked for by us. Their real paths, and what is wrong with each.
    """
    barred: dict[str, str] = {}
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & 0o100:
                    with open(entry.path, "rb", buffering=0) as opened:
                        head = opened.read(64)
                        if len(head) == 64 and head.startswith(elf.MAGIC64):
                            why = elf.why_not_held(opened, head)
                            if why is not None:
                                barred[entry.path] = why
    for path in barred:
        os.chmod(path, 0o111)  # noqa: S103  # the loader has to read a program, the kernel would not
    return barred


def _winding_links(root: str) -> Iterator[str]:
    """Links with `..` after a name: the ones that may have come out above the root (`relative_link` has seen to all others)."""
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    steps = os.readlink(entry.path).split("/")
                    names = [index for index, step in enumerate(steps) if step not in {"", ".", ".."}]
                    if names and ".." in steps[names[0] :]:
                        yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
