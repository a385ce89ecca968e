"""Layers that were made once and are kept: whole, verified each time they are used, and safe with two processes at once."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from scar.errors import ScarError
from scar.package import oci
from scar.package.layer import Digests, file_layer

REMOVED: Final = ".removed-"  # begins the name of what is being removed
_LOCK: Final = "lock"
_UNUSED_S: Final = 30 * 24 * 3600.0
_ATTEMPTS: Final = 1000
_held: dict[Path, int] = {}  # directories in use by this process, as open descriptors with a shared lock


@dataclass(frozen=True, slots=True)
class Kept:
    """A layer in the cache and what its maker noted beside it (a JSON object)."""

    layer: oci.Layer
    notes: Mapping[str, Any]


def keep_layer(
    directory: Path,
    build: Callable[[IO[bytes]], tuple[Digests, Mapping[str, Any]]],
    *,
    is_current: Callable[[Mapping[str, Any]], bool] = lambda notes: True,
) -> Kept:
    """The layer that `directory` keeps; made anew by `build` when it is absent, cut, changed, or not current any more.

    A second process that wants the same waits for the first. Killed at any point, the next one starts over.
    """
    with in_cache(directory):
        known = _find(directory)
        if known is None or not is_current(known[1]):
            known = _make(directory, build)
    digests, notes = known
    return Kept(file_layer(directory / "layer.tar.gz", digests), notes)


@contextmanager
def in_cache(directory: Path) -> Iterator[None]:
    """Have a directory of the cache to ourselves: others wait, and the lock falls open when its holder dies.

    What is in it afterwards stays there until this process ends: `remove_unused` sees that it is in use.
    What lies beside it and was not used for a month is forgotten.
    """
    try:
        with _locked(directory / _LOCK):
            _forget_unused(directory.parent)
            yield
            _hold(directory)
    except OSError as error:
        raise ScarError(
            f"the cache cannot be used: {error}", where=str(directory), fix="Make room there, or name another cache."
        ) from error


def remove_unused(directory: Path) -> bool:
    """Remove a directory of the cache; answers False when a process is at it, or has taken from it and still runs."""
    try:
        with (directory / _LOCK).open("rb+") as lock, _opened(directory) as users:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(directory / _LOCK, lock):  # another process removed it, and perhaps a third made it again
                return False
            # Out of the way at once: whoever wants the same makes it anew, beside what is being removed.
            removed = directory.with_name(f"{REMOVED}{secrets.token_hex(8)}")
            directory.rename(removed)
            shutil.rmtree(removed)
    except OSError:  # in use; or gone, because another process removed it
        return not directory.exists()
    return True


def is_used(directory: Path) -> bool:
    """Whether a process is at a directory of the cache, or has taken from it and still runs. True as well when it is just gone."""
    try:
        with (directory / _LOCK).open("rb+") as lock, _opened(directory) as users:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock at `path`, even when the one that was waited for is removed meanwhile."""
    attempts = 0
    while True:
        attempts += 1
        try:
            _make_private(path.parent)
            lock = path.open("wb")
        except (FileNotFoundError, FileExistsError):  # removed meanwhile
            if attempts == _ATTEMPTS:
                raise
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(path, lock):
                yield
                return


def _make_private(folder: Path) -> None:
    """Every folder that has to be made on the way is its owner's alone: what is cached may be of images that are nobody else's business."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_at(path: Path, lock: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _hold(directory: Path) -> None:
    """Share the directory with other users until this process ends."""
    if directory not in _held:
        users = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _held[directory] = users
        with suppress(OSError):  # on a file system without locks on directories, a removal meanwhile makes a push fail
            fcntl.flock(users, fcntl.LOCK_SH)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _forget_unused(parent: Path) -> None:
    """Remove siblings by the date of their lock, which opening it sets."""
    now = time.time()
    for lock in parent.glob(f"*/{_LOCK}"):
        with suppress(OSError):  # another process is removing it too
            if now - lock.stat().st_mtime > _UNUSED_S:
                remove_unused(lock.parent)


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ends well, and never half."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".new", delete=False) as out:
        try:
            yield out
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).replace(path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise


def _find(directory: Path) -> tuple[Digests, Mapping[str, Any]] | None:
    try:
        record = json.loads((directory / "record.json").read_bytes())
        digests, notes = Digests(**record["digests"]), dict(record["notes"])
        with (directory / "layer.tar.gz").open("rb") as layer:
            intact = "sha256:" + hashlib.file_digest(layer, "sha256").hexdigest() == digests.digest
    except (OSError, ValueError, LookupError, TypeError):  # absent, cut or not ours: made anew
        return None
    return (digests, notes) if intact else None


def _make(
    directory: Path, build: Callable[[IO[bytes]], tuple[Digests, Mapping[str, Any]]]
) -> tuple[Digests, Mapping[str, Any]]:
    for left_over in directory.glob("*.new"):
        left_over.unlink()
    with written_whole(directory / "layer.tar.gz") as out:
        digests, notes = build(out)
    record = json.dumps({"digests": dataclasses.asdict(digests), "notes": notes})
    with written_whole(directory / "record.json") as out:
        out.write(record.encode())
    return digests, notes
