"""The Debian packages that the agent is made of: which, and where they are kept once they were fetched.

`debian_packages.json` names each by version, place in Debian's archive, SHA-256 and size, so what is built from them is the
same everywhere and for ever; who served a file does not matter. The mirror is the one that this machine's apt is set up
with. A file is fetched by its place, without an index of packages: nothing has to be updated, nobody has to be root, and the
other architecture costs the same as this one.

Pinned are versions of the release suites (`bookworm`, `bullseye`), never of the security suites: a point release holds each
security fix sooner or later, and keeps its files while it is supported. `debian_pins.py` writes the list anew.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache as once
from pathlib import Path
from typing import Final
from urllib.parse import quote

from scar.errors import ScarError
from scar.package.cache import in_cache, written_whole
from scar.package.progress import Tell, ignore

PINS: Final = Path(__file__).with_name("debian_packages.json")

# Part of the package `apt` itself, so it is where apt-get is.
_DOWNLOADER: Final = Path("/usr/lib/apt/apt-helper")
_DOWNLOAD_SECONDS: Final = 600
_OTHER_WAY: Final = "Install a release of scar, which ships what is built from Debian's packages; or build where apt is set up for Debian."


class Group(Enum):
    """What a package is for."""

    PYTHON = "python"
    FAKECHROOT_DEBIAN_11 = "fakechroot-debian-11"
    FAKECHROOT_DEBIAN_12 = "fakechroot-debian-12"


@dataclass(frozen=True, slots=True)
class Package:
    """One file of Debian's archive; `path` is below the archive's root."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        return self.path.rpartition("/")[2]


def packages(group: Group, architecture: str) -> tuple[Package, ...]:
    """The pinned packages of a group for `amd64` or `arm64`, in the order of their names."""
    pinned = json.loads(PINS.read_bytes())[group.value][architecture]
    return tuple(Package(architecture=architecture, **package) for package in pinned)


def fetch(package: Package, *, cache: Path, tell: Tell = ignore) -> Path:
    """The package's file, from the cache or from this machine's Debian mirror; its size and SHA-256 are right.

    Raises ScarError where apt is missing, knows no mirror of Debian, or the mirror does not have the file.
    """
    folder = cache / "debian" / f"{package.name}-{package.architecture}-{package.sha256[:16]}"
    kept = folder / package.file_name
    with in_cache(folder):
        if not _is_whole(kept, package):
            with written_whole(kept) as out:
                out.write(_download(package, folder))
            tell(package.size_bytes, package.size_bytes, f"{package.name} {package.version} fetched")
    return kept


@once
def mirrors() -> tuple[str, ...]:
    """Where this machine's apt finds archives, Debian's own first, each ending in a slash."""
    listed = _apt("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")
    # Who publishes an archive is known only after an update, which a fresh container has not had; any will do then,
    # because content is told by its hash.
    listed += _apt("apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)")
    found = dict.fromkeys(line.strip().rstrip("/") + "/" for line in listed.splitlines() if line.strip())
    if not found:
        raise ScarError("this machine's apt knows no package mirror", where="apt", fix=_OTHER_WAY)
    return tuple(found)


def _is_whole(path: Path, package: Package) -> bool:
    try:
        return path.stat().st_size == package.size_bytes and _sha256(path.read_bytes()) == package.sha256
    except FileNotFoundError:
        return False


def _download(package: Package, folder: Path) -> bytes:
    target = folder / "download"
    faults = []
    for mirror in mirrors():
        target.unlink(missing_ok=True)
        place, expected = mirror + quote(package.path), f"SHA256:{package.sha256}"
        try:
            _apt(str(_DOWNLOADER), *_options(folder), "download-file", place, str(target), expected)
            content = target.read_bytes()
        except (ScarError, OSError) as error:
            faults.append(str(error).splitlines()[0])
            continue
        finally:
            target.unlink(missing_ok=True)
        if len(content) == package.size_bytes and _sha256(content) == package.sha256:
            return content
        faults.append("other content than the pinned")
    raise ScarError(
        f"{package.name} {package.version} for {package.architecture} cannot be fetched: {'; '.join(faults)}",
        where="apt",
        fix=_OTHER_WAY,
    )


def _options(folder: Path) -> Iterator[str]:
    """Nothing of the machine's own state is read or written, so that no right and no lock is needed."""
    for option in (f"Dir::State={folder}", f"Dir::Cache={folder}", "APT::Sandbox::User="):
        yield from ("-o", option)


def _apt(program: str, *arguments: str) -> str:
    try:
        run = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ScarError(f"{program} is not here: this is no Debian", where="apt", fix=_OTHER_WAY) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScarError(f"{program} does not run: {error}", where="apt", fix=_OTHER_WAY) from error
    if run.returncode != 0:
        lines = [line for line in run.stderr.strip().splitlines() if line.startswith("E:")] or ["no message"]
        raise ScarError(f"{program} failed with {run.returncode}: {lines[0]}", where="apt", fix=_OTHER_WAY)
    return run.stdout


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
