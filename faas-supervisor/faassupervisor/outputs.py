"""What a run left in its output directory, checked as a whole before anything is published.

The directory is the script's to fill, so nothing in it is trusted: it is walked by file descriptors, a symbolic link is never
followed out of it, and what is no regular file is refused by name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from faassupervisor.contract import Storage
from faassupervisor.errors import StageOutError
from faassupervisor.storage import Upload

_KEY_BYTES: Final = 1024  # AmazonS3/latest/userguide/object-keys
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Output:
    """A regular file: `relative` is its name under the output directory, `place` where its content really lies there."""

    relative: str
    place: str
    size: int
    identity: tuple[int, int]


def find(outbox: Path) -> tuple[Output, ...]:
    """Every file, sorted by name. Raises StageOutError naming the first entry that cannot be published."""
    try:
        top = os.open(outbox, _DIRECTORY)
    except OSError as error:
        raise StageOutError(f"the output directory is gone or no directory any more: {error.strerror}") from error
    try:
        return tuple(sorted(_walk(top, outbox), key=lambda output: output.relative))
    except OSError as error:
        raise StageOutError(f"the output directory cannot be read: {error.filename!a}: {error.strerror}") from error
    finally:
        os.close(top)


def uploads(outbox: Path, found: Sequence[Output], rules: Sequence[Storage]) -> tuple[Upload, ...]:
    """Each file once for every rule that it matches, in order of rules and names.

    A file matches when its *relative path* starts with one of the prefixes and ends with one of the suffixes.
    Raises StageOutError for a key that S3 would refuse.
    """
    result: list[Upload] = []
    for rule in rules:
        for output in found:
            if not matches(output.relative, rule):
                continue
            key = f"{rule.folder}/{output.relative}" if rule.folder else output.relative
            if len(key.encode()) > _KEY_BYTES:
                raise StageOutError(f"output {output.relative!a}: its key is longer than {_KEY_BYTES} bytes")
            opener = partial(open_output, outbox, output)
            result.append(Upload(rule.bucket, key, output.size, opener, rule.provider))
    return tuple({(upload.provider, upload.bucket, upload.key): upload for upload in result}.values())


def matches(relative: str, rule: Storage) -> bool:
    starts = not rule.prefix or relative.startswith(rule.prefix)
    return starts and (not rule.suffix or relative.endswith(rule.suffix))


def open_output(outbox: Path, output: Output) -> BinaryIO:
    """Open the very file that was checked. Raises StageOutError when another has taken its place."""
    top = os.open(outbox, _DIRECTORY)
    try:
        descriptor = _open_beneath(top, output.place, _FILE)
    except OSError as error:
        raise StageOutError(f"output {output.relative!a} cannot be opened: {error.strerror}") from error
    finally:
        os.close(top)
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != output.identity or status.st_size != output.size:
        os.close(descriptor)
        raise StageOutError(f"output {output.relative!a} changed while it was published")
    return os.fdopen(descriptor, "rb", buffering=0)


def _walk(top: int, outbox: Path) -> Iterator[Output]:
    pending = [""]
    while pending:
        folder = pending.pop()
        descriptor = _open_beneath(top, folder, _DIRECTORY) if folder else os.dup(top)
        try:
            with os.scandir(descriptor) as entries:
                listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(descriptor)
        for name, status in listed:
            relative = f"{folder}/{name}" if folder else name
            _check_name(relative)
            if stat.S_ISDIR(status.st_mode):
                pending.append(relative)
            elif stat.S_ISREG(status.st_mode):
                yield Output(relative, relative, status.st_size, (status.st_dev, status.st_ino))
            elif stat.S_ISLNK(status.st_mode):
                yield _resolve(outbox, relative)
            else:
                raise StageOutError(f"output {relative!a} is {_what(status.st_mode)}, not a regular file")


def _check_name(relative: str) -> None:
    try:
        size = len(relative.encode())
    except UnicodeEncodeError as error:
        raise StageOutError(f"output {os.fsencode(relative)!a} has a name that is not UTF-8") from error
    if size > _KEY_BYTES:
        raise StageOutError(f"output {relative[:80]!a}...: its path is longer than {_KEY_BYTES} bytes")


def _resolve(outbox: Path, relative: str) -> Output:
    """A symbolic link stands for the regular file that it means, when that lies in the output directory too."""
    base = os.path.realpath(outbox)
    try:
        target = os.path.realpath(f"{base}/{relative}", strict=True)
        status = Path(target).lstat()
    except OSError as error:
        problem = "leads in a circle" if error.errno == errno.ELOOP else "leads nowhere"
        raise StageOutError(f"output {relative!a} is a symbolic link that {problem}") from error
    if not target.startswith(f"{base}/"):
        raise StageOutError(f"output {relative!a} is a symbolic link that leaves the output directory")
    if not stat.S_ISREG(status.st_mode):
        raise StageOutError(f"output {relative!a} is a symbolic link to {_what(status.st_mode)}, not to a regular file")
    return Output(relative, target[len(base) + 1 :], status.st_size, (status.st_dev, status.st_ino))


def _open_beneath(top: int, relative: str, flags: int) -> int:
    """Open by one component at a time, so that no directory on the way can be a link."""
    *folders, name = relative.split("/")
    current = os.dup(top)
    try:
        for folder in folders:
            inner = os.open(folder, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        return os.open(name, flags, dir_fd=current)
    finally:
        os.close(current)


def _what(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a directory",
    }
    return kinds.get(stat.S_IFMT(mode), "special")
