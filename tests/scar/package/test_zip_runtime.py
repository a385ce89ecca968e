"""A function as one zip: the same bytes everywhere, started as Lambda starts it, and refused where it could not run."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import stat
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faassupervisor import contract
from scar.aws.clients import Aws
from scar.errors import ScarError, UsageError
from scar.fdl.model import Container, Deployment, Function, Lambda
from scar.package import oci
from scar.package.agent import AgentLayer
from scar.package.layer import Entry, File
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials, anonymous
from scar.package.registry.push import push
from scar.package.zips.check import expect_room
from scar.package.zips.runtime import FunctionZip, function_zip, is_public
from tests.supervisor.runtime_api import RuntimeApiServer
from tests.support.registries import PASSWORD, USER, RunningRegistry
from tests.support.small_images import LOADER, elf_file, glibc_files, image_of, oci_layout, real_programs

PREFIX = "scar-code/123456789012/f/"
DYNAMIC = elf_file(LOADER, pie=True)
SHOUT = b'#!/bin/sh\ntr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/out.txt"\n'


@pytest.fixture(scope="session")
def debian_like() -> oci.Image:
    return image_of(real_programs("sh", "tr", "cat", "env"))


@pytest.fixture
def made(tmp_path: Path, cache: Path, agent: AgentLayer) -> Callable[..., FunctionZip]:
    """`made(image, script, …)`: the zip of a function; further keys are those of `lambda` and of `function_zip`."""

    def make(
        image: oci.Image, script: bytes | None = b"#!/bin/sh\n", *, named: str | None = None, **more: Any
    ) -> FunctionZip:
        folder = tmp_path / hashlib.sha256(image.manifest).hexdigest()[:8]
        if named is None and not folder.exists():
            oci_layout(image, folder)
        asked = {
            key: more.pop(key) for key in ("cache", "state_bucket", "prefix", "keychain", "loopback") if key in more
        }
        where: dict[str, Any] = {"image": named} if named else {"image_file": folder}
        container = Container(**where, environment=more.pop("environment", {}))
        if script is not None:
            (tmp_path / "script").write_bytes(script)
            more["init_script"] = tmp_path / "script"
        fn = Function(lambda_=Lambda(name="f", runtime="python3.13", container=container, **more))
        return function_zip(fn, **{"cache": cache, "state_bucket": "state", "prefix": PREFIX, **asked})

    return make


Made = Callable[..., FunctionZip]


def unzipped(code: FunctionZip) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(code.content())) as archive:
        assert archive.testzip() is None
        return {entry.filename: entry for entry in archive.infolist()}


def unpacked(code: FunctionZip, folder: Path) -> Path:
    """As Lambda unpacks it: with the modes that the zip holds."""
    with zipfile.ZipFile(io.BytesIO(code.content())) as archive:
        for entry in archive.infolist():
            (folder / archive.extract(entry, folder)).chmod(entry.external_attr >> 16 & 0o777)
    return folder


def test_a_fresh_cache_and_one_that_was_damaged_give_the_same_bytes(
    made: Made, debian_like: oci.Image, cache: Path, tmp_path: Path
) -> None:
    first = made(debian_like)
    fresh = tmp_path / "fresh"
    for kept in ("agent", "debian", "zips"):  # the first two take seconds, and have their own tests
        shutil.copytree(cache / kept, fresh / kept)
    (shared,) = fresh.glob("zips/*/agent.zip")
    content = bytearray(shared.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shared.write_bytes(content)
    again = made(debian_like, cache=fresh)
    assert again.agent.path == shared
    assert again.content() == first.content()
    assert again.sha256 == first.sha256 == base64.b64encode(hashlib.sha256(first.content()).digest()).decode()
    assert first.size == len(first.content())


def test_another_script_or_variable_gives_other_bytes(made: Made, debian_like: oci.Image) -> None:
    one = made(debian_like).sha256
    assert one not in {made(debian_like, b"#!/bin/sh\n:\n").sha256, made(debian_like, environment={"A": "1"}).sha256}


def test_nothing_in_the_zip_differs_between_machines(made: Made, debian_like: oci.Image) -> None:
    entries = unzipped(made(debian_like))
    assert {entry.date_time for entry in entries.values()} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in entries.values()} == {3}
    assert {stat.filemode(entry.external_attr >> 16) for entry in entries.values()} == {"-rw-r--r--", "-rwxr-xr-x"}
    shared = [name for name in entries if not name.startswith("function/")]
    assert shared == sorted(shared)


def test_the_zip_holds_the_agent_the_libraries_and_the_function(made: Made, debian_like: oci.Image) -> None:
    code = made(debian_like)
    entries = unzipped(code)
    programs = {name for name, entry in entries.items() if entry.external_attr >> 16 & 0o111}
    assert {"scar-bootstrap", "bin/python3", "function/script"} <= programs
    assert {"fakechroot/2.14/libfakechroot.so", "fakechroot/2.34/libfakechroot.so"} <= set(entries)
    assert any(name.startswith("app/__main__.") for name in entries)
    assert entries["app/botocore/cacert.pem"].CRC == entries["etc/ca-certificates.pem"].CRC
    assert code.unzipped_bytes == sum(entry.file_size for entry in entries.values()) < 100 << 20
    assert code.size < 50 << 20


def test_the_spec_tells_the_agent_what_the_image_is_and_where(made: Made, debian_like: oci.Image) -> None:
    code = made(debian_like)
    with zipfile.ZipFile(io.BytesIO(code.content())) as archive:
        spec = contract.Spec.from_json(archive.read("function/spec.json"))
    root = spec.root
    assert root is not None
    assert root.digest == debian_like.digest
    assert [(layer.digest, layer.size) for layer in root.layers] == [
        (layer.blob.descriptor.digest, layer.blob.descriptor.size) for layer in debian_like.layers
    ]
    assert (root.source, root.loader) == (f"s3://state/{PREFIX.rstrip('/')}", LOADER)
    assert spec.image.command == ("/bin/sh",)
    assert [(item.name, item.size) for item in code.objects] == [
        (layer.digest.removeprefix("sha256:"), layer.size) for layer in root.layers
    ]
    for item in code.objects:
        assert hashlib.sha256(b"".join(item.open())).hexdigest() == item.name


def test_lambdas_start_runs_the_script_in_the_image(
    made: Made, debian_like: oci.Image, aws: Aws, bucket: str, moto_url: str, tmp_path: Path
) -> None:
    """`$AWS_LAMBDA_EXEC_WRAPPER <python> <bootstrap>` in /var/task, as Lambda's managed runtime has it."""
    code = made(debian_like, SHOUT, state_bucket=bucket, output=())
    for item in code.objects:
        aws.s3.put_object(Bucket=bucket, Key=PREFIX + item.name, Body=b"".join(item.open()))
    task = unpacked(code, tmp_path / "task")
    aws.s3.put_object(Bucket=bucket, Key="in/a.txt", Body=b"quiet")
    with RuntimeApiServer() as lambda_api:
        environment = {
            "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin",
            "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/task:/opt/lib",
            "AWS_LAMBDA_RUNTIME_API": lambda_api.address,
            "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/scar-bootstrap",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_ENDPOINT_URL": moto_url,
        }
        view = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/var", "--ro-bind", str(task), "/var/task"]  # fmt: skip
        command = ["/var/task/scar-bootstrap", "/var/lang/bin/python3.13", "/var/runtime/bootstrap.py"]
        with subprocess.Popen(["bwrap", "--die-with-parent", *view, *command], env=environment, cwd="/") as process:
            try:
                printing = {"script": base64.b64encode(b"#!/bin/sh\necho shouting | tr a-z A-Z; exit 0\n").decode()}
                done = lambda_api.post(printing).answered.get(timeout=30)
                failed = lambda_api.post({"script": base64.b64encode(b"exit 7\n").decode()}).answered.get(timeout=30)
            finally:
                process.terminate()
    assert done.error_type is None, done.body
    assert done.document["runs"][0]["output"] == "SHOUTING\n"
    assert failed.document["exit_code"] == 7


