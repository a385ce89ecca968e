"""Which Debian packages are the base images made of, and where do they lie once they were fetched?

Packages of three releases and two architectures, by name, from the mirror that this machine's apt already uses, with an apt state of
our own: nothing is installed and nothing of the machine's own apt is touched. `python3 tests/conformance/packages.py` fetches all.
Standard library only, and no file of the product: the installer of the gate runs it with the system's Python.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHARED: Final = Path("/var/cache/scar-conformance")  # what root fetched for every user of this machine
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COREUTILS: Final = ("coreutils", "dash", "libacl1", "libattr1", "libgmp10", "libpcre2-8-0", "libselinux1")


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release of one architecture, and what is taken from it."""

    suite: str
    architecture: str
    names: tuple[str, ...]


OLD: Final = Release("bullseye", "amd64", ("libc6", "libc6-dev", *_COREUTILS))
STABLE: Final = Release(
    "bookworm",
    "amd64",
    ("libc6", *_COREUTILS, "bash", "libtinfo6", "perl-base", "libcrypt1", "python3.11-minimal", "libpython3.11-minimal",
     "libexpat1", "zlib1g", "busybox-static", "musl", "musl-dev", "tcc"),
)  # fmt: skip
NEW: Final = Release("trixie", "amd64", ("libc6", *_COREUTILS))
FOREIGN: Final = Release("bookworm", "arm64", ("busybox-static",))
RELEASES: Final = (OLD, STABLE, NEW, FOREIGN)
_STAMP: Final = f"fetched-{zlib.crc32(repr(RELEASES).encode()):08x}"


class Unavailable(Exception):
    """The packages cannot be had here; the text says why."""


def folder() -> Path:
    """Where the packages lie unpacked, `<suite>-<architecture>/<name>/…`; fetched now when nobody has yet."""
    if (SHARED / _STAMP).exists():
        return SHARED
    own = SHARED if os.geteuid() == 0 else Path.home() / ".cache" / "scar-conformance"
    fetch(own)
    return own


def tree(release: Release, name: str) -> Path:
    """One package's files."""
    return folder() / f"{release.suite}-{release.architecture}" / name


def fetch(place: Path) -> None:
    """Fetch and unpack everything below `place`, unless that was done; two at once take turns."""
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place):
        if (place / _STAMP).exists():
            return
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not here: the base images are made from Debian's packages")
        state = place / "apt"
        environment = {**os.environ, "APT_CONFIG": str(_write_apt_state(state))}
        _run("apt-get", "update", "-qq", environment=environment)
        for release in RELEASES:
            _fetch(release, place, environment)
        shutil.rmtree(state)
        (place / _STAMP).touch()


def _fetch(release: Release, place: Path, environment: dict[str, str]) -> None:
    target = place / f"{release.suite}-{release.architecture}"
    shutil.rmtree(target, ignore_errors=True)
    archives = target / "archives"
    archives.mkdir(parents=True)
    wanted = [f"{name}:{release.architecture}/{release.suite}" for name in release.names]
    _run("apt-get", "download", "-qq", *wanted, environment=environment, where=archives)
    for name in release.names:
        (archive,) = archives.glob(f"{name}_*.deb")
        _run("dpkg-deb", "-x", str(archive), str(target / name), environment=environment)
    shutil.rmtree(archives)


def _write_apt_state(state: Path) -> Path:
    """An apt that knows the three releases at this machine's own mirror; its configuration file."""
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    archive = mirror()
    lines = []
    for suite in sorted({release.suite for release in RELEASES}):
        architectures = ",".join(release.architecture for release in RELEASES if release.suite == suite)
        lines.append(f"deb [arch={architectures} signed-by={_KEYRING}] {archive} {suite} main\n")
    (state / "sources.list").write_text("".join(lines))
    configuration = state / "apt.conf"
    configuration.write_text(
        f'Dir::State "{state}"; Dir::State::status "{state}/status"; Dir::Cache "{state}/cache";\n'
        f'Dir::Etc::SourceList "{state}/sources.list"; Dir::Etc::SourceParts "-"; Acquire::Languages "none";\n'
        'APT::Architectures { "amd64"; "arm64"; }; APT::Sandbox::User "";\n'
    )
    return configuration


def mirror() -> str:
    """The archive that this machine's own `main` of Debian comes from."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME)|$(COMPONENT)|$(ORIGIN)|$(LABEL)|$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        codename, component, origin, label, uri = line.split("|", 4)
        if (component, origin, label) == ("main", "Debian", "Debian") and "-" not in codename:
            return uri
    raise Unavailable("this machine's apt has no archive of Debian itself")


def _run(*argv: str, environment: dict[str, str], where: Path | None = None) -> None:
    done = subprocess.run(argv, env=environment, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(argv[:2])} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    with (place / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        print(folder())
    except Unavailable as error:
        sys.exit(f"packages for the conformance suite: {error}")
