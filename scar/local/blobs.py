"""Content under its SHA-256: verified while it arrives, on disk before it has a name, removed when nothing refers to it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from scar.local.state import StateDamagedError, make_folder, sync_folder

CHUNK: Final = 1 << 20
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PUSH_S: Final = 900.0  # a blob that a push has just asked about is kept this long without a manifest


class DigestMismatchError(Exception):
    """What arrived is not what was announced."""


class Upload:
    """A blob that is arriving. Bytes are hashed as they are written, so memory does not grow with the blob."""

    def __init__(self, folder: Path) -> None:
        self.id = str(uuid.uuid4())
        self.lock = threading.Lock()
        self.size = 0
        self.touched = time.monotonic()
        self._hash = hashlib.sha256()
        self._path = folder / self.id
        self._file = self._path.open("xb")

    def write(self, part: bytes) -> None:
        self._file.write(part)
        self._hash.update(part)
        self.size += len(part)
        self.touched = time.monotonic()

    def finish(self, digest: str, target: Path) -> None:
        """Give the blob its name; on disk when this returns. Raises DigestMismatchError, after which the upload is gone."""
        if f"sha256:{self._hash.hexdigest()}" != digest:
            self.abandon()
            raise DigestMismatchError(f"the content hashes to sha256:{self._hash.hexdigest()}, not {digest}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(target)
        sync_folder(target.parent)

    def abandon(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class BlobStore:
    """`<folder>/blobs/sha256/` and the uploads beside it. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._arriving = folder / "uploads"
        make_folder(self._blobs)
        shutil.rmtree(self._arriving, ignore_errors=True)
        self._arriving.mkdir(mode=0o700)
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}
        self._asked: dict[str, float] = {}

    def find(self, digest: str) -> Path | None:
        """The blob's file, or None. Asking keeps an unreferenced blob from collection for a while."""
        if not DIGEST.fullmatch(digest):
            return None
        with self._lock:
            path = self._path(digest)
            if not path.is_file():
                return None
            self._asked[digest] = time.monotonic()
            return path

    def read(self, digest: str) -> bytes | None:
        """A small blob (manifest, config) whole. Raises StateDamagedError when it is not what its name says."""
        path = self._path(digest) if DIGEST.fullmatch(digest) else None
        if path is None or not path.is_file():
            return None
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != path.name:
            raise StateDamagedError(path, "The file is damaged: its content does not match its digest.")
        return content

    def begin(self) -> Upload:
        upload = Upload(self._arriving)
        with self._lock:
            left = [old for old in self._uploads.values() if upload.touched - old.touched > _PUSH_S]
            for old in left:
                del self._uploads[old.id]
            self._uploads[upload.id] = upload
        for old in left:
            old.abandon()
        return upload

    def upload(self, upload_id: str) -> Upload | None:
        with self._lock:
            return self._uploads.get(upload_id)

    def finish(self, upload: Upload, digest: str) -> None:
        with self._lock:
            self._uploads.pop(upload.id, None)
            self._asked[digest] = time.monotonic()
        upload.finish(digest, self._path(digest))

    def abandon(self, upload: Upload) -> None:
        with self._lock:
            self._uploads.pop(upload.id, None)
        upload.abandon()

    def put(self, content: bytes) -> str:
        """Store a small blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        upload = self.begin()
        upload.write(content)
        self.finish(upload, digest)
        return digest

    def settle(self, digests: Collection[str]) -> None:
        """A manifest refers to these now: from here on references alone keep them."""
        with self._lock:
            for digest in digests:
                self._asked.pop(digest, None)

    def collect(self, keep: Collection[str]) -> int:
        """Remove every blob that is not in `keep` and that no push asks about; how many went."""
        gone = 0
        with self._lock:
            now = time.monotonic()
            self._asked = {digest: at for digest, at in self._asked.items() if now - at < _PUSH_S}
            for path in self._blobs.iterdir():
                digest = f"sha256:{path.name}"
                if digest not in keep and digest not in self._asked:
                    path.unlink(missing_ok=True)
                    gone += 1
        return gone

    def _path(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")


def read_range(path: Path, first: int, last: int) -> Iterator[bytes]:
    """Bytes `first` to `last`, both included, in chunks."""
    with path.open("rb") as file:
        file.seek(first)
        left = last - first + 1
        while left > 0 and (part := file.read(min(CHUNK, left))):
            left -= len(part)
            yield part
