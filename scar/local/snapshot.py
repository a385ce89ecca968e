"""One file that holds one thing whole: a header line that says what it is, then the bytes, which must hash to what the header says.

Replaced atomically; the one before is kept as `<name>.previous`. A file that does not add up is refused, never overwritten or skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scar.local.state import SCHEMA, StateDamagedError, write_atomically

_FORMAT: Final = "scar-local-snapshot"


def write(path: Path, payload: bytes, *, written_by: str) -> None:
    """On disk when this returns. `written_by` names the version that alone can read it back."""
    header = {
        "format": _FORMAT,
        "schema": SCHEMA,
        "written_by": written_by,
        "size": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    if path.exists():
        previous = path.with_name(path.name + ".previous")
        spare = path.with_name(path.name + ".spare")
        spare.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a file system without links keeps no backup
            os.link(path, spare)
            spare.replace(previous)
    write_atomically(path, json.dumps(header).encode() + b"\n" + payload)


def read(path: Path, *, written_by: str) -> bytes:
    """The payload, verified. Raises StateDamagedError with the way out."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateDamagedError(path, f"The snapshot cannot be read: {error.strerror}.") from error
    first, newline, payload = content.partition(b"\n")
    header = _header(path, first if newline else b"")
    if header.get("schema") != SCHEMA:
        raise StateDamagedError(path, f"The snapshot has schema {header.get('schema')}; this SCAR reads {SCHEMA}.")
    if header.get("size") != len(payload) or header.get("sha256") != hashlib.sha256(payload).hexdigest():
        raise StateDamagedError(path, "The snapshot is damaged: its content does not match its checksum.")
    if header.get("written_by") != written_by:
        raise StateDamagedError(
            path, f"The snapshot was written by {header.get('written_by')}; this is {written_by}, which cannot read it."
        )
    return payload


def write_document(path: Path, document: Mapping[str, Any], *, written_by: str) -> None:
    """A small document in the same form. On disk when this returns."""
    write(path, json.dumps(document).encode(), written_by=written_by)


def read_document(path: Path, *, written_by: str) -> dict[str, Any]:
    """Raises StateDamagedError. What was written before documents had a header is read too, as far as it is whole."""
    try:
        plain = json.loads(path.read_bytes())
    except OSError as error:
        raise StateDamagedError(path, f"The file cannot be read: {error.strerror}.") from error
    except ValueError:  # two documents, or damage, which `read` words
        plain = json.loads(read(path, written_by=written_by))
    if not isinstance(plain, dict):
        raise StateDamagedError(path, "The file is damaged: it holds no document.")
    return plain


def _header(path: Path, line: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise StateDamagedError(path, "The snapshot is damaged: it does not begin with a header.")
    return header
