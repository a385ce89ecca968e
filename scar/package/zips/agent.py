"""The part of a zip function that all functions share: the agent, its start script, and libfakechroot, as they lie in /var/task.

The same bytes from the same agent, on every machine with the same zlib: sorted, dated 1980, two modes, symbolic links as copies.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from faassupervisor.contract import AGENT_ROOT
from scar.errors import ScarError
from scar.package import oci
from scar.package.agent import AgentLayer, agent_layer, fakechroot
from scar.package.cache import in_cache, written_whole
from scar.package.progress import Tell

TASK_ROOT: Final = "/var/task"
BOOTSTRAP: Final = "scar-bootstrap"
_RECORD: Final = "record.json"
_FORMAT: Final = 1  # raised whenever the same agent is packed otherwise
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_UNIX: Final = 3
_LEVEL: Final = 6
_REGULAR: Final = 0o100000
_PREFIX: Final = AGENT_ROOT.lstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class AgentZip:
    """A zip in the cache, and what its files take unpacked."""

    path: Path
    unzipped_bytes: int


def agent_zip(architecture: str, *, cache: Path, tell: Tell) -> AgentZip:
    """The shared part for linux/`architecture`, made once for each agent."""
    agent = agent_layer(architecture, cache=cache, tell=tell)
    digest = agent.layer.blob.descriptor.digest
    named = f"{_FORMAT}\n{digest}\n{fakechroot.package_digest(agent.architecture)}\n{' '.join(agent.entrypoint)}"
    directory = cache / "zips" / hashlib.sha256(named.encode()).hexdigest()[:32]
    kept = directory / "agent.zip"
    with in_cache(directory):
        unzipped = _known(kept)
        if unzipped is None:
            with written_whole(kept) as out:
                unzipped = _build(out, agent, fakechroot.libraries(agent.architecture, cache=cache, tell=tell))
            record = {"sha256": _digest(kept), "unzipped_bytes": unzipped}
            with written_whole(directory / _RECORD) as out:
                out.write(json.dumps(record).encode())
    return AgentZip(kept, unzipped)


def add(archive: zipfile.ZipFile, name: str, content: bytes, *, program: bool = False) -> None:
    """One file, with nothing in its entry that differs between machines."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system = _UNIX
    entry.external_attr = (_REGULAR | (0o755 if program else 0o644)) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=_LEVEL)


def bootstrap(entrypoint: Iterable[str]) -> bytes:
    """The script that Lambda starts instead of its own runtime, whose command it gives as arguments: the agent needs none of it."""
    words = [word.replace(AGENT_ROOT, TASK_ROOT, 1) for word in entrypoint]
    return f"#!/bin/sh\nexec {' '.join(words)} --tmp /tmp\n".encode()


def _known(kept: Path) -> int | None:
    """What the zip in the cache takes unpacked; None when there is none, or it is not what was written."""
    try:
        record = json.loads(kept.with_name(_RECORD).read_bytes())
        return int(record["unzipped_bytes"]) if _digest(kept) == record["sha256"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(out: IO[bytes], agent: AgentLayer, libraries: Mapping[str, bytes]) -> int:
    """Write the zip; answers what it takes unpacked."""
    files = dict(_agent_files(agent.layer.blob))
    files |= {f"fakechroot/{least}/libfakechroot.so": (content, False) for least, content in libraries.items()}
    files[BOOTSTRAP] = (bootstrap(agent.entrypoint), True)
    with zipfile.ZipFile(out, "w") as archive:
        for name, (content, program) in sorted(files.items()):
            add(archive, name, content, program=program)
    return sum(len(content) for content, _ in files.values())


def _agent_files(blob: oci.Blob) -> Iterator[tuple[str, tuple[bytes, bool]]]:
    """(path below /var/task, (content, whether it is a program)) of the agent layer."""
    found: dict[str, tuple[bytes, bool]] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(blob.open())), mode="r:gz") as tar:
        for member in tar:
            path = member.name.removeprefix(_PREFIX)
            if member.issym():
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.isreg() and not posixpath.basename(path).startswith(".wh."):
                source = tar.extractfile(member)
                found[path] = (source.read() if source else b"", bool(member.mode & 0o111))
    yield from found.items()
    for path, target in links.items():
        if target not in found:
            raise ScarError(f"the agent layer has a link {path} to {target}, which is no file of it")
        yield path, found[target]
