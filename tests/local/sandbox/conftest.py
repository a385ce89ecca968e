"""Fixtures of the sandbox's tests: a folder, an image, every engine once, and a runner that takes away what it started."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandbox_trials import ENGINES, Runner

from scar.local.sandbox import Engine


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Not below pytest's own folder: an engine that is not root inside has to be able to enter it."""
    with tempfile.TemporaryDirectory(prefix="scar-sandbox-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def root(scratch: Path) -> Path:
    folder = scratch / "image"
    for name in ("proc", "dev", "tmp", "etc", "usr", "data"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "tmp").chmod(0o1777)
    for name in ("hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    (folder / "etc/unwanted").touch()
    (folder / "etc/motd").write_text("from the image\n")
    return folder


@pytest.fixture(scope="session")
def engines(scratch: Path) -> Callable[[str], Engine]:
    made: dict[str, Engine] = {}

    def engine(name: str) -> Engine:
        if name not in made:
            made[name] = ENGINES[name](scratch)
            assert made[name].probe() is None
        return made[name]

    return engine


@pytest.fixture
def runner(request: pytest.FixtureRequest, engines: Callable[[str], Engine], root: Path) -> Iterator[Runner]:
    made = Runner(engines(request.param), root)
    yield made
    for sandbox in made.started:
        sandbox.kill()
        sandbox.output.close()
