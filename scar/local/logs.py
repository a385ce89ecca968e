"""Where do the log lines of local functions go? Into moto's CloudWatch Logs, and into one file per group that outlives us.

moto keeps events in lists; this file makes them durable and leaves reading (GetLogEvents, FilterLogEvents) to moto. The logs
service's snapshot holds groups and their settings; streams and events are here. Lines are in the kernel's hands before `put`
returns, so they survive a killed daemon; once a second they reach the disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from scar.limits import MIB
from scar.local.state import StateDamagedError, make_folder, sweep_unfinished, write_atomically

DEFAULT_ACCOUNT: Final = "123456789012"  # moto's
DEFAULT_REGION: Final = "us-east-1"
GROUP_BYTES: Final = 64 * MIB  # a group's file above this loses its oldest half: a local AWS must not fill the disk

_LINE_BYTES: Final = 2 * MIB  # above any log event: AWS takes at most 1 MiB

_Place = tuple[str, str, str]  # account, region, group
_log = logging.getLogger("scar.local")


class LogSink:
    """CloudWatch Logs for whoever runs inside the daemon. Safe to call from any thread."""

    def __init__(
        self, folder: Path, *, group_bytes: int = GROUP_BYTES, made_group: Callable[[], None] = lambda: None
    ) -> None:
        self._folder, self._group_bytes, self._made_group = folder, group_bytes, made_group
        self._lock = threading.RLock()
        self._unsynced: set[_Place] = set()
        self._replaying = False
        make_folder(folder)

    def put(
        self,
        group: str,
        stream: str,
        lines: Sequence[tuple[int, str]],
        *,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
        make: bool = True,
    ) -> None:
        """Append (milliseconds since 1970, text) lines. Group and stream are made when they are absent.

        Without `make` lines for a group that was deleted meanwhile are dropped: the last words of a sandbox must not bring it back.
        """
        from moto.logs.models import logs_backends

        backend = logs_backends[account][region]
        with self._lock:
            made = group not in backend.groups
            if made and not make:
                return
            if made:
                backend.create_log_group(group, {})
            found = backend.groups[group]
            if stream not in found.streams:
                found.create_log_stream(stream)
            if lines:
                found.streams[stream].put_log_events([{"timestamp": at, "message": text} for at, text in lines])
        if made:
            self._made_group()

    def install(self) -> None:
        """Hook moto's Logs: whatever is put, by API or by `put`, is also written to the group's file."""
        from moto.logs.models import LogGroup, LogsBackend, LogStream

        def after(owner: type, name: str, then: Callable[..., None]) -> None:
            original = getattr(owner, name)

            @functools.wraps(original)
            def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
                with sink._lock:
                    result = original(self, *args, **kwargs)
                    if not sink._replaying:
                        then(self, *args, **kwargs)
                    return result

            setattr(owner, name, replacement)

        sink = self
        after(LogStream, "put_log_events", self._events_put)
        after(LogGroup, "create_log_stream", self._stream_made)
        after(LogGroup, "delete_log_stream", self._stream_deleted)
        after(LogsBackend, "delete_log_group", self._group_deleted)
        LogGroup.__getstate__ = lambda self: {**self.__dict__, "streams": {}}

    def load(self) -> None:
        """Put the kept streams and events back into moto, whose groups must be there. A group nobody knows any more loses its file."""
        from moto.logs.models import logs_backends

        sweep_unfinished(self._folder)
        self._replaying = True
        try:
            for path in sorted(self._folder.glob("*.jsonl")):
                account, region, name = _place(path)
                group = logs_backends[account][region].groups.get(name)
                if group is None:
                    path.unlink()
                else:
                    _cut_torn_line(path)
                    _fill(group, _rows(path))
        finally:
            self._replaying = False

    def flush(self) -> None:
        """Bring what was written to the disk. Called once a second, and at the end."""
        with self._lock:
            waiting, self._unsynced = self._unsynced, set()
        for place in waiting:
            try:
                fd = os.open(self._file(place), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)

    def _events_put(self, stream: Any, log_events: list[dict[str, Any]]) -> None:
        fresh = stream.events[len(stream.events) - len(log_events) :] if log_events else []
        rows = [[stream.log_stream_name, event.timestamp, event.message, event.ingestion_time] for event in fresh]
        self._append(_place_of(stream.log_group), rows)

    def _stream_made(self, group: Any, log_stream_name: str) -> None:
        self._append(_place_of(group), [[log_stream_name]])

    def _stream_deleted(self, group: Any, log_stream_name: str) -> None:
        self._append(_place_of(group), [[log_stream_name, None]])

    def _group_deleted(self, backend: Any, log_group_name: str) -> None:
        self._file((backend.account_id, backend.region_name, log_group_name)).unlink(missing_ok=True)

    def _append(self, place: _Place, rows: Iterable[list[Any]]) -> None:
        path = self._file(place)
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
        if not path.exists():  # never there without its first line, whenever the machine stops
            write_atomically(path, json.dumps(place).encode() + b"\n")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            before = os.fstat(fd).st_size
            try:
                view = memoryview(text)
                while view:
                    view = view[os.write(fd, view) :]
            except OSError:  # half a line, and the next would be glued to it
                os.ftruncate(fd, before)
                raise
            size = before + len(text)
        finally:
            os.close(fd)
        self._unsynced.add(place)
        if size > self._group_bytes:
            self._halve(place, path)

    def _halve(self, place: _Place, path: Path) -> None:
        """Forget the oldest half of a group that has grown too large, on disk and in memory."""
        from moto.logs.models import logs_backends

        group = logs_backends[place[0]][place[1]].groups[place[2]]
        rows: deque[list[Any]] = deque()
        size = 0
        for row in reversed(list(_rows(path))):
            size += sum(len(str(field)) for field in row)
            if size > self._group_bytes // 2:
                break
            rows.appendleft(row)
        named = [[name] for name in group.streams]  # a stream stays, even when its lines are gone
        content = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in (list(place), *named, *rows))
        write_atomically(path, content.encode())
        for stream in group.streams.values():
            stream.events = []
        self._replaying = True
        try:
            _fill(group, rows)
        finally:
            self._replaying = False
        _log.warning("log group %s was above %d bytes; its oldest half is gone", place[2], self._group_bytes)

    def _file(self, place: _Place) -> Path:
        return self._folder / (hashlib.sha256("\0".join(place).encode()).hexdigest()[:32] + ".jsonl")


def _place_of(group: Any) -> _Place:
    return (group.account_id, group.region, group.name)


def _place(path: Path) -> _Place:
    with path.open("rb") as source:
        first = source.readline()
    try:
        account, region, group = json.loads(first)
    except ValueError as error:
        raise StateDamagedError(path, "The log file is damaged: it does not begin with its group's name.") from error
    return (account, region, group)


def _cut_torn_line(path: Path) -> None:
    """A line that was being written when the daemon died goes, or the next one would be glued to it."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _LINE_BYTES)
        file.seek(start)
        tail = file.read()
        if not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)


def _rows(path: Path) -> Iterator[list[Any]]:
    """The rows of a group's file, oldest first."""
    with path.open("rb") as source:
        next(source)
        for number, line in enumerate(source, 2):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise StateDamagedError(path, f"The log file is damaged at line {number}.") from error
            yield row


def _fill(group: Any, rows: Iterable[list[Any]]) -> None:
    from moto.logs.models import LogEvent

    events: defaultdict[str, list[Any]] = defaultdict(list)
    for name, *event in rows:
        if event == [None]:
            group.streams.pop(name, None)
            events.pop(name, None)
            continue
        if name not in group.streams:
            group.create_log_stream(name)
        if event:
            at, text, ingested = event
            events[name].append(LogEvent(ingested, {"timestamp": at, "message": text}))
    for name, of_stream in events.items():
        _restore(group.streams[name], of_stream)


def _restore(stream: Any, events: list[Any]) -> None:
    from datetime import UTC, datetime

    stream.events = events
    stream.stored_bytes = sum(len(event.message) for event in events)
    # moto's clock is naive UTC
    stream.last_ingestion_time = datetime.fromtimestamp(events[-1].ingestion_time / 1000, UTC).replace(tzinfo=None)
