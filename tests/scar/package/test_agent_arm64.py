"""The agent for the architecture that this machine is not: made here from Debian's packages, run here under an emulator."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from faassupervisor import contract
from scar.aws.clients import Aws
from scar.package.agent import AgentLayer, Origin, agent_layer, host_architecture
from scar.package.derive import derive
from scar.package.source.scratch import scratch
from tests.scar.package.images import run_inside, unpack

OTHER = "arm64" if host_architecture() == "amd64" else "amd64"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[OTHER]
ELF_MACHINE = {"amd64": 62, "arm64": 183}  # e_machine: EM_X86_64, EM_AARCH64
EMULATOR = f"/usr/bin/qemu-{MACHINE}-static"

# Nothing registers the emulator with the kernel here, so each program of the other architecture is started through it.
SCRIPT = """#!/bin/busybox sh
exec /emulator {python} -c '
import os, pathlib, platform, subprocess, sys
source = pathlib.Path(os.environ["INPUT_FILE_PATH"])
child = subprocess.run(["/emulator", *"{python}".split(), "-c", "print(6 * 7)"], capture_output=True, text=True)
target = pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "out.txt")
target.write_text(f"{{platform.machine()}} {{source.read_text()}} {{child.stdout}}")
'
"""
WORK = """
import sys; sys.path.append("/opt/scar/app")
import ctypes, hashlib, lzma, bz2, zlib, sqlite3, decimal, platform, socket, ssl, uuid, zoneinfo
import boto3, botocore.session
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442") and hashlib.new("sha512_256", b"")
assert ctypes.CDLL(None).getpid() > 0
assert ssl.create_default_context(cafile="/opt/scar/etc/ca-certificates.pem").cert_store_stats()["x509_ca"] > 50
assert socket.getaddrinfo("127.0.0.1", 80)
assert lzma.decompress(lzma.compress(b"x")) == b"x" and sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
boto3.client("s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
print(platform.machine(), sys.prefix)
"""

needs_emulator = pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")


@pytest.fixture(scope="module")
def agent(cache: Path) -> AgentLayer:
    return agent_layer(OTHER, cache=cache)


def python_of(agent: AgentLayer) -> str:
    return " ".join(agent.entrypoint[:-1])


@pytest.fixture
def root(agent: AgentLayer, tmp_path: Path, bucket: str) -> Path:
    """A function's image for the other architecture, with an emulator and a shell for this one's kernel."""
    output = contract.Storage("s3", bucket, "out")
    spec = contract.Spec("f", outputs=(output,), inputs=(contract.Storage("s3", bucket, "in"),))
    script = SCRIPT.format(python=python_of(agent)).encode()
    unpack(derive(scratch(OTHER), agent, spec=spec, script=script), tmp_path)
    (tmp_path / "dev/null").touch()  # every container has one
    shutil.copy(EMULATOR, tmp_path / "emulator")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, tmp_path / "bin/busybox")
    return tmp_path


def test_every_program_and_library_is_for_the_other_architecture(agent: AgentLayer, tmp_path: Path) -> None:
    root = unpack(derive(scratch(OTHER), agent, spec=contract.Spec("f"), script=None), tmp_path)
    checked = 0
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
            (machine,) = struct.unpack_from("<H", path.read_bytes(), 18)
            assert machine == ELF_MACHINE[OTHER], path
            checked += 1
    assert checked > 30


@needs_emulator
def test_its_python_has_what_the_agent_imports(agent: AgentLayer, root: Path) -> None:
    run = run_inside(root, "/emulator", *python_of(agent).split(), "-c", WORK)
    assert (run.stdout, run.returncode) == (f"{MACHINE} /opt/scar\n", 0), run.stderr


@needs_emulator
def test_it_turns_an_s3_event_into_a_published_output(
    agent: AgentLayer, root: Path, aws: Aws, bucket: str, moto_url: str
) -> None:
    aws.s3.put_object(Bucket=bucket, Key="in/a.txt", Body=b"hello")
    record = {"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00.000Z",
              "s3": {"bucket": {"name": bucket}, "object": {"key": "in/a.txt", "size": 5}}}  # fmt: skip
    environment = {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    event = json.dumps({"Records": [record]})
    run = run_inside(root, "/emulator", *agent.entrypoint, "--event", "-", environment=environment, stdin=event)
    assert run.returncode == 0, run.stderr
    written = aws.s3.get_object(Bucket=bucket, Key="out/out.txt")["Body"].read()
    assert written.split() == [MACHINE.encode(), b"hello", b"42"]


@needs_emulator
def test_its_python_compiles_to_the_same_byte_code_as_this_machines(
    agent: AgentLayer, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """That is why modules compiled here serve there."""
    ours = agent_layer(cache=cache, origin=Origin.DEBIAN)
    here = unpack(
        derive(scratch(ours.architecture), ours, spec=contract.Spec("f"), script=None), tmp_path_factory.mktemp("here")
    )
    program = (
        "import marshal, sys; source = sys.stdin.read();"
        "print(marshal.dumps(compile(source, 'x', 'exec', dont_inherit=True)).hex())"
    )
    source = Path(shutil.__file__).read_text()
    on_other = run_inside(root, "/emulator", *agent.entrypoint[:-1], "-c", program, stdin=source)
    on_this = run_inside(here, *ours.entrypoint[:-1], "-c", program, stdin=source)
    assert on_other.stdout, on_other.stderr
    assert on_other.stdout == on_this.stdout
