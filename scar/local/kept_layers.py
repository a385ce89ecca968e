"""The layer that all functions' images share, the agent's, unpacked once: an image gets its files as hard links.

<hex of the layer>/entries.json    what the layer's tar says, entry by entry
<hex of the layer>/files/          what its files hold, by the entry's number, with the modes and times they have in an image

Only files below the agent's own folder are shared so. Where a sandbox engine does not enforce that a root is read-only, a program may change
the files of its image; no function changes another's, and the agent's are nobody's to change.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final

from faassupervisor.layers.tarstream import CountedStream, Entry, LayerError, entries, open_layer
from faassupervisor.layers.unpack import StreamedContents, Unpacking, UnpackLimits, steps_of
from scar.local.folders import DigestFolders

_AGENTS: Final = ["opt", "scar"]
_LEAST_BYTES: Final = (
    1 << 20
)  # of a layer's file; the layer with a function's script is in the same folder, and cheaper to unpack
_MOST_BYTES: Final = 300 * 1024 * 1024  # for all of them: agents of some releases
_ENTRIES: Final = "entries.json"
_NO_LINKS: Final = frozenset(
    {errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP}
)  # link(2): too many, or a file system without any

Open = Callable[[Path], AbstractContextManager[IO[bytes]]]


class _NotTheAgentsError(Exception):
    """The layer has something elsewhere."""


class KeptLayers:
    """Agents' layers below `folder`. `open_plain` opens a layer's plain tar, and raises LayerError when that is not what its digest says."""

    def __init__(self, folder: Path, limits: UnpackLimits, open_plain: Open) -> None:
        self._folders, self._limits, self._open = DigestFolders(folder), limits, open_plain

    def apply(self, layer: Path, unpacking: Unpacking) -> bool:
        """Apply a layer whose file is named by its digest. False, with nothing done, when it is not one that is kept."""
        if layer.stat().st_size < _LEAST_BYTES or not self._may_be_agents(layer):
            return False
        try:
            held = self._folders.use(layer.name, lambda making: self._read(layer, making))
        except _NotTheAgentsError:
            return False
        with held:
            found = [Entry(*fields) for fields in json.loads((held.path / _ENTRIES).read_bytes())]
            unpacking.apply_read(layer.name, found, _Linked(held.path / "files", found))
        self._folders.prune(keep={layer.name}, max_bytes=_MOST_BYTES)
        return True

    def _may_be_agents(self, layer: Path) -> bool:
        """By the first entry: reading all of a large base for nothing would cost more than is gained."""
        try:
            with open_layer(layer) as tar:
                stream = CountedStream(tar, [self._limits.total_bytes])
                return _is_agents(next(entries(stream, header_bytes_limit=self._limits.header_bytes), None))
        except LayerError:
            return False  # whoever unpacks it says what is wrong with it

    def _read(self, layer: Path, making: Path) -> int:
        files = making / "files"
        files.mkdir()
        read: list[Entry] = []
        with self._open(layer) as tar:
            stream = CountedStream(tar, [self._limits.total_bytes])
            contents = StreamedContents(stream)
            for entry in entries(stream, header_bytes_limit=self._limits.header_bytes):
                if not _is_agents(entry):
                    raise _NotTheAgentsError
                if len(read) >= self._limits.entries:
                    raise LayerError(f"the image has more than {self._limits.entries} entries")
                if entry.kind == "file":
                    contents.write(f"{files}/{len(read)}", entry)
                read.append(entry)
        (making / _ENTRIES).write_text(json.dumps([dataclasses.astuple(entry) for entry in read]))
        return sum(entry.size for entry in read)


class _Linked:
    """Files of a layer that was unpacked before, by their numbers."""

    def __init__(self, files: Path, read: Sequence[Entry]) -> None:
        self._files = files
        self._numbers = {id(entry): number for number, entry in enumerate(read)}

    def write(self, path: str, entry: Entry) -> None:
        kept = f"{self._files}/{self._numbers[id(entry)]}"
        try:
            os.link(kept, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy2(kept, path)

    def skip(self, entry: Entry) -> None:
        pass


def _is_agents(entry: Entry | None) -> bool:
    return entry is not None and steps_of(entry.name)[:2] == _AGENTS