def test_a_public_registry_is_asked_when_the_function_starts(
    made: Made, debian_like: oci.Image, open_registry: RunningRegistry
) -> None:
    push(debian_like, Registry(open_registry.host), "tools/debian", tag="1")
    name = f"{open_registry.host}/tools/debian:1"
    code = made(debian_like, named=name, loopback=True, keychain=anonymous)
    assert code.spec.root is not None
    assert code.spec.root.source == f"http://{open_registry.host}/v2/tools/debian"
    assert (code.bucket, code.objects, code.runs) == (
        None,
        (),
        f"image from http://{open_registry.host}/v2/tools/debian",
    )
    with urllib.request.urlopen(f"{code.spec.root.source}/blobs/{code.spec.root.layers[0].digest}") as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == code.spec.root.layers[0].digest.removeprefix("sha256:")


def test_a_registry_of_this_machine_is_none_for_lambda(
    made: Made, debian_like: oci.Image, open_registry: RunningRegistry
) -> None:
    push(debian_like, Registry(open_registry.host), "tools/debian", tag="2")
    code = made(debian_like, named=f"{open_registry.host}/tools/debian:2", keychain=anonymous)
    assert code.bucket == "state"
    assert len(code.objects) == 1


@pytest.mark.parametrize(
    ("host", "public"),
    [("8.8.8.8", True), ("2001:4860:4860::8888", True), ("10.1.2.3", False), ("192.168.0.9", False), ("fd00::1", False),
     ("169.254.1.1", False), ("fe80::1%lo", False), ("registry.invalid", False), ("." * 300, False)],
)  # fmt: skip
def test_a_registry_of_a_private_network_is_none_for_lambda(host: str, *, public: bool) -> None:
    assert is_public(host) is public


