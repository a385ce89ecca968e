"""Debian's libfakechroot, twice: the library that lets a program see a folder as its root, without any right.

An image is run with the newer one that its C library can load. LGPL-2.1; Debian's own builds, unchanged.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scar.package import oci
from scar.package.agent import shipped
from scar.package.agent.debian import Group, fetch, packages
from scar.package.agent.debian_archive import unpack_packages
from scar.package.progress import Tell, ignore

# The least version of the GNU C library that each needs → the release of Debian that built it (on arm64 the least that
# exists at all is 2.17, so there "2.14" holds for every image).
GROUPS: Final = {"2.14": Group.FAKECHROOT_DEBIAN_11, "2.34": Group.FAKECHROOT_DEBIAN_12}


def libraries(architecture: str, *, cache: Path, tell: Tell = ignore) -> Mapping[str, bytes]:
    """`libfakechroot.so` for linux/`architecture` by the least glibc that it needs: {"2.14": …, "2.34": …}.

    As this release ships them, else from the cache, else from Debian's packages.
    """
    wanted = oci.architecture(architecture)
    return shipped.fakechroot(wanted, package_digest(wanted)) or built_libraries(wanted, cache=cache, tell=tell)


def built_libraries(architecture: str, *, cache: Path, tell: Tell = ignore) -> Mapping[str, bytes]:
    """The same from Debian's packages, whatever is shipped."""
    return {least: _library(group, architecture, cache, tell) for least, group in GROUPS.items()}


def package_digest(architecture: str) -> str:
    """Names the packages that the libraries come from."""
    pinned = [package.sha256 for group in GROUPS.values() for package in packages(group, architecture)]
    return hashlib.sha256("\n".join(pinned).encode()).hexdigest()


def _library(group: Group, architecture: str, cache: Path, tell: Tell) -> bytes:
    files = [fetch(package, cache=cache, tell=tell) for package in packages(group, architecture)]
    with tempfile.TemporaryDirectory() as folder:
        unpack_packages(files, Path(folder))
        return next(Path(folder).glob("usr/lib/*/fakechroot/libfakechroot.so")).read_bytes()
