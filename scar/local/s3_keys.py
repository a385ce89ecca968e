"""Which objects exist, durably: a snapshot of all keys and a journal of the changes since, one small record for each change.

Order matters and is kept: the bodies are on disk first, then the record, then the answer; a body is unlinked only after the record
that drops it is on disk. `keys.<n>.snapshot` and `keys.<n>.journal` belong together; generation n-1 is kept as a backup.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from moto.s3.models import FakeBucket, FakeDeleteMarker, s3_backends

from scar.limits import MIB
from scar.local import pickling, snapshot
from scar.local.bodies import Bodies
from scar.local.journal import Journal, replay
from scar.local.reserve import FULL, Reserve
from scar.local.state import StateDamagedError, make_folder

COMPACT_BYTES: Final = 64 * MIB  # a journal below this is never worth rewriting

_log = logging.getLogger("scar.local")

Version = Any  # moto's FakeKey or FakeDeleteMarker


class _Change(NamedTuple):
    """What a record says: in this bucket, of this key, these versions went and these are now so (version id, pickled state)."""

    bucket: str
    key: str
    gone: Sequence[str]
    now: Sequence[tuple[str, bytes]]


class Keys:
    """The durable list of keys of all buckets."""

    def __init__(self, folder: Path, bodies: Bodies) -> None:
        self._folder, self._bodies = folder, bodies
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self._snapshot_bytes = 0
        self._named: set[str] = set()
        self._begun = False
        make_folder(folder)
        self._reserve = Reserve(folder / "reserve")
        self._reserve.spend()  # a start needs a little room too
        self._journal: Journal | None = None

    def load(self) -> None:
        """Put every recorded key into moto's buckets (which must be there)."""
        kept: dict[tuple[str, str], dict[str, bytes]] = {}
        for change in self._recorded():
            versions = kept.setdefault((change.bucket, change.key), {})
            for version_id in change.gone:
                versions.pop(version_id, None)
            versions.update(change.now)
            if not versions:
                del kept[change.bucket, change.key]
        named: set[str] = set()
        for (bucket_name, key), versions in kept.items():
            bucket = find_bucket(bucket_name)
            if bucket is None:
                continue  # the bucket was deleted after its last key
            bucket.keys.setlist(key, [self._revived(bucket, state, named) for state in versions.values()])
            self._known[bucket_name, key] = tuple(versions)
        self._named = named
        self._journal = Journal(self._path("journal"))

    def begin(self) -> None:
        """All the rest of the state could be read too: from now on files may go, bodies that nobody names first."""
        self._bodies.sweep(self._named)
        self._named = set()
        self._begun = True

    def _recorded(self) -> Iterator[_Change]:
        generations = sorted(int(path.name.split(".")[1]) for path in self._folder.glob("keys.*.snapshot"))
        if generations:
            self._generation = generations[-1]
            payload = snapshot.read(self._path("snapshot"), written_by=pickling.WRITTEN_BY)
            self._snapshot_bytes = len(payload)
            yield from map(_Change._make, pickling.loads(payload))
        if self._path("journal").exists():
            for record in replay(self._path("journal")):
                yield _Change._make(pickling.loads(record))
        elif generations:
            raise StateDamagedError(self._path("journal"), "The journal that belongs to the snapshot is missing.")

    def _revived(self, bucket: FakeBucket, state: bytes, named: set[str]) -> Version:
        try:
            version, tags = pickling.loads(state, self._bodies)
        except (FileNotFoundError, ValueError) as error:
            raise StateDamagedError(self._folder, f"An object's body is missing or cut: {error}.") from error
        if (body := getattr(version, "_body", None)) is not None:
            named.add(body.name)
        if tags:
            _backend(bucket).tagger.tag_resource(version.arn, [{"Key": k, "Value": v} for k, v in tags.items()])
        return version

    def record(self, touched: Iterable[tuple[str, str, Version | None]]) -> int | None:
        """Write down how the touched keys are now. Answers a ticket for `sync`, None when nothing changed.

        The caller holds the lock of each key, so what is read here is what the caller made.
        """
        by_key: dict[tuple[str, str], list[Version]] = {}
        for bucket_name, key, version in touched:
            by_key.setdefault((bucket_name, key), []).append(version)
        ticket = None
        with self._lock:
            for (bucket_name, key), versions in by_key.items():
                ticket = self._record_key(bucket_name, key, versions) or ticket
        return ticket

    def _record_key(self, bucket_name: str, key: str, touched: list[Version]) -> int | None:
        bucket = find_bucket(bucket_name)
        if bucket is None:
            return None
        versions = bucket.keys.getlist(key, [])
        known = self._known.get((bucket_name, key), ())
        ids = tuple(str(version.version_id) for version in versions)
        if [version_id for version_id in known if version_id in ids] != [one for one in ids if one in known]:
            known_in_place: Sequence[
                str
            ] = ()  # a `null` version that was replaced is the newest now: all are written in their order
        else:
            known_in_place = known
        gone = [version_id for version_id in known if version_id not in ids or version_id not in known_in_place]
        changed = [v for v in versions if any(v is t for t in touched) or str(v.version_id) not in known_in_place]
        if not gone and not changed:
            return None
        change = _Change(bucket_name, key, gone, [(str(v.version_id), _state(bucket, v)) for v in changed])
        ticket = self._append(change, takes_away=all(isinstance(v, FakeDeleteMarker) for v in changed))
        if ids:  # only what was written down is known
            self._known[bucket_name, key] = ids
        else:
            self._known.pop((bucket_name, key), None)
        return ticket

    def _append(self, change: _Change, *, takes_away: bool) -> int:
        record = pickle.dumps(tuple(change), 5)
        try:
            return self._open().append(record)
        except OSError as error:
            if error.errno not in FULL or not takes_away or not self._reserve.spend():
                raise
        return self._open().append(record)  # so that a full disk can be emptied

    def sync(self, ticket: int | None) -> None:
        """Return when the record is on disk."""
        if ticket is not None:
            self._open().sync(ticket)

    def _open(self) -> Journal:
        assert self._journal is not None, "load() comes first"
        return self._journal

    def __len__(self) -> int:
        return len(self._known)

    def is_long(self) -> bool:
        """Whether the journal has outgrown what it describes, or takes nothing more."""
        return self._open().is_broken or self._open().size > max(COMPACT_BYTES, 4 * self._snapshot_bytes)

    def tidy(self) -> None:
        """Compact when it is time to, and keep back what a full disk will need."""
        if self.is_long():
            self.compact()
        self._reserve.fill()

    def compact(self) -> None:
        """Write everything anew and begin an empty journal. Stops writers meanwhile."""
        with self._lock:
            journal = self._open()
            if journal.is_empty and self._path("snapshot").exists():
                return
            if not journal.is_broken:
                journal.sync(journal.size)
            payload = pickle.dumps([tuple(change) for change in self._everything()], 5)
            self._generation += 1
            try:
                fresh = Journal(self._path("journal"))
                snapshot.write(self._path("snapshot"), payload, written_by=pickling.WRITTEN_BY)
            except OSError:
                # The old ones hold everything, and are gone on with. A snapshot that stayed would hide what comes.
                for kind in ("snapshot", "journal"):
                    self._path(kind).unlink(missing_ok=True)
                self._generation -= 1
                raise
            self._snapshot_bytes = len(payload)
            self._journal = fresh
            self._retire(journal)

    def _everything(self) -> Iterator[_Change]:
        for bucket_name, key in self._known:
            bucket = find_bucket(bucket_name)
            if bucket is not None and (versions := bucket.keys.getlist(key, [])):
                yield _Change(bucket_name, key, (), [(str(v.version_id), _state(bucket, v)) for v in versions])

    def _retire(self, journal: Journal) -> None:
        """Another thread may be inside `sync` on the old journal, so its file stays open; two generations on, files go."""
        self._retired = journal
        for kind in ("snapshot", "journal"):
            (self._folder / f"keys.{self._generation - 2}.{kind}").unlink(missing_ok=True)

    def _path(self, kind: str) -> Path:
        return self._folder / f"keys.{self._generation}.{kind}"

    def close(self) -> None:
        """As small as may be for the next start; nothing is touched when this one did not `begin`."""
        if self._begun:
            try:
                self.compact()
            except OSError:  # the journal has it all
                _log.exception("the list of keys stays as it is")
        self._open().close()


def find_bucket(name: str) -> FakeBucket | None:
    """The bucket of that name, in whatever account."""
    place = s3_backends.bucket_accounts.get(name)
    if place is None:
        return None
    partition, account = place
    found: FakeBucket | None = s3_backends[account][partition].buckets.get(name)
    return found


def _backend(bucket: FakeBucket) -> Any:
    return s3_backends[bucket.account_id][bucket.partition]


def _state(bucket: FakeBucket, version: Version) -> bytes:
    arn = getattr(version, "arn", None)
    tags = _backend(bucket).tagger.get_tag_dict_for_resource(arn) if arn else {}
    return pickling.dumps((version, tags))