def test_a_deployment_bucket_takes_layers_and_zip(
    made: Made, debian_like: oci.Image, open_registry: RunningRegistry
) -> None:
    push(debian_like, Registry(open_registry.host), "tools/debian", tag="3")
    image = f"{open_registry.host}/tools/debian:3"
    code = made(debian_like, named=image, loopback=True, keychain=anonymous, deployment=Deployment(bucket="mine"))
    assert code.bucket == "mine"
    assert code.spec.root is not None
    assert code.spec.root.source == f"s3://mine/{PREFIX.rstrip('/')}"
    layer, itself = code.objects
    assert layer.name == debian_like.layers[0].blob.descriptor.digest.removeprefix("sha256:")
    assert itself.name == code.zip_name == hashlib.sha256(code.content()).hexdigest()
    assert b"".join(itself.open()) == code.content()


def test_a_zip_above_the_limit_for_requests_goes_through_the_state_bucket(made: Made, debian_like: oci.Image) -> None:
    code = made(debian_like, deployment=Deployment(max_payload_size=1_000_000))
    assert code.zip_name is not None
    assert code.bucket == "state"


def test_code_above_the_limit_unpacked_is_refused(made: Made, debian_like: oci.Image) -> None:
    with pytest.raises(UsageError, match=r"bytes unpacked, `deployment\.max_s3_payload_size` allows 1000000"):
        made(debian_like, deployment=Deployment(max_s3_payload_size=1_000_000))


def test_a_payload_is_one_more_layer_that_a_variable_leads_to(
    made: Made, debian_like: oci.Image, tmp_path: Path
) -> None:
    payload = tmp_path / "payload"
    (payload / "deep").mkdir(parents=True)
    (payload / "deep" / "data").write_text("42")
    (payload / "tool").write_text("#!/bin/sh\n")
    (payload / "tool").chmod(0o700)
    (payload / "link").symlink_to("deep/data")
    code = made(debian_like, extra_payload=payload)
    root = code.spec.root
    assert root is not None
    assert code.spec.environment["SCAR_PAYLOAD_DIR"] == "/opt/scar/payload"
    assert len(root.layers) == len(debian_like.layers) + 1
    assert root.layers[-1].digest == "sha256:" + code.objects[-1].name
    os.utime(payload / "tool", (0, 0))
    assert made(debian_like, extra_payload=payload).sha256 == code.sha256


def test_a_payload_may_be_one_file_and_no_pipe(made: Made, debian_like: oci.Image, tmp_path: Path) -> None:
    one = tmp_path / "model.bin"
    one.write_bytes(b"weights")
    assert len(made(debian_like, extra_payload=one).objects) == 2
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(UsageError, match="pipe is a device, a pipe or a socket"):
        made(debian_like, extra_payload=tmp_path / "folder")


def program(path: str, content: bytes = DYNAMIC) -> Entry:
    return File(path, content, 0o755)


SHELL = program("bin/sh")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (
            [SHELL, *(program(f"bin/s{number:02}", elf_file(kind=2)) for number in range(12))],
            r"/bin/s00 \(static\), .* and 2 more\n",
        ),
        ([program("bin/busybox", elf_file("/lib/ld-musl-x86_64.so.1"))], r"/bin/busybox \(musl\)"),
        ([], "needs an image with the GNU C library"),
    ],
)
def test_an_image_that_fakechroot_cannot_hold_is_refused_with_the_way_out(
    made: Made, entries: list[Entry], said: str
) -> None:
    files = [*(glibc_files() if SHELL in entries else []), *entries]
    with pytest.raises(UsageError, match=said) as refused:
        made(image_of(files))
    assert "Write `runtime: image`" in (refused.value.fix or "")


