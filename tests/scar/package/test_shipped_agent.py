"""What a release ships: made by its own step, packed by setup.py, and used without Debian's packages and without building."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from scar.package.agent import fakechroot, host_architecture, shipped, source_digest

ROOT = Path(__file__).parents[3]
HOST = host_architecture()
ASK = """
import json, sys
from pathlib import Path
from scar.package import agent
from scar.package.agent import fakechroot
told = []
cache = Path(sys.argv[1])
layer = agent.agent_layer(sys.argv[2], cache=cache, tell=lambda done, size, what: told.append(what))
content = b"".join(layer.layer.blob.open())
libraries = fakechroot.libraries(sys.argv[2], cache=cache)
json.dump({"digest": layer.layer.blob.descriptor.digest, "bytes": len(content), "version": layer.version, "told": told,
           "libraries": sorted(libraries), "file": agent.__file__, "cached": [str(path) for path in cache.glob("*/*")]}, sys.stdout)
"""


def python(*arguments: str, source: Path, **environment: str) -> str:
    path = os.pathsep.join([str(source), str(source / "faas-supervisor"), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=source,
        env=dict(os.environ) | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The sources with what the release's step made of them for this machine's architecture."""
    copy = tmp_path_factory.mktemp("release") / "checkout"
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "bundles")
    for name in ("scar", "faas-supervisor", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=junk)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    python("-m", "scar.package.agent.bundle", "--architecture", HOST, "--cache", str(cache), source=copy)
    return copy


@pytest.fixture(scope="module")
def installed(checkout: Path) -> Path:
    """What setup.py would install."""
    python("setup.py", "-q", "build", "--build-base", "built", source=checkout)
    return checkout / "built" / "lib"


def record(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(shipped.record_path(HOST, folder).read_bytes())
    return content


def test_an_installed_release_has_the_agent_without_apt_and_without_building(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "ask.py"
    program.write_text(ASK)
    answer = json.loads(python(str(program), str(tmp_path / "cache"), HOST, source=installed, PATH="/nowhere"))
    known = record(installed / "scar/package/agent/bundles")
    assert answer["file"].startswith(str(installed))
    assert known["digests"]["digest"] == answer["digest"]  # type: ignore[index]
    assert known["digests"]["size"] == answer["bytes"]  # type: ignore[index]
    assert answer["version"].startswith("Python 3.11")
    assert "Debian" in answer["version"]
    assert answer["libraries"] == ["2.14", "2.34"]
    assert (answer["told"], answer["cached"]) == ([], [])


def test_a_source_archive_ships_it_too(checkout: Path) -> None:
    python("setup.py", "-q", "sdist", "--formats", "tar", "--dist-dir", "archives", source=checkout)
    with tarfile.open(next((checkout / "archives").iterdir())) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    made = {f"scar/package/agent/bundles/{path.name}" for path in (checkout / "scar/package/agent/bundles").iterdir()}
    assert len(made) == 4
    assert made <= names


def test_a_bundle_of_other_sources_is_not_used(checkout: Path) -> None:
    folder = checkout / "scar/package/agent/bundles"
    assert shipped.agent(HOST, source_digest(), folder=folder) is not None
    assert shipped.agent(HOST, "0" * 64, folder=folder) is None
    assert shipped.fakechroot(HOST, fakechroot.package_digest(HOST), folder=folder) is not None
    assert shipped.fakechroot(HOST, "0" * 64, folder=folder) is None


def test_a_damaged_or_half_bundle_is_not_used(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    shutil.copytree(checkout / "scar/package/agent/bundles", folder)
    layer, library = shipped.agent_path(HOST, folder), shipped.fakechroot_path(HOST, "2.34", folder)
    layer.write_bytes(layer.read_bytes()[:-1])
    library.unlink()
    assert shipped.agent(HOST, source_digest(), folder=folder) is None
    assert shipped.fakechroot(HOST, fakechroot.package_digest(HOST), folder=folder) is None
    shipped.record_path(HOST, folder).write_text("{")
    assert shipped.agent(HOST, source_digest(), folder=folder) is None


def test_an_architecture_that_was_not_bundled_is_not_found(checkout: Path) -> None:
    other = "arm64" if HOST == "amd64" else "amd64"
    assert shipped.agent(other, source_digest(), folder=checkout / "scar/package/agent/bundles") is None
