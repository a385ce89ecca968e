"""The zip runtime as its user has it: an image without ECR, unpacked and run where there is neither root nor ptrace nor a namespace."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Local, until
from tests.e2e.test_images import config_of, docker_archive

PROGRAMS = ("sh", "tr", "basename", "cat", "id", "ls", "sleep")
SHOUT = """#!/bin/sh
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"
echo "$GREETING from $(pwd) as $(id -u)"
ls /
"""


def glibc_layer() -> bytes:
    """A tar with a few dynamically linked programs of this machine, and the libraries and loader they name."""
    files: dict[str, Path] = {}
    for name in PROGRAMS:
        program = Path(shutil.which(name) or name).resolve()
        files[f"bin/{name}"] = program
        said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
        for path in re.findall(r"(/\S+) \(0x", said):
            files[path.lstrip("/")] = Path(path).resolve()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for folder in ("bin", "data", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, source in files.items():
            entry, content = tarfile.TarInfo(name), source.read_bytes()
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def glibc_archive(path: Path, **process: Any) -> Path:
    layer = glibc_layer()
    named = [{"Config": "config.json", "RepoTags": ["shout:1"], "Layers": ["layer.tar"]}]
    files = {
        "manifest.json": json.dumps(named).encode(),
        "config.json": config_of(layer, **process),
        "layer.tar": layer,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def zipped(shared_local: Local) -> str:
    """The bucket of a function made by `scar --local init` with `runtime: python3.13`."""
    glibc_archive(shared_local.folder / "glibc.tar")
    return shared_local.function("zipped", SHOUT, container={"image_file": "glibc.tar"}, runtime="python3.13")


def test_an_image_runs_as_a_zip_function(local: Local, zipped: str) -> None:
    local.client("s3").put_object(Bucket=zipped, Key="in/word.txt", Body=b"quiet")
    until("the output", lambda: local.keys(zipped, "out/"), within_s=60)
    assert local.client("s3").get_object(Bucket=zipped, Key="out/word.txt")["Body"].read() == b"QUIET"
    assert any("hello from /data as " in line for line in local.log("zipped"))
    configuration = local.client("lambda").get_function_configuration(FunctionName="zipped")
    assert (configuration["PackageType"], configuration["Runtime"]) == ("Zip", "python3.13")


def test_it_stays_warm_forgets_nothing_it_should_and_leaks_nothing_between_runs(local: Local, zipped: str) -> None:
    for number in range(3):
        local.client("s3").put_object(Bucket=zipped, Key=f"in/more-{number}.txt", Body=f"more {number}".encode())
    until("three outputs", lambda: len([key for key in local.keys(zipped, "out/") if "more" in key]) == 3, within_s=60)
    assert local.client("s3").get_object(Bucket=zipped, Key="out/more-2.txt")["Body"].read() == b"MORE 2"


def test_a_second_init_has_nothing_to_do_and_a_changed_script_is_sent(local: Local, zipped: str) -> None:
    before = local.client("lambda").get_function_configuration(FunctionName="zipped")["CodeSha256"]
    local.must("init", "-f", "zipped.yaml")
    assert local.client("lambda").get_function_configuration(FunctionName="zipped")["CodeSha256"] == before
    (local.folder / "zipped.script").write_text("#!/bin/sh\necho changed; exit 3\n")
    local.must("init", "-f", "zipped.yaml")
    done = local.scar("run", "-n", "zipped")
    assert (done.code, "changed" in done.out + done.err) == (3, True)


def test_the_users_program_sees_its_image_and_may_do_what_lambda_allows(local: Local) -> None:
    glibc_archive(local.folder / "glibc.tar")
    script = "#!/bin/sh\nls /; id -u; (echo x >/var/task/x) 2>/dev/null || echo closed; echo y >/tmp/y && cat /tmp/y\n"
    local.function("zip-sees", script, container={"image_file": "glibc.tar"}, runtime="python3.13")
    said = local.must("run", "-n", "zip-sees").out.split()
    assert {"bin", "data"} <= set(said)
    assert not {"home", "root", "boot"} & set(said)
    assert {"993", "closed", "y"} <= set(said)


def test_an_image_of_static_programs_is_refused_at_init_by_name(local: Local) -> None:
    docker_archive(local.folder / "static.tar")
    body = {"name": "static", "runtime": "python3.13", "container": {"image_file": "static.tar"}}
    (local.folder / "static.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    done = local.scar("init", "-f", "static.yaml")
    assert done.code != 0
    assert "busybox" in done.err
    assert "runtime: image" in done.err


def test_code_outlives_the_local_aws(local: Local, zipped: str) -> None:
    local.must("local", "down")
    (local.folder / "zipped.script").write_text("#!/bin/sh\necho after all\n")
    assert "changed" in local.scar("run", "-n", "zipped").err
    local.must("init", "-f", "zipped.yaml")
    assert local.must("run", "-n", "zipped").out == "after all\n"
