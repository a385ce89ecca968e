"""What only reading every layer tells: how much the image unpacks to, whether a zip runtime can hold it, and whether what will run is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from scar.errors import UsageError
from scar.package import oci
from scar.package.inspecting import Inspection
from scar.package.progress import Tell, ignore
from scar.package.zips.check import expect_fit, expect_program, expect_room
from scar.package.zips.scan import Scan, scan

_NOTHING: Final = oci.Blob(oci.Descriptor(oci.DOCKER_CONFIG, f"sha256:{sha256().hexdigest()}", 0), lambda: iter(()))


@dataclass(frozen=True, slots=True)
class Read:
    """`zip_why_not` is empty when a zip runtime can run the image, None where the question has no sense (a derived image).

    `missing` names a program that would have to start and is not in the image.
    """

    found: Inspection
    zip_why_not: tuple[str, ...] | None
    missing: str | None


def read_layers(
    found: Inspection,
    *,
    tmp_mib: int,
    script: bytes | None,
    has_script: bool,
    variables: Mapping[str, str],
    cache: Path,
    tell: Tell = ignore,
) -> Read:
    """Read all layers, or what was kept of an earlier reading. `script` and `variables` are the function's, where there is one.

    With `has_script` unknown to us (no definition is at hand) give True and no script: then only the image itself is judged.
    """
    if found.process is None:
        return Read(found, None, None)
    looked = scan(_as_value(found), found.architecture, cache=cache, tell=tell)
    found = dataclasses.replace(found, scanned_bytes=looked.unpacked_bytes)
    if found.function is not None:
        return Read(found, None, None)
    why_not = list(_zip_why_not(looked, found.name, tmp_mib))
    missing = None if has_script and script is None else _missing(looked, found, script, variables)
    if missing:
        why_not.append(missing)
    return Read(found, tuple(why_not), missing)


def _zip_why_not(looked: Scan, name: str, tmp_mib: int) -> list[str]:
    asked: tuple[Callable[[], Any], ...] = (
        lambda: expect_fit(looked, function="", image=name),
        lambda: expect_room(looked.unpacked_bytes, tmp_mib=tmp_mib, function="", image=name),
    )
    return [told for expect in asked if (told := _refusal(expect))]


def _missing(looked: Scan, found: Inspection, script: bytes | None, variables: Mapping[str, str]) -> str | None:
    process = found.process
    assert process is not None, "what has no process was sent back before"
    if script is not None and script.startswith(b"\x7fELF"):
        return None
    if script is None and not (process.entrypoint or process.command):
        return None
    return _refusal(lambda: expect_program(looked, process, script, variables=variables, function="", image=found.name))


def _refusal(expect: Callable[[], Any]) -> str | None:
    try:
        expect()
    except UsageError as error:
        return error.what
    return None


def _as_value(found: Inspection) -> oci.Image:
    """The image for those who only read its layers. What is kept of the reading goes by its digest, or by its configuration's."""
    config = found.config or _NOTHING
    digest = found.digest or config.descriptor.digest
    layers = tuple(oci.Layer(blob, blob.descriptor.digest) for blob in found.blobs)
    return oci.Image(b"", found.media_type, digest, config, layers)
