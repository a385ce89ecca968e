"""An append-only file of records that survives a crash at any byte, and says so when it has been tampered with.

A record is a 12-byte head (length, CRC of the payload, CRC of those eight bytes) and its payload. A file that ends inside a record
was being written when the machine stopped: that record was never acknowledged and is cut off. Anything else that does not add up
is damage and is refused, and so is a file without its first record, which is there before the file has its name. Many threads append; one fsync serves all who wait for it.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scar.local.state import StateDamagedError, write_atomically

_HEAD: Final = struct.Struct("<III")
_OPENING_BEGINS: Final = b"scar-local-journal "
_OPENING_SAYS: Final = _OPENING_BEGINS + b"1"


def _record(payload: bytes) -> bytes:
    head = struct.pack("<II", len(payload), zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


OPENING: Final = _record(_OPENING_SAYS)  # the first record of every journal: a file without it has lost what it held


class Journal:
    """One open journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            write_atomically(path, OPENING)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.size = os.fstat(self._fd).st_size
        self._appended = self._synced = self.size
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._broken: OSError | None = None

    def append(self, payload: bytes) -> int:
        """Queue a record. Answers a ticket for `sync`. Records lie in the order of the calls.

        After a failed write nothing more is taken: a half record in the middle would hide all that follow.
        """
        record = _record(payload)
        with self._write_lock:
            if self._broken is not None:
                raise self._broken
            try:
                self._write(record)
            except OSError as error:
                self._cut_back(error)
                raise
            self.size += len(record)
            self._appended = self.size
            return self.size

    def _write(self, record: bytes) -> None:
        view = memoryview(record)
        while view:
            view = view[os.write(self._fd, view) :]

    def _cut_back(self, error: OSError) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self._broken = error

    @property
    def is_empty(self) -> bool:
        return self.size <= len(OPENING)

    @property
    def is_broken(self) -> bool:
        """Nothing more is taken, and what was not synced may be lost: whoever knows what it should hold writes it anew."""
        return self._broken is not None

    def sync(self, ticket: int) -> None:
        """Return when everything up to `ticket` is on disk."""
        if self._synced >= ticket:
            return
        with self._sync_lock:
            if self._synced >= ticket:
                return  # whoever held the lock before has synced ours too
            if self._broken is not None:
                raise self._broken
            appended = self._appended
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._broken = error  # the kernel says so once, and may have thrown away what it could not write
                raise
            self._synced = appended

    def close(self) -> None:
        os.close(self._fd)


def replay(path: Path) -> Iterator[bytes]:
    """Every whole record, oldest first; an unfinished one at the end is cut off the file.

    Raises StateDamagedError where bytes have changed.
    """
    with path.open("r+b") as source:
        end = os.fstat(source.fileno()).st_size
        at = 0
        while at < end:
            head = source.read(_HEAD.size)
            if len(head) < _HEAD.size:
                break
            length, payload_crc, head_crc = _HEAD.unpack(head)
            if zlib.crc32(head[:8]) != head_crc:
                raise StateDamagedError(path, f"The journal is damaged at byte {at}.")
            payload = source.read(length)
            if len(payload) < length:
                break
            if zlib.crc32(payload) != payload_crc:
                raise StateDamagedError(path, f"The journal is damaged at byte {at}.")
            if at == 0 and payload.startswith(_OPENING_BEGINS):
                if payload != _OPENING_SAYS:
                    raise StateDamagedError(
                        path, f"The journal is of another version ({payload.decode(errors='replace')})."
                    )
            else:
                yield payload
            at = source.tell()
        if at == 0:
            raise StateDamagedError(path, "The journal is empty: not even its first record is there.")
        if at < end:
            source.truncate(at)
            os.fsync(source.fileno())


def open_anew(path: Path) -> None:
    """A journal of an earlier SCAR, which began them with nothing, gets its first record."""
    if not path.stat().st_size:
        write_atomically(path, OPENING)
