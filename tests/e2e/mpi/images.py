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

from tests.conformance.packages import STABLE, Unavailable, mirror
from tests.e2e.conftest import ROOT

EXAMPLE: Final = ROOT / "examples" / "mpi"
STORE: Final = "localhost/scar-tests"
OPEN_MPI: Final = "openmpi"
MPICH: Final = "mpich"
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
    name = f"{STORE}:{kind}-{_digest(*(path.read_text() for path in sorted(EXAMPLE.glob('*'))), _base_command())}"
    if not _exists(name):
        words = [name if word == "scar-mpi" else word for word in command_of_the_page()]
        build(*words[:-1], "--build-arg", f"MPI={kind}", "--build-arg", f"BASE={debian()}", str(ROOT / words[-1]))
    return f"containers-storage:{name}"


def prepare(*kinds: str) -> None:
    """Build several at the same time."""
    debian()
    with ThreadPoolExecutor() as pool:
        list(pool.map(stored, kinds))


def command_of_the_page() -> list[str]:
    """The line of the example's README that builds the image."""
    (line,) = [line for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("podman build")]
    return shlex.split(line)


@functools.cache
def debian() -> str:
    """A small Debian of the release that the recipe names: the archive's essential packages and apt."""
    assert "ARG BASE=debian:12-slim" in (EXAMPLE / "Containerfile").read_text()
    name = f"{STORE}:debian-{_digest(_base_command())}"
    if not _exists(name):
        with TemporaryDirectory() as folder:
            archive = Path(folder, "debian.tar")
            try:
                _run(*shlex.split(_base_command()), STABLE.suite, str(archive), _source())
            except Unavailable as reason:
                pytest.skip(f"{reason}; the gate has one")
            _run("podman", "import", "--quiet", str(archive), name)
    return name


def _base_command() -> str:
    """mmdebstrap with what makes it small and quick: /usr merged from the start, no page of a manual, and no waiting for the disk."""
    dropped = " ".join(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT)
    return (
        f"mmdebstrap --quiet --mode=root --variant=apt --architectures={STABLE.architecture} --dpkgopt=force-unsafe-io {dropped} "
        "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr --include=usr-is-merged"
    )


def _source() -> str:
    return f"deb [signed-by={_ARCHIVE_KEYS}] {mirror()} {STABLE.suite} main"


def build(*words: str) -> None:
    """`podman build`, with this machine's way to Debian's archive. Layers of single steps are not kept: that halves the time."""
    with TemporaryDirectory() as sources:
        Path(sources, "debian.list").write_text(_source() + "\n")
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
