"""Where are the bytes of an object? In one file of their own, never in memory; moto holds a `Body` where it expects bytes.

A file is written once, under a random name, and never changed. It goes away only after the journal no longer names it
(see s3_keys), a moment later, so that a download which began before still finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from scar.local.state import make_folder, sync_folder

CHUNK: Final = 1 << 20
GRACE_S: Final = 10.0  # between the last reference and the unlink, for readers that have the name but not yet the file


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A stretch of a file that stands in for `bytes`: it has a length, can be sliced, and is read only while it is sent."""

    path: Path
    size: int
    md5: str | None = None  # hex, of the whole body; None when nobody has read it through yet
    offset: int = 0
    shared: bool = False  # it is somebody's already: whoever keeps it must copy it
    checksums: dict[str, str] = field(default_factory=dict)  # algorithm → base64, those computed on the way in

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, where: slice) -> Body:
        first, last, _ = where.indices(self.size)
        return replace(self, offset=self.offset + first, size=max(0, last - first), md5=None, checksums={})

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        if not left:
            return
        with self.path.open("rb", buffering=0) as source:
            source.seek(self.offset)
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{self.path} is {left} bytes short")
                left -= len(chunk)
                yield chunk

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """For moto's SelectObjectContent, which reads text."""
        return bytes(self).decode(encoding, errors)

    @property
    def name(self) -> str:
        return self.path.name


class Incoming:
    """A body on its way in. Leave the `with` without `finish` and nothing of it remains."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._finished = False
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if not self._finished:
            self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._md5.update(data)
        self.size += len(data)

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    def finish(self, *, durable: bool = True, checksums: dict[str, str] | None = None) -> Body:
        """The body as written. With `durable`, bytes and name are on disk when this returns."""
        if durable:
            os.fsync(self._fd)
            sync_folder(self._path.parent)
        self._finished = True
        return Body(self._path, self.size, self._md5.hexdigest(), checksums=checksums or {})


class Bodies:
    """The folder of all bodies."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._doomed: deque[tuple[float, Path]] = deque()
        self._lock = threading.Lock()
        make_folder(folder)
        for number in range(256):
            (folder / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder)

    def receive(self) -> Incoming:
        return Incoming(self._fresh())

    def store(self, chunks: Iterable[bytes], *, durable: bool = True) -> Body:
        """A new body of these bytes."""
        with self.receive() as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.finish(durable=durable)

    def copy(self, body: Body) -> Body:
        """The same bytes under another name. A whole body is linked, not read; its MD5 is made known."""
        whole = body.offset == 0 and body.size == body.path.stat().st_size
        if not whole or body.md5 is None:
            return self.store(body)
        target = self._fresh()
        try:
            target.hardlink_to(body.path)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            return self.store(body)
        sync_folder(target.parent)
        return replace(body, path=target)

    def at(self, name: str, size: int, md5: str | None) -> Body:
        """The body that was stored under `name`. Raises FileNotFoundError or ValueError when the file is not what was recorded."""
        path = self._folder / name[:2] / name
        actual = path.stat().st_size
        if actual != size:
            raise ValueError(f"{path} has {actual} bytes instead of {size}")
        return Body(path, size, md5)

    def discard(self, body: Body) -> None:
        """Nobody names this body any more; its file goes after the grace time."""
        with self._lock:
            self._doomed.append((self._clock() + GRACE_S, body.path))

    def bury(self, *, all_: bool = False) -> None:
        """Unlink what was discarded long enough ago. Call after the journal has reached the disk."""
        now = self._clock()
        while True:
            with self._lock:
                if not self._doomed or (self._doomed[0][0] > now and not all_):
                    return
                _, path = self._doomed.popleft()
            path.unlink(missing_ok=True)

    def sweep(self, named: set[str]) -> int:
        """Remove files nobody names: parts of unfinished uploads, and bodies whose request was never answered. At start only."""
        removed = 0
        for folder in self._folder.iterdir():
            with contextlib.suppress(NotADirectoryError):
                for path in folder.iterdir():
                    if path.name not in named:
                        path.unlink()
                        removed += 1
        return removed

    def _fresh(self) -> Path:
        name = secrets.token_hex(16)
        return self._folder / name[:2] / name
