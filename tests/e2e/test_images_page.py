"""How-to "Use any image": its definition, its script and every command of it, in order, against a registry on loopback."""

from __future__ import annotations

import gzip
import io
import json
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import assemble
from scar.package.layer import GzipHashing, file_layer
from scar.package.registry import Registry
from scar.package.registry.push import push
from tests.e2e.conftest import ROOT, Local, until
from tests.e2e.test_docs import blocks
from tests.support.registries import RunningRegistry, start_registry

PAGE = ROOT / "docs" / "how-to" / "images.md"
NAMED = "registry.example"
PROGRAMS = ("sh", "tr", "basename")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    """With the image of the page: this machine's own shell and tools, for one architecture under both names."""
    (tmp_path / "registry").mkdir()
    running = start_registry(tmp_path / "registry")
    push(tools(tmp_path), Registry(running.host), "team/tools", tag="1.2")
    yield running
    running.stop()


def tools(folder: Path) -> oci.Image:
    """Dynamic programs, their C library and its loader: what a small image of Debian is, in a few megabytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        done = set[str]()
        for program in PROGRAMS:
            found = shutil.which(program)
            assert found is not None
            told = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
            for path, name in [
                (found, f"bin/{program}"),
                *((word, word[1:]) for word in told.split() if word.startswith("/")),
            ]:
                if name not in done:
                    done.add(name)
                    entry = tarfile.TarInfo(name)
                    content = Path(path).resolve().read_bytes()
                    entry.size, entry.mode = len(content), 0o755
                    tar.addfile(entry, io.BytesIO(content))
    path = folder / "layer.tar.gz"
    with path.open("wb") as out:
        packing = GzipHashing(out)
        packing.write(raw.getvalue())
        layer = file_layer(path, packing.finish())
    assert gzip.decompress(path.read_bytes()) == raw.getvalue()
    config: dict[str, Any] = {
        "architecture": host_architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    return assemble(config, (layer,))


def write_definition(local: Local, registry: RunningRegistry, file: str, *more: tuple[str, str]) -> None:
    definition = blocks(PAGE, "yaml")[0].replace(NAMED, registry.host)
    for line, with_it in more:
        assert line in definition
        definition = definition.replace(line, with_it)
    (local.folder / file).write_text(definition)
    (local.folder / "shout.sh").write_text(next(block for block in blocks(PAGE, "sh") if block.startswith("#!")))


def shouts(local: Local, bucket: str = "shout-bucket") -> None:
    local.client("s3").put_object(Bucket=bucket, Key="in/word.txt", Body=b"quiet")
    until("the output", lambda: local.keys(bucket, "out/"))
    assert local.client("s3").get_object(Bucket=bucket, Key="out/word.txt")["Body"].read() == b"QUIET"


@pytest.fixture
def page_local(own_local: Local, tmp_path: Path) -> Local:
    """With a cache of its own, for the page prunes it."""
    (own_local.folder / "cache").mkdir()
    own_local.home = own_local.folder
    return own_local


def test_every_command_of_the_page_does_what_it_says(
    page_local: Local, registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCAR_CACHE", str(page_local.folder / "cache"))
    write_definition(page_local, registry, "shout.yaml")
    shown = [line for block in blocks(PAGE, "sh") for line in block.splitlines() if line.startswith("scar ")]
    assert len(shown) == 12
    said = {}
    for line in shown:
        words = [word for word in shlex.split(line.replace(NAMED, registry.host))[1:] if word != "--local"]
        said[line] = page_local.must(*words)
    looked = said["scar image inspect -f shout.yaml --scan"].out
    assert "Lambda  yes" in looked
    assert "zip     yes" in looked
    other = said[f"scar image inspect {NAMED}/team/tools:1.2 --architecture arm64 -o json"].json["images"][0]
    assert other["lambda"]["accepted"] is (host_architecture() == "arm64")
    assert {"shout.tar", "saved.tar", "layout"} <= {path.name for path in page_local.folder.iterdir()}
    assert said["scar --local image push -f shout.yaml"].out.count("@sha256:") == 1
    assert "freed" in said["scar image prune --all"].err


def test_the_function_of_the_page_runs_and_its_pushed_image_runs_as_it_is(
    local: Local, registry: RunningRegistry
) -> None:
    write_definition(local, registry, "shout.yaml")
    reference = local.must("image", "push", "-f", "shout.yaml").out.strip()
    local.must("init", "-f", "shout.yaml")
    shouts(local)
    local.must("rm", "-f", "shout.yaml")
    reference = local.must("image", "push", "-f", "shout.yaml").out.strip()
    as_it_is = f"image: {reference}\n        create_image: false"
    write_definition(local, registry, "prepared.yaml", (f"image: {registry.host}/team/tools:1.2", as_it_is))
    local.client("s3").delete_object(Bucket="shout-bucket", Key="out/word.txt")
    local.must("init", "-f", "prepared.yaml")
    shouts(local)
    local.must("rm", "-f", "prepared.yaml")


def test_the_function_of_the_page_runs_without_ecr(local: Local, registry: RunningRegistry) -> None:
    zipped = ("init_script: shout.sh", "init_script: shout.sh\n      runtime: python3.13")
    names = (
        ("name: shout", "name: zip-shout"),
        ("shout-bucket/in", "zip-bucket/in"),
        ("shout-bucket/out", "zip-bucket/out"),
    )
    write_definition(local, registry, "zip.yaml", zipped, *names)
    local.must("init", "-f", "zip.yaml")
    assert json.loads(local.must("plan", "-f", "zip.yaml", "-o", "json").out)["steps"] == []
    shouts(local, "zip-bucket")
    local.must("rm", "-f", "zip.yaml")
