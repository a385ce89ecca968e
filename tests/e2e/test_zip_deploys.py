"""Where the parts of a zip function lie, and what is left of them: registries, buckets, payloads, from `scar init` to `scar rm`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.package.registry import Registry
from scar.package.registry.push import push
from tests.e2e.conftest import Local
from tests.support.registries import RunningRegistry, start_registry
from tests.support.small_images import image_of, oci_layout, real_programs

PROGRAMS = ("sh", "tr", "cat", "ls")


@pytest.fixture(scope="module")
def folder(shared_local: Local) -> Path:
    """Where definitions are, with an image beside them."""
    oci_layout(image_of(real_programs(*PROGRAMS)), shared_local.folder / "debian-like")
    return shared_local.folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    running = start_registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.process.kill()
    running.process.wait()


def definition(folder: Path, name: str, script: str, **more: Any) -> str:
    """Write a definition of one zip function; answers the file's name."""
    (folder / f"{name}.script").write_text(script)
    body = {
        "name": name,
        "runtime": "python3.12",
        "init_script": f"{name}.script",
        "container": {"image_file": "debian-like"},
        **more,
    }
    (folder / f"{name}.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    return f"{name}.yaml"


def buckets(local: Local) -> set[str]:
    return {item["Name"] for item in local.client("s3").list_buckets()["Buckets"]}


def code(local: Local, name: str, bucket: str) -> list[str]:
    return local.keys(bucket, f"scar-code/123456789012/{name}/")


def state_bucket(local: Local) -> str:
    (found,) = [name for name in buckets(local) if name.startswith("scar-state-")]
    return found


def test_an_image_of_a_registry_is_fetched_from_there_when_the_function_starts(
    local: Local, folder: Path, registry: RunningRegistry
) -> None:
    push(image_of(real_programs(*PROGRAMS)), Registry(registry.host), "tools/debian", tag="1")
    image = {"image": f"{registry.host}/tools/debian:1"}
    file = definition(folder, "zip-from-registry", "#!/bin/sh\necho loud | tr a-z A-Z; exit 7\n", container=image)
    planned = " ".join(local.must("plan", "-f", file).out.split())
    assert f"image from http://{registry.host}/v2/tools/debian" in planned
    assert "+ code" not in planned
    local.must("init", "-f", file)
    assert code(local, "zip-from-registry", state_bucket(local)) == []
    done = local.scar("run", "-n", "zip-from-registry")
    assert (done.code, "LOUD" in done.out + done.err) == (7, True)
    local.must("rm", "-n", "zip-from-registry")


def test_layers_and_payload_are_packed_and_go_with_the_function(local: Local, folder: Path) -> None:
    (folder / "payload").mkdir()
    (folder / "payload" / "words.txt").write_text("from the payload")
    script = '#!/bin/sh\ncat "$SCAR_PAYLOAD_DIR/words.txt"\n'
    file = definition(folder, "packed", script, extra_payload="payload")
    assert "+ code packed" in local.must("plan", "-f", file).out
    local.must("init", "-f", file)
    assert len(code(local, "packed", state_bucket(local))) == 2
    assert "from the payload" in local.must("run", "-n", "packed").out

    (folder / "payload" / "words.txt").write_text("from another payload")
    told = local.must("init", "-f", file).out
    assert "- old code" in told
    assert len(code(local, "packed", state_bucket(local))) == 2
    assert "from another payload" in local.must("run", "-n", "packed").out
    assert "unchanged" in local.must("plan", "-f", file).out
    local.must("rm", "-f", file)


def test_a_deployment_bucket_takes_everything_and_stays(local: Local, folder: Path) -> None:
    file = definition(folder, "bucketed", "#!/bin/sh\necho here\n", deployment={"bucket": "my-code"})
    local.must("init", "-f", file)
    assert len(code(local, "bucketed", "my-code")) == 2
    assert "here" in local.must("run", "-n", "bucketed").out
    local.must("rm", "-n", "bucketed")
    assert local.keys("my-code") == []
    assert "my-code" in buckets(local)


def test_a_function_never_turns_from_zip_to_image_and_is_told_what_to_do(local: Local, folder: Path) -> None:
    file = definition(folder, "turning", "#!/bin/sh\necho zip\n")
    local.must("init", "-f", file)
    (folder / file).write_text((folder / file).read_text().replace("python3.12", "image"))
    refused = local.scar("init", "-f", file)
    assert refused.code == 5
    assert "scar rm -n turning" in refused.err
    assert "zip" in local.must("run", "-n", "turning").out
    local.must("rm", "-n", "turning")
    local.must("init", "-f", file)
    assert "zip" in local.must("run", "-n", "turning").out
    local.must("rm", "-n", "turning")
