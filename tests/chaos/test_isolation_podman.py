"""Podman is gone, slow, or has no room; a container is taken away in the middle: the caller is told, the next run works, nothing stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.small import deploy, small, small_image
from tests.e2e.conftest import Done, Local, until

# Podman with a store of its own, in the way that this file tells: it fails with its words, or takes its time.
WRAPPER = """#!/bin/sh
[ -e "{folder}/says" ] && {{ cat "{folder}/says" >&2; exit 125; }}
[ -e "{folder}/slow" ] && sleep 3
exec {podman} --root "{folder}/store/root" --runroot "{short}" "$@"
"""
SCRIPT = "#!/bin/sh\necho ran\n"


@dataclass
class Broken:
    """A local AWS whose podman can be broken."""

    local: Local
    folder: Path

    def podman(self, *words: str) -> str:
        command = [str(self.folder / "bin" / "podman"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def run(self) -> Done:
        return self.local.scar("run", "-n", "quick")

    def fails(self, reason: str) -> None:
        """With podman's own words in the log to which the message leads."""
        done = self.run()
        assert done.code != 0
        assert "exit status 125" in done.err and "scar --local log -n quick" in done.err, done.err
        assert reason in "\n".join(self.local.log("quick"))

    def works(self) -> None:
        """And leaves nothing behind but a sandbox that is kept warm."""
        done = self.run()
        assert done.code == 0, done.err
        until("one container at most", lambda: len(self.podman("ps", "--all", "--quiet").split()) <= 1)


@pytest.fixture
def broken(own_local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    podman = shutil.which("podman")
    if os.geteuid() != 0 or podman is None:
        pytest.skip("podman is not set up for this user; the gate installs it and runs as root")
    folder = tmp_path / "podman"
    (folder / "bin").mkdir(parents=True)
    (folder / "store").mkdir()
    wrapper = folder / "bin" / "podman"
    short = Path(tempfile.mkdtemp(prefix="podman-"))  # podman takes no runroot of more than 50 characters
    wrapper.write_text(WRAPPER.format(folder=folder, podman=podman, short=short))
    wrapper.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder / "store"], check=True)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    own_local.engine = "podman"
    try:
        small_image(own_local.folder)
        deploy(own_local, {"lambda": small("quick", SCRIPT, own_local.folder, inputs=False)})
        made = Broken(own_local, folder)
        made.works()
        yield made
    finally:
        own_local.scar("local", "down")
        subprocess.run([wrapper, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False, timeout=60)
        subprocess.run(["umount", "--recursive", "--lazy", folder / "store"], check=True)
        shutil.rmtree(short)


def _let_go(broken: Broken) -> None:
    """Of the warm sandbox, from outside: the next run needs a new container."""
    broken.podman("rm", "--all", "--force", "--time", "0")
    until("no container", lambda: not broken.podman("ps", "--all", "--quiet").split())


def test_whatever_is_wrong_with_podman_is_told_and_over_when_it_is_over(broken: Broken) -> None:
    """LO15"""
    _let_go(broken)  # a container that somebody removed
    broken.works()

    _let_go(broken)
    (broken.folder / "says").write_text("Error: unable to connect to Podman: is its service running?\n")
    broken.fails("unable to connect to Podman")
    (broken.folder / "says").unlink()
    broken.works()

    _let_go(broken)
    (broken.folder / "slow").touch()
    broken.works()
    (broken.folder / "slow").unlink()

    _let_go(broken)
    filler = broken.folder / "store" / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    broken.fails("no space left on device")
    filler.unlink()
    broken.works()

    left = broken.podman("ps", "--all", "--format", "{{.Names}} {{.State}}").splitlines()
    assert len(left) == 1 and " Up " in left[0], left
