"""What a release of scar ships ready-made, so that nobody who installs it needs Debian's packages: agent layers, libfakechroot.

    bundles/<architecture>.json             what lies beside it, and what it was made from
    bundles/agent-<architecture>.tar.gz     the agent layer, as it is pushed
    bundles/fakechroot-<architecture>-<least glibc>.so

A checkout has none of it until `scar.package.agent.bundle` is run, and what does not fit the sources any more is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scar.package import oci
from scar.package.layer import Digests, file_layer

FOLDER: Final = Path(__file__).with_name("bundles")


@dataclass(frozen=True, slots=True)
class ShippedAgent:
    layer: oci.Layer
    entrypoint: tuple[str, ...]
    version: str


def agent(architecture: str, sources: str, *, folder: Path = FOLDER) -> ShippedAgent | None:
    """The shipped layer, if it is whole and was made from exactly these `sources`."""
    record = _record(architecture, folder)
    if record is None or record["sources"] != sources:
        return None
    path, digests = agent_path(architecture, folder), Digests(**record["digests"])
    if _sha256(path) != digests.digest.removeprefix("sha256:"):
        return None
    return ShippedAgent(file_layer(path, digests), tuple(record["entrypoint"]), record["version"])


def fakechroot(architecture: str, packages: str, *, folder: Path = FOLDER) -> Mapping[str, bytes] | None:
    """The shipped libraries by the least glibc that they need, if they are whole and come from these `packages`."""
    record = _record(architecture, folder)
    if record is None or record["packages"] != packages:
        return None
    paths = {least: fakechroot_path(architecture, least, folder) for least in record["fakechroot"]}
    if any(_sha256(path) != record["fakechroot"][least] for least, path in paths.items()):
        return None
    return {least: path.read_bytes() for least, path in paths.items()}


def record_path(architecture: str, folder: Path) -> Path:
    return folder / f"{architecture}.json"


def agent_path(architecture: str, folder: Path) -> Path:
    return folder / f"agent-{architecture}.tar.gz"


def fakechroot_path(architecture: str, least_glibc: str, folder: Path) -> Path:
    return folder / f"fakechroot-{architecture}-{least_glibc}.so"


def _record(architecture: str, folder: Path) -> Mapping[str, Any] | None:
    try:
        record: Mapping[str, Any] = json.loads(record_path(architecture, folder).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return record


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
