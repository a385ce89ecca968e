"""What must be remembered of one region's jobs, in one append-only file: each job when it is accepted, and how far it has come.

A change is in the kernel's hands when `write` returns, so it survives a killed daemon; `sync` brings it to the disk. Compaction writes
what is still known anew and leaves out jobs that ended too long ago.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from scar.limits import MIB
from scar.local.journal import Journal, replay
from scar.local.state import make_folder, sync_folder

COMPACT_BYTES: Final = 8 * MIB

Record = dict[str, Any]


class JobJournal:
    """One open file. `write` and `compact` are called with the region's lock held, `sync` without."""

    def __init__(self, path: Path, *, compact_bytes: int = COMPACT_BYTES) -> None:
        make_folder(path.parent)
        self._path, self._compact_bytes = path, compact_bytes
        self._journal = Journal(path)
        self._live_bytes = 0
        self._retired: Journal | None = None

    def write(self, record: Record) -> Callable[[], None]:
        """Append; calling the answer returns when the record is on disk."""
        journal = self._journal
        ticket = journal.append(_encode(record))
        return lambda: journal.sync(ticket)

    @property
    def is_long(self) -> bool:
        return self._journal.size > max(self._compact_bytes, 4 * self._live_bytes)

    def compact(self, records: Iterable[Record]) -> None:
        """Replace all that was written by `records`."""
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.unlink(missing_ok=True)
        fresh = Journal(temporary)
        ticket = 0
        for record in records:
            ticket = fresh.append(_encode(record))
        fresh.sync(ticket)
        temporary.replace(self._path)
        sync_folder(self._path.parent)
        self._live_bytes = fresh.size
        # Another thread may be inside `sync` on the old file, so it stays open for one generation more.
        if self._retired is not None:
            self._retired.close()
        self._retired, self._journal = self._journal, fresh

    def close(self) -> None:
        self._journal.close()
        if self._retired is not None:
            self._retired.close()


def recorded(path: Path) -> Iterator[Record]:
    """What an earlier daemon wrote, oldest first; raises StateDamagedError."""
    if path.exists():
        yield from map(json.loads, replay(path))


def _encode(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
