"""One local AWS with a function for every base image, deployed once by `scar init`; and the runtimes that this machine has."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scar.local.rootfs import RootfsStore
from scar.local.sandbox.namespaces import Namespaces
from tests.conformance import cases, packages
from tests.conformance.runtimes import AS_ROOT, BUCKET, Lambda, Podman, Runtime, Unpacked, World, Zip
from tests.e2e.conftest import Local
from tests.support.registries import start_registry


@pytest.fixture(scope="session")
def parts() -> Iterator[cases.Parts]:
    """The layers of the base images. Without Debian's packages there are none."""
    if platform.machine() != "x86_64":
        pytest.skip("the base images are for x86_64")
    try:
        packages.folder()
    except packages.Unavailable as error:
        pytest.skip(f"{error}; the gate fetches them")
    with tempfile.TemporaryDirectory(prefix="scar-conformance-") as folder:
        yield cases.Parts(Path(folder))


@pytest.fixture(scope="session")
def world(parts: cases.Parts) -> Iterator[World]:
    """Every image written to a file, every function made. Not below pytest's folder: a sandbox's user has to enter it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scar-conformance-")))
        folder.chmod(0o755)
        common = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "scar")
        cache = Path(os.environ.get("SCAR_CACHE") or common)  # the command's own: one agent layer for both
        work = folder / "work"
        work.mkdir()
        local = Local(work, folder / "state")
        made = World(local, folder, cache)
        stack.callback(local.scar, "local", "down")
        made.use("namespaces")
        for case in cases.HERE:
            made.files[case.name] = case.write(case.image(parts), work / case.name)
            if case.script is not None:
                (work / f"{case.name}.script").write_text(case.script)
        made.deploy(
            "images.yaml", [case.definition(case.function, made.files[case.name], BUCKET) for case in cases.HERE]
        )
        made.s3.put_object(Bucket=BUCKET, Key=cases.KEY, Body=cases.WORDS)
        yield made


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry server on loopback."""
    running = start_registry(tmp_path_factory.mktemp("registry"))
    yield running.host
    running.process.terminate()
    running.process.wait(10)


@pytest.fixture(scope="session")
def pulled() -> Iterator[dict[str, str]]:
    """Function → the name under which podman has its image; all of them go away again."""
    names: dict[str, str] = {}
    yield names
    if names:
        subprocess.run(["podman", "rmi", "-f", *names.values()], check=False, capture_output=True)


Make = Callable[[World, pytest.FixtureRequest], Runtime]


def _lambda(engine: str) -> Make:
    def make(world: World, request: pytest.FixtureRequest) -> Runtime:
        program = {"proot": "proot", "podman": "podman"}.get(engine)
        if program and (shutil.which(program) is None or (program == "podman" and not AS_ROOT)):
            pytest.skip(f"{program} is not set up for this user; the gate installs it and runs as root")
        world.use(engine)
        return Lambda(world, engine)

    return make


def _podman(*options: str, started_as: str = "0:0") -> Make:
    def make(world: World, request: pytest.FixtureRequest) -> Runtime:
        if shutil.which("podman") is None or not AS_ROOT:
            pytest.skip("podman is not set up for this user; the gate installs it and runs as root")
        registry, pulled = request.getfixturevalue("registry"), request.getfixturevalue("pulled")
        return Podman(world, registry, options, started_as, pulled)

    return make


def _unpacked(*, read_only: bool) -> Make:
    def make(world: World, request: pytest.FixtureRequest) -> Runtime:
        scratch = world.folder / "sandboxes"
        scratch.mkdir(exist_ok=True)
        engine = Namespaces(scratch, variants=("user",) if AS_ROOT else None)
        return Unpacked(world, engine, RootfsStore(world.local.state / "rootfs"), read_only)

    return make


def _zip(world: World, request: pytest.FixtureRequest) -> Runtime:
    world.use("namespaces")
    world.deploy(
        "zips.yaml",
        [
            case.definition(case.zip_function, world.files[case.name], BUCKET, runtime="python3.13")
            for case in cases.ZIPS_HERE
        ],
    )
    return Zip(world, "namespaces")


RUNTIMES: dict[str, Make] = {
    "lambda": _lambda("namespaces"),
    "zip": _zip,
    "sandbox": _unpacked(read_only=False),
    "podman": _podman(),
    "podman_read_only": _podman("--read-only", "--tmpfs=/tmp"),
    "podman_as_somebody": _podman("--user=12345:12345", started_as="12345:12345"),
    "lambda_on_proot": _lambda("proot"),
}


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest, world: World) -> Runtime:
    return RUNTIMES[request.param](world, request)
