"""The images of the multi-node tests: built from the example's own recipe, on a Debian that is made here, for no registry is asked.

Each is built once for one content of the recipe and found by its name afterwards. Nothing of this machine's apt is in the recipe: its
sources and its configuration are lent to the build.
"""

from __future__ import annotations

import functools
import hashlib
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.conformance.packages import NEW, STABLE, Release, Unavailable, mirror
from tests.e2e.conftest import ROOT

EXAMPLE: Final = ROOT / "examples" / "mpi"
STORE: Final = "localhost/scar-tests"
OPEN_MPI: Final = "openmpi"
MPICH: Final = "mpich"
_RELEASES: Final = {OPEN_MPI: STABLE, MPICH: NEW}  # why not the same: see the recipe
OPEN_MPI_AND_SSHD: Final = "openssh"  # Open MPI's image with a server for ssh, for scripts that bring their own
_ARCHIVE_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LEFT_OUT: Final = ("doc", "info", "locale", "man")  # as in Debian's own slim images
_WITH_SSHD: Final = "FROM {base}\nRUN apt-get update && apt-get install -y --no-install-recommends openssh-server\n"


@functools.cache
def stored(kind: str) -> str:
    """The reference, in Podman's store, of an image of that kind; built now unless somebody has."""
    for program in ("podman", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; the gate installs it")
    if kind == OPEN_MPI_AND_SSHD:
        recipe = _WITH_SSHD.format(base=stored(OPEN_MPI))
        name = f"{STORE}:{kind}-{_digest(recipe)}"
        if not _exists(name):
            with TemporaryDirectory() as folder:
                Path(folder, "Containerfile").write_text(recipe)
                build("podman", "build", "-t", name, folder)
        return f"containers-storage:{name}"
    release = _RELEASES[kind]
    sources = ((EXAMPLE / name).read_text() for name in ("Containerfile", "poisson.c", "hello.c"))
    name = f"{STORE}:{kind}-{_digest(*sources, *_base_command(release))}"
    if not _exists(name):
        words = [name if word == "scar-mpi" else word for word in command_of_the_page()]
        chosen = ("--build-arg", f"MPI={kind}", "--build-arg", f"BASE={debian(release)}")
        build(*words[:-1], *chosen, str(ROOT / words[-1]), release=release)
    return f"containers-storage:{name}"


def prepare(*kinds: str) -> None:
    """Build several at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(stored, kinds))


def command_of_the_page() -> list[str]:
    """The line of the example's README that builds the image."""
    (line,) = [line for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("podman build")]
    return shlex.split(line)


@functools.cache
def debian(release: Release) -> str:
    """A small Debian: the archive's essential packages and apt."""
    command = _base_command(release)
    name = f"{STORE}:debian-{release.suite}-{_digest(*command)}"
    if not _exists(name):
        with TemporaryDirectory() as folder:
            archive = Path(folder, "debian.tar")
            try:
                _run(*command, release.suite, str(archive), _source(release))
            except Unavailable as reason:
                pytest.skip(f"{reason}; the gate has one")
            _run("podman", "import", "--quiet", str(archive), name)
    return name


def _base_command(release: Release) -> list[str]:
    """mmdebstrap with what makes it small and quick: /usr merged from the start, no page of a manual, and no waiting for the disk."""
    dropped = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
    merged = ["--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr", "--include=usr-is-merged"]
    kind = ["--quiet", "--mode=root", "--variant=apt", f"--architectures={release.architecture}"]
    return ["mmdebstrap", *kind, "--dpkgopt=force-unsafe-io", *dropped, *merged]


def _source(release: Release) -> str:
    return f"deb [signed-by={_ARCHIVE_KEYS}] {mirror()} {release.suite} main"


def build(*words: str, release: Release = STABLE) -> None:
    """`podman build`, with this machine's way to Debian's archive. Layers of single steps are not kept: that halves the time."""
    with TemporaryDirectory() as sources:
        Path(sources, "debian.list").write_text(_source(release) + "\n")
        lent = [f"--volume={sources}:/etc/apt/sources.list.d:ro", "--volume=/etc/apt/apt.conf.d:/etc/apt/apt.conf.d:ro"]
        _run(*words[:-1], "--quiet", "--layers=false", "--network=host", *lent, words[-1])


def _exists(name: str) -> bool:
    return subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"{' '.join(argv[:2])} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    )