@pytest.mark.parametrize(
    ("version", "works"),
    [
        (b"2.13", False),
        (b"2.14", True),
        (b"2.5", False),
        (b"2.33", False),
        (b"2.32", True),
        (b"2.34", True),
        (b"2.41", True),
    ],
)
def test_the_library_must_be_new_enough(made: Made, version: bytes, *, works: bool) -> None:
    image = image_of([*glibc_files(version), SHELL])
    if works:
        assert made(image).spec.root is not None
        return
    with pytest.raises(UsageError, match=rf"version 2\.14 .* has {version.decode()}"):
        made(image)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (b"#!/usr/bin/python3\n", "/usr/bin/python3"),
        (b"#!/usr/bin/env python3\n", "python3"),
        (b"#!/usr/bin/env -S python3 -u\n", "python3"),
        (b"\x7fELF", None),
        (b"#!/bin/sh -e\n", None),
        (b"#!/usr/bin/env sh\n", None),
        (b"#! /usr/bin/env -S sh -e\n", None),
        (b"echo without a first line\n", None),
    ],
)
def test_the_scripts_interpreter_must_be_in_the_image(made: Made, script: bytes, said: str | None) -> None:
    image = image_of([*glibc_files(), SHELL])
    if said is None:
        assert made(image, script).spec.has_script
        return
    with pytest.raises(UsageError, match=f"the script asks for {said}, which is not in"):
        made(image, script)


def test_a_script_that_is_a_static_program_is_refused(made: Made) -> None:
    with pytest.raises(UsageError, match="the script is a static program"):
        made(image_of([*glibc_files(), SHELL]), elf_file(kind=2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"Entrypoint": ["tool", "--fast"]}, "its own command starts with tool"),
        ({"Cmd": ["./tool"], "WorkingDir": "/bin"}, r"its own command starts with \./tool"),
        ({"Cmd": ["sh"]}, None),
        ({"Cmd": ["./sh"], "WorkingDir": "/bin"}, None),
        ({"Cmd": None}, None),
    ],
)
def test_without_a_script_the_images_own_command_must_be_there(
    made: Made, settings: dict[str, Any], said: str | None
) -> None:
    image = image_of([*glibc_files(), SHELL], **settings)
    if said is None:
        assert not made(image, None).spec.has_script
        return
    with pytest.raises(UsageError, match=said):
        made(image, None)


def test_an_image_that_does_not_fit_into_tmp_is_refused_with_the_number_to_write() -> None:
    room = {"function": "f", "image": "debian"}
    with pytest.raises(UsageError, match="debian unpacks to 480 MiB, for which 512 MiB") as refused:
        expect_room(480 << 20, tmp_mib=512, **room)
    assert refused.value.fix == "Set `ephemeral_storage: 576`, or more for larger files."
    expect_room(480 << 20, tmp_mib=576, **room)
    with pytest.raises(UsageError) as refused:
        expect_room(10_000 << 20, tmp_mib=10_240, **room)
    assert "as a container image" in (refused.value.fix or "")


def test_an_image_of_another_architecture_is_refused(made: Made) -> None:
    with pytest.raises(ScarError, match=r"there is no image for linux/|the image is for linux/"):
        made(image_of([*glibc_files(), SHELL]), architecture="arm64" if LOADER.endswith("x86-64.so.2") else "x86_64")


def test_a_registry_that_asks_for_credentials_is_none_for_the_agent(
    made: Made, debian_like: oci.Image, basic_registry: RunningRegistry
) -> None:
    """The agent has none, and none of ours ever reaches the function."""
    known = Credentials(USER, PASSWORD)
    push(debian_like, Registry(basic_registry.host, known), "tools/debian", tag="1")
    code = made(debian_like, named=f"{basic_registry.host}/tools/debian:1", loopback=True, keychain=lambda host: known)
    assert code.spec.root is not None
    assert code.spec.root.source.startswith("s3://state/")
    assert len(code.objects) == 1
    assert PASSWORD.encode() not in code.spec.to_json()
